/* What works on a group of tokens, channels by tokens: turns, norms, and the room of a thread. See attention.c. */
#ifndef SCIFM_TOKENS_H
#define SCIFM_TOKENS_H

#include "products.h"

enum { BUCKETS = 32 }; /* of relative positions */

typedef struct {
    i64 items, size, tokens, each, channels, heads, axes, hidden, told; /* see scifm_axial_block */
    const float *x, *scales, *shifts;                                   /* (items, tokens, channels); (sample, norm, channel) */
    const int *buckets;                                                 /* (axis, key, query); -1: on no common line */
    const float *all, *all_bias, *sizes, *offsets, *positions, *out, *out_bias, *layer_scales;
    const float *first, *first_bias, *second, *second_bias;
    float *kept; /* of each group rows: queries, keys, values; heard; said; x1; middle; answer */
} Axial;

/* A stride of at least n numbers that spreads rows over all sets of a cache. */
static inline i64 spread(i64 n) { return (pieces(n, LINE) | 1) * LINE; }

static inline i64 rows_kept(const Axial *s) { return 5 * s->channels + (s->hidden ? 2 * s->channels + s->hidden : 0); }

enum { WHOLE_LINES = LANES == LINE }; /* a part of a line costs more past the caches than through them */

/* ---- small tools -------------------------------------------------------------------------------------------------- */

/* to (columns, rows) = from (rows, columns) turned, up to LANES of each; or, `past` the caches, whole rows. */
INLINE void turn_square(i64 rows, i64 columns, const float *from, i64 from_row, float *to,
                                                              i64 to_row, const int past) {
    vec a[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) a[i] = load_some(i < rows ? lanes(columns) : 0, from + i * from_row);
    turn_rows(a);
#pragma GCC unroll 16
    for (int j = 0; j < LANES; j++)
        if (j < columns) {
            if (past && WHOLE_LINES) store_past(to + j * to_row, a[j]);
            else if (past) store(to + j * to_row, a[j]);
            else store_some(to + j * to_row, lanes(rows), a[j]);
        }
}

/* to (columns, rows) = from (rows, columns) turned. */
static inline void turn(i64 rows, i64 columns, const float *from, i64 from_row, float *to, i64 to_row) {
    for (i64 i = 0; i < rows; i += LANES)
        for (i64 j = 0; j < columns; j += LANES)
            turn_square(rows - i, columns - j, from + i * from_row + j, from_row, to + j * to_row + i, to_row, 0);
}

/* A factor of a weight's gradient: channels in panels (tokens of all groups, `wide`), a token's after the one before. */
typedef struct {
    i64 tokens, wide;
    float *at;
} Panels;

enum { LEFT = 48, RIGHT = 32 }; /* how wide panels of the two factors are */

static inline float *in_panel(const Panels *p, i64 channel) { return p->at + channel / p->wide * p->tokens * p->wide + channel % p->wide; }

/* Put rows of n tokens, the first of which is `start`. Past the caches: other threads read them, and had they still what
 * was there before, each line would first have to be taken from them. */
static inline void put(i64 channels, i64 n, const float *from, i64 row, const Panels *p, i64 start) {
    for (i64 c = 0; c < channels; c += LANES)
        for (i64 t = 0; t < n; t += LANES)
            turn_square(channels - c, n - t, from + c * row + t, row, in_panel(p, c) + (start + t) * p->wide, p->wide, 1);
    streamed();
}

/* to (m, n) = w (m, k) x (k, n) + bias (m). */
static inline void linear(i64 m, i64 n, i64 k, const float *w, const float *bias, const float *x, i64 row, float *to, i64 to_row,
                   float *block) {
    for (i64 i = 0; i < m; i++)
        for (i64 j = 0; j < n; j += LANES) store_some(to + i * to_row + j, lanes(n - j), same(bias[i]));
    multiply(m, n, k, w, k, 1, x, row, to, to_row, ADD, block);
}

/* to = x + scale (channel) times y; rows lie apart. */
static inline void add_scaled(i64 channels, i64 n, const float *x, i64 x_row, const float *scale, const float *y, i64 y_row,
                       float *to, i64 to_row) {
    for (i64 c = 0; c < channels; c++)
        for (i64 j = 0; j < n; j += LANES) {
            const some mask = lanes(n - j);
            const vec value = load_some(mask, y + c * y_row + j) * same(scale[c]) + load_some(mask, x + c * x_row + j);
            store_some(to + c * to_row + j, mask, value);
        }
}

/* ---- norms of a strip: the channels of up to 16 tokens ------------------------------------------------------------ */

typedef struct {
    const float *x; /* (channels, row) */
    i64 channels, row;
    some mask;
    vec mean, size; /* of each token; the size is the factor that brings it to one */
} Strip;

static inline vec number_of(const Strip *s, i64 c) { return load_some(s->mask, s->x + c * s->row); }

static inline vec normal_of(const Strip *s, i64 c) { return (number_of(s, c) - s->mean) * s->size; }

static inline Strip strip(i64 channels, const float *x, i64 row, some mask) {
    Strip s = {x, channels, row, mask, same(0), same(0)};
    const vec share = same(1.0f / (float)channels);
    vec sums[4] = {s.mean, s.mean, s.mean, s.mean};
    i64 c = 0;
    for (; c + 4 <= channels; c += 4)
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) sums[i] = sums[i] + number_of(&s, c + i);
    for (; c < channels; c++) sums[0] = sums[0] + number_of(&s, c);
    s.mean = (sums[0] + sums[1] + sums[2] + sums[3]) * share;
    for (int i = 0; i < 4; i++) sums[i] = same(0);
    for (c = 0; c + 4 <= channels; c += 4)
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            const vec off = number_of(&s, c + i) - s.mean;
            sums[i] = off * off + sums[i];
        }
    for (; c < channels; c++) {
        const vec off = number_of(&s, c) - s.mean;
        sums[0] = off * off + sums[0];
    }
    const vec square = sums[0] + sums[1] + sums[2] + sums[3];
    const vec root = square_root(square * share + same(1e-5f));
    s.size = same(1.0f) / root;
    return s;
}

