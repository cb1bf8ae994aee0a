/* A block of attention along axes and the pointwise network behind it; see axial.py.
 *
 *     x1 = x + g1 (W_out norm1(attention(W_all norm0(x))))        and, where there is a `hidden`,
 *     y = x1 + g2 norm2(W_second gelu(W_first x1))
 *
 * A token's channels lie in a column: matrices are (channel, token). So a weight is a left factor as it lies, norms and
 * softmaxes are sums over rows, 16 tokens a register, and no logit is turned but for two products of the way back. A
 * group of items (boxes whose tokens hear each other), about 64 tokens, goes through the whole block by one thread; only
 * gradients of weights are sums over all tokens, one product for each weight, its rows or columns dealt out.
 *
 * Kept are the results of products; norms, softmaxes and GELUs are made again on the way back.
 */
#include "tokens.h"

/* ---- attention of one item and head ------------------------------------------------------------------------------- */

/* A column of `qkv` is a token: queries, keys and values of all heads, `row` numbers between rows. */
typedef struct {
    const float *queries, *keys, *values;
    i64 row, number, head;
} Head;

static Head head_of(const Axial *s, const float *qkv, i64 row, i64 head) {
    const i64 number = s->channels / s->heads, size = s->channels * row;
    const float *from = qkv + head * number * row;
    return (Head){from, from + size, from + 2 * size, row, number, head};
}

/* Queries and keys of size one, and what each key says to each query: logits (key, query), without positions. */
static void compare(const Axial *s, const Head *of, const Room *r) {
    for (i64 t = 0; t < s->tokens; t += LANES) {
        const some mask = lanes(s->tokens - t);
        const Strip asked = strip(of->number, of->queries + t, of->row, mask), offered = strip(of->number, of->keys + t, of->row, mask);
        write_norm(&asked, r->asks, r->asks + of->number, r->queries + t, r->line);
        write_norm(&offered, s->sizes + of->number, s->offsets + of->number, r->keys + t, r->line);
    }
    multiply(s->tokens, s->tokens, of->number, r->keys, 1, r->line, r->queries, r->line, r->logits, r->line, SET, r->block);
}

/* How much up to 16 queries from `t` on hear each key along an axis: shares (key, LANES), which add up to one. */
static void hear(const Axial *s, const Head *of, i64 axis, i64 t, const Room *r) {
    float table[BUCKETS];
    for (i64 i = 0; i < BUCKETS; i++) table[i] = s->positions[i * s->heads + of->head];
    const vec never = same(-INFINITY);
    const some mask = lanes(s->tokens - t);
    const int *buckets = s->buckets + axis * s->tokens * s->tokens + t;
    vec top = never, sum = same(0);
    for (i64 k = 0; k < s->tokens; k++) {
        const ints bucket = load_ints(mask, buckets + k * s->tokens);
        const vec place = entries_of_32(table, bucket) + load_some(mask, r->logits + k * r->line + t);
        const vec value = choose(not_negative(bucket), place, never);
        top = most(value, top);
        store(r->shares + k * LANES, value);
    }
    for (i64 k = 0; k < s->tokens; k++) {
        const vec value = load(r->shares + k * LANES);
        const which on = differ(value, never);
        vec share = same(0);
        if (any(on)) share = choose(on, exponential(value - top), share);
        store(r->shares + k * LANES, share);
        sum = sum + share;
    }
    const vec whole = only(mask, same(1.0f) / sum);
    for (i64 k = 0; k < s->tokens; k++) {
        float *at = r->shares + k * LANES;
        store(at, load(at) * whole);
    }
}

/* to (key, query) = or += times * from, of 16 queries. */
static inline void gather(i64 tokens, const float *from, float times, float *to, i64 row, some mask, int add) {
    for (i64 k = 0; k < tokens; k++, from += LANES, to += row) {
        const vec before = add ? load_some(mask, to) : same(0);
        store_some(to, mask, load(from) * same(times) + before);
    }
}

