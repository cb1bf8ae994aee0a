/* Jets of a network of coordinates, and the gradient by its weights; through torch, `_Fused` in jets.py does the same.
 *
 * A block of points goes through the whole network while it lies near the processor, and back. In a block matrices are
 * (channel, plane, point): a weight is a left factor as it lies, an activation acts on rows of points. What went into
 * activations is kept for the way back; of tanh its own value instead of the first plane, as its slopes follow from it.
 *
 * Blocks belong to parts, whose number does not hang on that of threads; each part sums the gradient of its blocks, and
 * parts are added in order. So results are the same for any number of threads.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "threads.h"

#if defined(__AVX512F__)
enum { LANES = 16, ROWS = 12 }; /* numbers in a register; ROWS x 2 registers of sums stay there */
#elif defined(__AVX__)
enum { LANES = 8, ROWS = 6 };
#else
enum { LANES = 4, ROWS = 6 };
#endif
enum { POINTS = 2 * LANES, EACH = 128 / POINTS, MOST_PARTS = 64 }; /* of a block; blocks of a part, at least */
enum { TANH = 0, SIN = 1 };

typedef long long i64;
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef float at __attribute__((vector_size(4 * LANES), aligned(4), may_alias)); /* the same in memory, anywhere */

#define INLINE static inline __attribute__((always_inline))

INLINE i64 smaller(i64 a, i64 b) { return a < b ? a : b; }
INLINE i64 larger(i64 a, i64 b) { return a > b ? a : b; }
INLINE i64 pieces(i64 n, i64 size) { return (n + size - 1) / size; }
INLINE i64 padded(i64 n) { return pieces(n, LANES) * LANES; }
INLINE vec load(const float *from) { return *(const at *)from; }
static float *scratch(i64 n) { return aligned_alloc(64, (size_t)pieces(n, 16) * 64); }

/* ---- one product -------------------------------------------------------------------------------------------------- */

/* c (rows, registers) = or += a (rows, k) b (k, registers). */
INLINE void tile(i64 k, const float *a, i64 a_row, i64 a_col, const float *b, i64 b_row, float *c, i64 c_row, int add,
                 const int rows, const int registers) {
    vec sum[ROWS][2];
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int j = 0; j < registers; j++) sum[i][j] = add ? load(c + i * c_row + j * LANES) : (vec){0};
    for (; k > 0; k--, a += a_col, b += b_row) {
        const vec b0 = load(b), b1 = registers > 1 ? load(b + LANES) : b0;
#pragma GCC unroll 12
        for (int i = 0; i < rows; i++) {
            sum[i][0] += a[i * a_row] * b0;
            if (registers > 1) sum[i][1] += a[i * a_row] * b1;
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int j = 0; j < registers; j++) *(at *)(c + i * c_row + j * LANES) = sum[i][j];
}

#define CASE(n)                                                                  \
    case n:                                                                      \
        if (wide) tile(k, a, a_row, a_col, b, b_row, c, c_row, add, n, 2);       \
        else tile(k, a, a_row, a_col, b, b_row, c, c_row, add, n, 1);            \
        break;

static void any_tile(i64 rows, int wide, i64 k, const float *a, i64 a_row, i64 a_col, const float *b, i64 b_row, float *c,
                     i64 c_row, int add) {
    switch (rows) {
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if defined(__AVX512F__)
        CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#endif
    }
}

/* c (m, n) = or += a (m, k) b (k, n), with n in whole registers; of m every tile has about as many rows. */
static void multiply(i64 m, i64 n, i64 k, const float *a, i64 a_row, i64 a_col, const float *b, i64 b_row, float *c,
                     i64 c_row, int add) {
    const i64 tiles = pieces(m, ROWS);
    for (i64 j = 0; j < n; j += 2 * LANES)
        for (i64 t = 0; t < tiles; t++) {
            const i64 i = m * t / tiles, rows = m * (t + 1) / tiles - i;
            any_tile(rows, j + LANES < n, k, a + i * a_row, a_row, a_col, b + j, b_row, c + i * c_row + j, c_row, add);
        }
}

typedef float four __attribute__((vector_size(16)));
typedef float four_at __attribute__((vector_size(16), aligned(4), may_alias));
typedef int places __attribute__((vector_size(16)));
#if defined(__clang__)
#define PICK(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define PICK(a, b, i, j, k, l) __builtin_shuffle(a, b, (places){i, j, k, l})
#endif