/* to = normal * scale + shift, of each channel. */
static inline void write_norm(const Strip *s, const float *scale, const float *shift, float *to, i64 to_row) {
    for (i64 c = 0; c < s->channels; c++)
        store_some(to + c * to_row, s->mask, normal_of(s, c) * same(scale[c]) + same(shift[c]));
}

/* to = what `up`, the gradient of what write_norm makes, is for x; or that is added to it. */
static inline void norm_gradient(const Strip *s, const float *scale, const float *up, i64 up_row, float *to, i64 to_row, int add) {
    vec sums[2] = {same(0), same(0)}, along[2] = {sums[0], sums[0]};
    for (i64 c = 0; c < s->channels; c++) {
        const vec of_n = load_some(s->mask, up + c * up_row) * same(scale[c]);
        sums[c & 1] = sums[c & 1] + of_n;
        along[c & 1] = of_n * normal_of(s, c) + along[c & 1];
    }
    const vec share = same(1.0f / (float)s->channels);
    const vec mean = (sums[0] + sums[1]) * share;
    const vec slope = (along[0] + along[1]) * share;
    for (i64 c = 0; c < s->channels; c++) {
        const vec g = load_some(s->mask, up + c * up_row);
        vec value = g * same(scale[c]) - mean - normal_of(s, c) * slope;
        value = value * s->size;
        if (add) value = value + load_some(s->mask, to + c * to_row);
        store_some(to + c * to_row, s->mask, value);
    }
}

typedef struct {
    float *scale, *shift;
} Told;

/* Which scales and shifts a norm of a sample has, in one of two places with rows `row` apart. */
static inline Told told(const Axial *s, const float *scales, const float *shifts, i64 row, i64 norm, i64 item) {
    const i64 at = item / s->each * row + norm * s->channels;
    return (Told){(float *)scales + at, (float *)shifts + at};
}

/* How many items from `item` on, of those before `end`, are the same sample's: their tokens share scales and shifts. */
static inline i64 alike(const Axial *s, i64 item, i64 end) { return smaller(end, (item / s->each + 1) * s->each) - item; }

static inline void norm_group(const Axial *s, i64 norm, i64 first, i64 count, const float *x, i64 row, float *to, i64 to_row) {
    for (i64 item = 0, run; item < count; item += run) {
        const Told by = told(s, s->scales, s->shifts, s->told, norm, first + item);
        run = alike(s, first + item, first + count);
        for (i64 t = item * s->tokens; t < (item + run) * s->tokens; t += LANES) {
            const Strip here = strip(s->channels, x + t, row, lanes((item + run) * s->tokens - t));
            write_norm(&here, by.scale, by.shift, to + t, to_row);
        }
    }
}

/* ---- what a thread works in --------------------------------------------------------------------------------------- */

typedef struct {
    i64 row, line;                                                  /* strides of a group's tokens, and of an item's */
    float *block, *asks;                                            /* for products; sizes and offsets of queries over the root */
    float *x, *up, *h, *wide, *down;                                /* (channel or hidden, row) */
    float *queries, *keys, *of_queries, *of_keys;                   /* (number of a head, line) */
    float *logits, *weights, *turned, *along, *shares;              /* (key, line), the last (key, LANES) */
    float *of_places, *of_scales, *of_sizes, *of_offsets;           /* gradients: (axis, head, key, line); (c, LANES) */
    float *memory;
} Room;

static inline Room room_for(const Axial *s) {
    Room r = {.row = spread(s->size * s->tokens), .line = spread(s->tokens)};
    const i64 number = s->channels / s->heads, wide = larger(s->hidden, 3 * s->channels) * r.row, narrow = s->channels * r.row;
    const i64 box = number * r.line, square = s->tokens * r.line, scales = (s->hidden ? 2 : 1) * s->channels * LANES;
    const struct { float **place; i64 numbers; } parts[] = {
        {&r.block, DEPTH * COLUMNS}, {&r.asks, 2 * number}, {&r.x, narrow}, {&r.up, narrow}, {&r.h, narrow}, {&r.wide, wide},
        {&r.down, wide}, {&r.queries, box}, {&r.keys, box}, {&r.of_queries, box}, {&r.of_keys, box}, {&r.logits, square},
        {&r.weights, square}, {&r.turned, square}, {&r.along, square}, {&r.shares, s->tokens * LANES},
        {&r.of_places, s->axes * s->heads * square}, {&r.of_scales, scales}, {&r.of_sizes, 2 * number * LANES},
        {&r.of_offsets, 2 * number * LANES},
    };
    const i64 num = sizeof(parts) / sizeof(parts[0]);
    i64 all = 0;
    for (i64 i = 0; i < num; i++) all += pieces(parts[i].numbers, LANES) * LANES;
    float *at = r.memory = scratch(all);
    for (i64 i = 0; i < num; i++) *parts[i].place = at, at += pieces(parts[i].numbers, LANES) * LANES;
    const float root = 1 / sqrtf((float)number);
    for (i64 i = 0; i < number; i++) r.asks[i] = s->sizes[i] * root, r.asks[number + i] = s->offsets[i] * root;
    return r;
}

#endif