static void attend(const Axial *s, const Head *of, const Room *r, float *heard, i64 heard_row) {
    compare(s, of, r);
    for (i64 t = 0; t < s->tokens; t += LANES)
        for (i64 axis = 0; axis < s->axes; axis++) {
            hear(s, of, axis, t, r);
            gather(s->tokens, r->shares, 1.0f / (float)s->axes, r->weights + t, r->line, lanes(s->tokens - t), axis > 0);
        }
    multiply(of->number, s->tokens, s->tokens, of->values, of->row, 1, r->weights, r->line, heard, heard_row, SET, r->block);
}

/* What `of_heard` is for queries, keys and values; sums in the room are added to. */
static void attend_gradient(const Axial *s, const Head *of, const Room *r, const float *of_heard, float *of_qkv) {
    const i64 n = s->tokens, number = of->number, size = s->channels * r->row;
    const vec part = same(1.0f / (float)s->axes);
    compare(s, of, r);
    multiply(n, n, number, of->values, 1, of->row, of_heard, r->row, r->along, r->line, SET, r->block); /* for weights */
    float *of_logits = r->turned; /* at first as they are */
    for (i64 t = 0; t < n; t += LANES) {
        const some mask = lanes(n - t);
        for (i64 axis = 0; axis < s->axes; axis++) {
            hear(s, of, axis, t, r);
            gather(n, r->shares, 1.0f / (float)s->axes, r->weights + t, r->line, mask, axis > 0);
            vec mean = same(0);
            for (i64 k = 0; k < n; k++)
                mean = load(r->shares + k * LANES) * load_some(mask, r->along + k * r->line + t) + mean;
            float *places = r->of_places + (axis * s->heads + of->head) * n * r->line + t;
            for (i64 k = 0; k < n; k++) {
                const vec off = load_some(mask, r->along + k * r->line + t) - mean;
                const vec value = load(r->shares + k * LANES) * part * off;
                float *sum = places + k * r->line, *to = of_logits + k * r->line + t;
                store_some(sum, mask, load_some(mask, sum) + value);
                store_some(to, mask, axis ? load_some(mask, to) + value : value);
            }
        }
    }
    multiply(number, n, n, r->keys, r->line, 1, of_logits, r->line, r->of_queries, r->line, SET, r->block);
    turn(n, n, of_logits, r->line, r->along, r->line); /* (query, key) */
    multiply(number, n, n, r->queries, r->line, 1, r->along, r->line, r->of_keys, r->line, SET, r->block);
    turn(n, n, r->weights, r->line, r->along, r->line);
    multiply(number, n, n, of_heard, r->row, 1, r->along, r->line, of_qkv + 2 * size, r->row, SET, r->block);
    for (i64 t = 0; t < n; t += LANES)
        for (i64 keys = 0; keys < 2; keys++) {
            const Strip here = strip(number, (keys ? of->keys : of->queries) + t, of->row, lanes(n - t));
            const float *up = (keys ? r->of_keys : r->of_queries) + t;
            float *of_sizes = r->of_sizes + keys * number * LANES, *of_offsets = r->of_offsets + keys * number * LANES;
            for (i64 c = 0; c < number; c++) {
                const vec g = load_some(here.mask, up + c * r->line);
                float *size_at = of_sizes + c * LANES, *offset_at = of_offsets + c * LANES;
                store(size_at, g * normal_of(&here, c) + load(size_at));
                store(offset_at, g + load(offset_at));
            }
            norm_gradient(&here, keys ? s->sizes + number : r->asks, up, r->line, of_qkv + keys * size + t, r->row, 0);
        }
}

/* ---- the block ---------------------------------------------------------------------------------------------------- */

/* Rows of a group that are kept. A group's lie together: rows that two threads share would be called to and fro. */
typedef struct {
    i64 row;
    float *qkv, *heard, *said, *x1, *middle, *answer;
} Kept;

static Kept kept_at(const Axial *s, i64 first) {
    const i64 row = spread(s->size * s->tokens), c = s->channels * row;
    float *at = s->kept + first / s->size * rows_kept(s) * row;
    return (Kept){row, at, at + 3 * c, at + 4 * c, at + 5 * c, at + 6 * c, at + 6 * c + s->hidden * row};
}