/* to (columns, wide) = from (rows, columns) turned, in squares of 4 x 4; up to 3 rows behind the last are turned too. */
static void turn(i64 rows, i64 columns, const float *from, float *to, i64 wide) {
    for (i64 i = 0; i < rows; i += 4)
        for (i64 j = 0; j < columns; j += 4) {
            four a[4];
            for (int r = 0; r < 4; r++) a[r] = *(const four_at *)(from + (i + r) * columns + j);
            const four low = PICK(a[0], a[1], 0, 4, 1, 5), high = PICK(a[0], a[1], 2, 6, 3, 7);
            const four other_low = PICK(a[2], a[3], 0, 4, 1, 5), other_high = PICK(a[2], a[3], 2, 6, 3, 7);
            float *corner = to + j * wide + i;
            *(four_at *)corner = PICK(low, other_low, 0, 1, 4, 5);
            *(four_at *)(corner + wide) = PICK(low, other_low, 2, 3, 6, 7);
            *(four_at *)(corner + 2 * wide) = PICK(high, other_high, 0, 1, 4, 5);
            *(four_at *)(corner + 3 * wide) = PICK(high, other_high, 2, 3, 6, 7);
        }
}

/* ---- activations -------------------------------------------------------------------------------------------------- */

INLINE int bits_of(float x) {
    int bits;
    memcpy(&bits, &x, 4);
    return bits;
}