static void block_group(const Axial *s, i64 first, i64 count, float *out, const Room *r) {
    const i64 c = s->channels, n = count * s->tokens, start = first * s->tokens;
    const Kept k = kept_at(s, first);
    turn(n, c, s->x + start * c, c, r->x, r->row);
    norm_group(s, 0, first, count, r->x, r->row, r->h, r->row);
    linear(3 * c, n, c, s->all, s->all_bias, r->h, r->row, k.qkv, k.row, r->block);
    for (i64 item = 0; item < count; item++)
        for (i64 head = 0; head < s->heads; head++) {
            const Head of = head_of(s, k.qkv + item * s->tokens, k.row, head);
            attend(s, &of, r, k.heard + head * of.number * k.row + item * s->tokens, k.row);
        }
    norm_group(s, 1, first, count, k.heard, k.row, r->h, r->row);
    linear(c, n, c, s->out, s->out_bias, r->h, r->row, k.said, k.row, r->block);
    if (!s->hidden) {
        add_scaled(c, n, r->x, r->row, s->layer_scales, k.said, k.row, r->up, r->row);
    } else {
        add_scaled(c, n, r->x, r->row, s->layer_scales, k.said, k.row, k.x1, k.row);
        linear(s->hidden, n, c, s->first, s->first_bias, k.x1, k.row, k.middle, k.row, r->block);
        for (i64 i = 0; i < s->hidden; i++)
            for (i64 j = 0; j < n; j += LANES) {
                const some mask = lanes(n - j);
                store_some(r->wide + i * r->row + j, mask, gelu(load_some(mask, k.middle + i * k.row + j)));
            }
        linear(c, n, s->hidden, s->second, s->second_bias, r->wide, r->row, k.answer, k.row, r->block);
        norm_group(s, 2, first, count, k.answer, k.row, r->h, r->row);
        add_scaled(c, n, k.x1, k.row, s->layer_scales + c, r->h, r->row, r->up, r->row);
    }
    turn(c, n, r->up, r->row, out + start * c, c);
}

/* out (items, tokens, channels) of x like it. `size` items are a group, and `each` items are one sample's, whose scales
 * (norm, channel) and then shifts lie `told` numbers behind those of the one before. Without `hidden` there is no pointwise network.
 * `kept` holds, for each group, 5 channels + (2 channels + hidden, where there is one) rows of an odd number of 16 numbers,
 * at least size x tokens. */
void scifm_axial_block(int threads, i64 items, i64 size, i64 tokens, i64 each, i64 channels, i64 heads, i64 axes, i64 hidden, i64 told,
                       const float *x, const float *scales, const int *buckets, const float *all,
                       const float *all_bias, const float *sizes, const float *offsets, const float *positions,
                       const float *out_weight, const float *out_bias, const float *layer_scales, const float *first,
                       const float *first_bias, const float *second, const float *second_bias, float *kept, float *out) {
    const Axial s = {items, size, tokens, each, channels, heads, axes, hidden, told, x, scales, scales + (hidden ? 3 : 2) * channels, buckets, all, all_bias, sizes,
                     offsets, positions, out_weight, out_bias, layer_scales, first, first_bias, second, second_bias, kept};
    const i64 groups = pieces(items, size);
#pragma omp parallel num_threads(threads)
    {
        const Room r = room_for(&s);
#pragma omp for schedule(static)
        for (i64 group = 0; group < groups; group++)
            block_group(&s, group * size, smaller(size, items - group * size), out, &r);
        free(r.memory);
    }
}

/* ---- the way back ------------------------------------------------------------------------------------------------- */

/* For each weight, what its gradient is a product of: gradients of what it made, and what it was given. */
typedef struct {
    Panels of_qkv, of_said, of_middle, of_answer, h0, h1, x1, active;
} Back;

static Back back_in(const Axial *s, float *at) {
    const i64 tokens = s->items * s->tokens, c = s->channels, rest = s->hidden ? c : 0;
    Back b;
    const struct { Panels *panels; i64 channels, wide; } parts[] = {
        {&b.of_qkv, 3 * c, LEFT}, {&b.of_said, c, LEFT}, {&b.of_middle, s->hidden, LEFT}, {&b.of_answer, rest, LEFT},
        {&b.h0, c, RIGHT}, {&b.h1, c, RIGHT}, {&b.x1, rest, RIGHT}, {&b.active, s->hidden, RIGHT},
    };
    const i64 num = sizeof(parts) / sizeof(parts[0]);
    for (i64 i = 0; i < num; i++) {
        *parts[i].panels = (Panels){tokens, parts[i].wide, at};
        at += pieces(parts[i].channels, parts[i].wide) * parts[i].wide * tokens;
    }
    return b;
}

/* What `up`, the gradient of a norm's result, is for x; sums for the norm's scales and shifts are added to. */
static void norm_group_gradient(const Axial *s, i64 norm, i64 first, i64 count, const float *x, i64 row, const float *up,
                                i64 up_row, float *to, i64 to_row, int add, float *scales, float *shifts) {
    const i64 norms = s->hidden ? 3 : 2;
    for (i64 item = 0, run; item < count; item += run) {
        const Told by = told(s, s->scales, s->shifts, s->told, norm, first + item);
        const Told sums = told(s, scales, shifts, 2 * norms * s->channels, norm, first + item);
        run = alike(s, first + item, first + count);
        for (i64 t = item * s->tokens; t < (item + run) * s->tokens; t += LANES) {
            const Strip here = strip(s->channels, x + t, row, lanes((item + run) * s->tokens - t));
            for (i64 c = 0; c < s->channels; c++) {
                const vec g = load_some(here.mask, up + c * up_row + t);
                sums.scale[c] += total(g * normal_of(&here, c));
                sums.shift[c] += total(g);
            }
            norm_gradient(&here, by.scale, up + t, up_row, to + t, to_row, add);
        }
    }
}

/* to = scale (channel) times g, and sums (channel, LANES) += g y. */
static void scale_gradient(i64 channels, i64 n, const float *g, i64 g_row, const float *scale, const float *y, i64 y_row,
                           float *to, i64 to_row, float *sums) {
    for (i64 c = 0; c < channels; c++) {
        vec sum = load(sums + c * LANES);
        for (i64 j = 0; j < n; j += LANES) {
            const some mask = lanes(n - j);
            const vec value = load_some(mask, g + c * g_row + j);
            sum = value * load_some(mask, y + c * y_row + j) + sum;
            store_some(to + c * to_row + j, mask, value * same(scale[c]));
        }
        store(sums + c * LANES, sum);
    }
}

/* The pointwise network: g becomes the gradient of x1. */
static void pointwise_gradient(const Axial *s, const Kept *k, const Back *b, i64 first, i64 count, float *g, const Room *r,
                               float *scales, float *shifts) {
    const i64 c = s->channels, n = count * s->tokens, start = first * s->tokens;
    norm_group(s, 2, first, count, k->answer, k->row, r->h, r->row);
    scale_gradient(c, n, g, r->row, s->layer_scales + c, r->h, r->row, r->up, r->row, r->of_scales + c * LANES);
    norm_group_gradient(s, 2, first, count, k->answer, k->row, r->up, r->row, r->h, r->row, 0, scales, shifts);
    put(c, n, r->h, r->row, &b->of_answer, start);
    multiply(s->hidden, n, c, s->second, 1, s->hidden, r->h, r->row, r->down, r->row, SET, r->block);
    for (i64 i = 0; i < s->hidden; i++)
        for (i64 j = 0; j < n; j += LANES) {
            const some mask = lanes(n - j);
            const vec value = load_some(mask, k->middle + i * k->row + j);
            const Both of = share_and_slope(value);
            float *down = r->down + i * r->row + j;
            store_some(down, mask, load_some(mask, down) * of.slope);
            store_some(r->wide + i * r->row + j, mask, value * of.share);
        }
    put(s->hidden, n, r->down, r->row, &b->of_middle, start);
    put(s->hidden, n, r->wide, r->row, &b->active, start);
    put(c, n, k->x1, k->row, &b->x1, start);
    multiply(c, n, s->hidden, s->first, 1, c, r->down, r->row, g, r->row, ADD, r->block);
}