INLINE float of_bits(int bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

#define ROUND 12582912.0f /* 1.5 * 2^23: added and taken away it rounds, and the sum's lowest bits are the number */

/* From e = exp(2|x|) - 1 as e / (e + 2), so that nothing small is the difference of two large ones. */
INLINE float tanh_of(float x) {
    const float size = fabsf(x), twice = 2 * (9.1f < size ? 9.1f : size); /* in this order NaN stays */
    const float shifted = twice * 1.44269504f + ROUND, n = shifted - ROUND;
    const float r = (twice - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f; /* exp(r) = 1 + r + p r^2, polynomial of Cephes */
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    const float power = of_bits((int)((unsigned)bits_of(shifted) << 23) + 0x3f800000);
    const float e = power * (p * r * r + r) + (power - 1);
    return copysignf(e / (e + 2), x);
}

#define FAR 8192.0f /* beyond, three numbers for pi / 2 are too few */

/* Sine and cosine of |x| < FAR, polynomials of Cephes on a quarter turn. */
INLINE void sine_of(float x, float *sine, float *cosine) {
    const float shifted = x * 0.636619772f + ROUND, n = shifted - ROUND;
    const int quarter = bits_of(shifted);
    const float r = ((x - n * 1.5703125f) - n * 4.837512969970703e-4f) - n * 7.54978995489e-8f, square = r * r;
    const float s = ((-1.9515295891e-4f * square + 8.3321608736e-3f) * square - 1.6666654611e-1f) * square * r + r;
    const float c = ((2.443315711809948e-5f * square - 1.388731625493765e-3f) * square + 4.166664568298827e-2f) * square *
                        square - 0.5f * square + 1;
    const float one = quarter & 1 ? c : s, other = quarter & 1 ? s : c;
    *sine = quarter & 2 ? -one : one;
    *cosine = (quarter + 1) & 2 ? -other : other;
}

/* The value of an activation and its derivatives at the points of a row. */
typedef struct {
    float value[POINTS], first[POINTS], second[POINTS], third[POINTS];
} Slopes;

/* From what is kept of the first plane. */
INLINE void slopes_of(const int activation, const float *kept, Slopes *s) {
    if (activation == TANH) {
        for (int i = 0; i < POINTS; i++) {
            const float value = kept[i], square = value * value, first = 1 - square;
            s->value[i] = value, s->first[i] = first;
            s->second[i] = -2 * value * first, s->third[i] = (6 * square - 2) * first;
        }
        return;
    }
    int near = 1;
    for (int i = 0; i < POINTS; i++) near &= fabsf(kept[i]) < FAR;
    if (near) {
        for (int i = 0; i < POINTS; i++) sine_of(kept[i], &s->value[i], &s->first[i]);
    } else {
        for (int i = 0; i < POINTS; i++) s->value[i] = sinf(kept[i]), s->first[i] = cosf(kept[i]);
    }
    for (int i = 0; i < POINTS; i++) s->second[i] = -s->value[i], s->third[i] = -s->first[i];
}

/* ---- a network ---------------------------------------------------------------------------------------------------- */

typedef struct {
    i64 points, planes, layers, lines, row; /* a row of a block: all planes of its points */
    const i64 *widths, *orders;             /* (layers + 1); of each line its highest order, 1 or 2 */
    int activation;
    i64 most, hidden, weights, sums; /* the largest width, the sum of hidden ones, numbers of weights, and of padded ones */
} Network;

static Network network_of(i64 points, i64 planes, i64 layers, const i64 *widths, i64 lines, const i64 *orders,
                          i64 activation) {
    Network s = {points, planes, layers, lines, planes * POINTS, widths, orders, (int)activation, 0, 0, 0, 0};
    for (i64 l = 0; l <= layers; l++) s.most = larger(s.most, widths[l]);
    for (i64 l = 0; l < layers; l++) {
        s.hidden += l ? widths[l] : 0;
        s.weights += widths[l + 1] * (widths[l] + 1);
        s.sums += widths[l + 1] * padded(widths[l] + 1);
    }
    return s;
}

/* a0 = f(z0), a1 = f' z1, a2 = f' z2 + 1/2 f'' z1^2 along each line. */
INLINE void act_on_row(const Network *s, const Slopes *f, const float *restrict z, float *restrict made) {
    memcpy(made, f->value, sizeof(f->value));
    for (i64 line = 0; line < s->lines; line++) {
        z += POINTS, made += POINTS;
        for (int i = 0; i < POINTS; i++) made[i] = f->first[i] * z[i];
        if (s->orders[line] < 2) continue;
        for (int i = 0; i < POINTS; i++)
            made[POINTS + i] = f->first[i] * z[POINTS + i] + 0.5f * f->second[i] * z[i] * z[i];
        z += POINTS, made += POINTS;
    }
}

/* The gradient by z of that by a, in its place. */
INLINE void back_through_row(const Network *s, const Slopes *f, const float *restrict z, float *restrict back) {
    float of_value[POINTS];
    for (int i = 0; i < POINTS; i++) of_value[i] = f->first[i] * back[i];
    float *restrict one = back;
    for (i64 line = 0; line < s->lines; line++) {
        z += POINTS, one += POINTS;
        for (int i = 0; i < POINTS; i++) of_value[i] += f->second[i] * z[i] * one[i];
        for (int i = 0; i < POINTS; i++) one[i] *= f->first[i];
        if (s->orders[line] < 2) continue;
        float *restrict curved = one + POINTS;
        for (int i = 0; i < POINTS; i++) {
            of_value[i] += (f->second[i] * z[POINTS + i] + 0.5f * f->third[i] * z[i] * z[i]) * curved[i];
            one[i] += f->second[i] * z[i] * curved[i];
            curved[i] *= f->first[i];
        }
        z += POINTS, one += POINTS;
    }
    memcpy(back, of_value, sizeof(of_value));
}

INLINE void act(const Network *s, const int activation, i64 channels, const float *bias, float *z, float *made) {
    Slopes f;
    for (i64 c = 0; c < channels; c++, z += s->row, made += s->row) {
        for (int i = 0; i < POINTS; i++) z[i] = activation == TANH ? tanh_of(z[i] + bias[c]) : z[i] + bias[c];
        slopes_of(activation, z, &f);
        act_on_row(s, &f, z, made);
    }
}

/* `back` goes through an activation, and what that had made is made again. */
INLINE void back_through(const Network *s, const int activation, i64 channels, const float *z, float *back, float *made) {
    Slopes f;
    for (i64 c = 0; c < channels; c++, z += s->row, back += s->row, made += s->row) {
        slopes_of(activation, z, &f);
        act_on_row(s, &f, z, made);
        back_through_row(s, &f, z, back);
    }
}

/* Numbers (plane, point, channel) of a block as (channel, plane, point); beyond the last point stands it again. */
static void take(const Network *s, i64 start, i64 channels, const float *from, float *to) {
    for (i64 p = 0; p < s->planes; p++)
        for (i64 i = 0; i < POINTS; i++) {
            const float *point = from + (p * s->points + smaller(start + i, s->points - 1)) * channels;
            for (i64 c = 0; c < channels; c++) to[c * s->row + p * POINTS + i] = point[c];
        }
}

/* ---- what is called ----------------------------------------------------------------------------------------------- */

/* What a network of linear maps, (weight, bias) each in `weights`, makes of jets: inputs (plane, point, feature), outputs
 * (plane, point, channel). kept: for the way back, (block, hidden, plane, POINTS), or none. */
void scifm_jets(int threads, i64 points, i64 planes, i64 layers, const i64 *widths, i64 lines, const i64 *orders,
                i64 activation, const float *weights, const float *inputs, float *outputs, float *kept) {
    const Network s = network_of(points, planes, layers, widths, lines, orders, activation);
    const i64 last = widths[layers];
#pragma omp parallel num_threads(threads)
    {
        float *room = scratch(2 * s.most * s.row), *x = room, *other = room + s.most * s.row;
#pragma omp for schedule(static)
        for (i64 start = 0; start < points; start += POINTS) {
            const float *w = weights;
            float *z = kept ? kept + start / POINTS * s.hidden * s.row : other;
            take(&s, start, widths[0], inputs, x);
            for (i64 l = 0; l < layers; l++) {
                const i64 k = widths[l], m = widths[l + 1];
                float *made = l + 1 < layers ? z : other;
                multiply(m, s.row, k, w, k, 1, x, s.row, made, s.row, 0);
                w += m * k;
                if (l + 1 < layers) {
                    if (s.activation == TANH) act(&s, TANH, m, w, made, x);
                    else act(&s, SIN, m, w, made, x);
                    if (kept) z += m * s.row;
                }
                w += m;
            }
            for (i64 p = 0; p < planes; p++)
                for (i64 i = 0; i < smaller(POINTS, points - start); i++)
                    for (i64 c = 0; c < last; c++)
                        outputs[(p * points + start + i) * last + c] =
                            other[c * s.row + p * POINTS + i] + (p ? 0 : w[c - last]);
        }
        free(room);
    }
}

/* Add to `sums` what a block gives for the gradient: of each map (channel, feature and bias), rows padded. */
static void block_gradients(const Network *s, i64 start, const float *weights, const float *inputs, const float *kept,
                            const float *grad, float *sums, float *room) {
    float *back = room, *ahead = back + s->most * s->row, *made = ahead + s->most * s->row;
    float *turned = made + (s->most + 3) * s->row;
    const float *w = weights + s->weights, *z = kept + (start / POINTS + 1) * s->hidden * s->row;
    sums += s->sums;
    take(s, start, s->widths[s->layers], grad, back);
    for (i64 i = s->points - start; i < POINTS; i++) /* points that are none have no part in the sums */
        for (i64 line = 0; line < s->widths[s->layers] * s->planes; line++) back[line * POINTS + i] = 0;
    for (i64 l = s->layers - 1; l >= 0; l--) {
        const i64 k = s->widths[l], m = s->widths[l + 1], wide = padded(k + 1);
        w -= m * (k + 1), sums -= m * wide;
        if (l) {
            z -= k * s->row;
            multiply(k, s->row, m, w, 1, k, back, s->row, ahead, s->row, 0);
            if (s->activation == TANH) back_through(s, TANH, k, z, ahead, made);
            else back_through(s, SIN, k, z, ahead, made);
        } else {
            take(s, start, k, inputs, made);
        }
        turn(k, s->row, made, turned, wide);
        for (i64 i = 0; i < s->row; i++)
            for (i64 c = k; c < wide; c++) turned[i * wide + c] = c == k && i < POINTS ? 1 : 0; /* the bias */
        multiply(m, wide, s->row, back, s->row, 1, turned, wide, sums, wide, 1);
        float *swapped = back;
        back = ahead, ahead = swapped;
    }
}

/* The gradient by all weights, in their order, of that by outputs; `kept` is of scifm_jets. */
void scifm_jets_gradients(int threads, i64 points, i64 planes, i64 layers, const i64 *widths, i64 lines,
                          const i64 *orders, i64 activation, const float *weights, const float *inputs,
                          const float *kept, const float *grad, float *found) {
    const Network s = network_of(points, planes, layers, widths, lines, orders, activation);
    const i64 blocks = pieces(points, POINTS), parts = smaller(MOST_PARTS, pieces(blocks, EACH));
    float *sums = scratch(parts * s.sums);
    memset(sums, 0, (size_t)(parts * s.sums) * sizeof(float));
#pragma omp parallel num_threads(threads)
    {
        float *room = scratch((3 * s.most + 3 + padded(s.most + 1)) * s.row);
#pragma omp for schedule(static)
        for (i64 part = 0; part < parts; part++)
            for (i64 block = blocks * part / parts; block < blocks * (part + 1) / parts; block++)
                block_gradients(&s, block * POINTS, weights, inputs, kept, grad, sums + part * s.sums, room);
        free(room);
    }
    for (i64 part = 1; part < parts; part++)
        for (i64 i = 0; i < s.sums; i++) sums[i] += sums[part * s.sums + i];
    const float *from = sums;
    for (i64 l = 0; l < layers; l++) {
        const i64 k = widths[l], m = widths[l + 1], wide = padded(k + 1);
        for (i64 i = 0; i < m; i++) {
            memcpy(found + i * k, from + i * wide, (size_t)k * sizeof(float));
            found[m * k + i] = from[i * wide + k];
        }
        from += m * wide, found += m * (k + 1);
    }
    free(sums);
}