static void block_group_gradient(const Axial *s, const Back *b, i64 first, i64 count, const float *grad, float *of_x,
                                 const Room *r, float *scales, float *shifts) {
    const i64 c = s->channels, n = count * s->tokens, start = first * s->tokens;
    const Kept k = kept_at(s, first);
    float *g = r->x, *x = r->wide, *of_qkv = r->down;
    turn(n, c, grad + start * c, c, g, r->row);
    if (s->hidden) pointwise_gradient(s, &k, b, first, count, g, r, scales, shifts);
    scale_gradient(c, n, g, r->row, s->layer_scales, k.said, k.row, r->up, r->row, r->of_scales);
    put(c, n, r->up, r->row, &b->of_said, start);
    norm_group(s, 1, first, count, k.heard, k.row, r->h, r->row);
    put(c, n, r->h, r->row, &b->h1, start);
    multiply(c, n, c, s->out, 1, c, r->up, r->row, r->h, r->row, SET, r->block);
    norm_group_gradient(s, 1, first, count, k.heard, k.row, r->h, r->row, r->up, r->row, 0, scales, shifts);
    for (i64 item = 0; item < count; item++)
        for (i64 head = 0; head < s->heads; head++) {
            const i64 at = item * s->tokens;
            const Head of = head_of(s, k.qkv + at, k.row, head);
            const i64 here = head * of.number * r->row + at;
            attend_gradient(s, &of, r, r->up + here, of_qkv + here);
        }
    put(3 * c, n, of_qkv, r->row, &b->of_qkv, start);
    turn(n, c, s->x + start * c, c, x, r->row);
    norm_group(s, 0, first, count, x, r->row, r->h, r->row);
    put(c, n, r->h, r->row, &b->h0, start);
    multiply(c, n, 3 * c, s->all, 1, c, of_qkv, r->row, r->up, r->row, SET, r->block);
    norm_group_gradient(s, 0, first, count, x, r->row, r->up, r->row, g, r->row, 1, scales, shifts);
    turn(c, n, g, r->row, of_x + start * c, c);
}

/* One thread's share of the gradient of a weight (m, k), and then of its constant (m). */
static void weight_gradient(i64 part, i64 parts, i64 m, i64 k, const Panels *up, const Panels *given, float *to, float *block) {
    i64 top = 0, bottom = m, left = 0, right = k;
    if (k > m) range(k, RIGHT, part, parts, &left, &right);
    else range(m, ROWS, part, parts, &top, &bottom);
    for (i64 j = left; j < right; j += RIGHT)
        for (i64 i = top, count; i < bottom; i += count) {
            count = smaller(bottom - i, LEFT - i % LEFT);
            multiply(count, smaller(RIGHT, k - j), up->tokens, in_panel(up, i), 1, LEFT, in_panel(given, j), RIGHT, to + i * k + j, k,
                     SET, block);
        }
    range(m, LANES, part, parts, &top, &bottom);
    for (i64 i = top; i < bottom; i += LANES) {
        const some mask = lanes(m - i);
        const float *from = in_panel(up, i);
        vec sum = same(0);
        for (i64 t = 0; t < up->tokens; t++) sum = sum + load_some(mask, from + t * LEFT);
        store_some(to + m * k + i, mask, sum);
    }
}

/* Add up what the lanes hold: layer scales, sizes, offsets and positions, one after the other. */
static void add_lanes(const Axial *s, const Room *r, float *to) {
    const i64 number = s->channels / s->heads, scales = (s->hidden ? 2 : 1) * s->channels;
    const float root = 1 / sqrtf((float)number);
    for (i64 i = 0; i < scales; i++) *to++ += total(load(r->of_scales + i * LANES));
    for (i64 i = 0; i < 2 * number; i++) *to++ += total(load(r->of_sizes + i * LANES)) * (i < number ? root : 1);
    for (i64 i = 0; i < 2 * number; i++) *to++ += total(load(r->of_offsets + i * LANES)) * (i < number ? root : 1);
    for (i64 axis = 0; axis < s->axes; axis++)
        for (i64 head = 0; head < s->heads; head++)
            for (i64 k = 0; k < s->tokens; k++) {
                const int *buckets = s->buckets + (axis * s->tokens + k) * s->tokens;
                const float *from = r->of_places + ((axis * s->heads + head) * s->tokens + k) * r->line;
                for (i64 q = 0; q < s->tokens; q++)
                    if (buckets[q] >= 0) to[buckets[q] * s->heads + head] += from[q];
            }
}

/* Gradients of scifm_axial_block: of x, and one after the other in `weights` those of all, all_bias, out, out_bias and,
 * where there is a `hidden`, first, first_bias, second, second_bias; in `others` those of scales and shifts (sample,
 * 2, norm, channel), layer scales, sizes, offsets and positions. `panels`, at a cache line, has room for the factors of
 * weights' gradients: for each token 6 channels, or 10 channels + 2 hidden, each part rounded up to whole panels. */
void scifm_axial_block_gradients(int threads, i64 items, i64 size, i64 tokens, i64 each, i64 channels, i64 heads, i64 axes, i64 hidden,
                                 i64 told, const float *x, const float *scales, const int *buckets,
                                 const float *all, const float *all_bias, const float *sizes, const float *offsets,
                                 const float *positions, const float *out_weight, const float *out_bias,
                                 const float *layer_scales, const float *first, const float *first_bias, const float *second,
                                 const float *second_bias, float *kept, const float *grad, float *of_x, float *panels,
                                 float *weights, float *others) {
    const Axial s = {items, size, tokens, each, channels, heads, axes, hidden, told, x, scales, scales + (hidden ? 3 : 2) * channels, buckets, all, all_bias, sizes,
                     offsets, positions, out_weight, out_bias, layer_scales, first, first_bias, second, second_bias, kept};
    const i64 groups = pieces(items, size), c = channels, number = c / heads;
    const i64 norms = hidden ? 3 : 2, of_told = 2 * items / each * norms * c;
    const i64 all_others = of_told + (hidden ? 2 : 1) * c + 4 * number + BUCKETS * heads;
    const Back b = back_in(&s, panels);
    float *sums = zeros(threads * all_others);
#pragma omp parallel num_threads(threads)
    {
        const i64 part = omp_get_thread_num(), parts = omp_get_num_threads();
        const Room r = room_for(&s);
        float *mine = sums + part * all_others, *at = weights;
        memset(r.of_places, 0, (size_t)(axes * heads * tokens * r.line) * sizeof(float));
        memset(r.of_scales, 0, (size_t)((hidden ? 2 : 1) * c * LANES) * sizeof(float));
        memset(r.of_sizes, 0, (size_t)(2 * number * LANES) * sizeof(float));
        memset(r.of_offsets, 0, (size_t)(2 * number * LANES) * sizeof(float));
#pragma omp for schedule(static)
        for (i64 group = 0; group < groups; group++)
            block_group_gradient(&s, &b, group * size, smaller(size, items - group * size), grad, of_x, &r, mine, mine + norms * c);
        add_lanes(&s, &r, mine + of_told);
        const struct { i64 m, k; const Panels *up, *given; } products[4] = {
            {3 * c, c, &b.of_qkv, &b.h0}, {c, c, &b.of_said, &b.h1}, {hidden, c, &b.of_middle, &b.x1}, {c, hidden, &b.of_answer, &b.active}};
        for (i64 i = 0; i < (hidden ? 4 : 2); at += products[i].m * (products[i].k + 1), i++)
            weight_gradient(part, parts, products[i].m, products[i].k, products[i].up, products[i].given, at, r.block);
        free(r.memory);
    }
    add_up(threads, all_others, sums, others);
}
