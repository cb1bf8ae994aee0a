/* What the kernels share: sizes, room, one product by one thread, GELU, exponentials. See products.c.
 *
 * All matrices are row-major; a stride is given in numbers, not bytes. Every function takes the number of threads.
 * Results are the same for the same number of threads: work is dealt out statically, partial sums are added in order.
 */
#ifndef SCIFM_PRODUCTS_H
#define SCIFM_PRODUCTS_H

#include <stdlib.h>

#include "threads.h"
#include "vectors.h"

enum {
    COLUMNS = 2 * LANES,  /* a tile: ROWS x COLUMNS sums stay in registers */
    DEPTH = 256,          /* a block of the right factor, DEPTH x COLUMNS, stays in the first-level cache */
    PIECE = 1 << 16,      /* numbers of an activation worked on at a time, 256 KiB: the same in the second-level one */
    LINE = 16             /* numbers in a line of a cache */
};

static inline i64 smaller(i64 a, i64 b) { return a < b ? a : b; }
static inline i64 larger(i64 a, i64 b) { return a > b ? a : b; }
static inline i64 pieces(i64 n, i64 size) { return (n + size - 1) / size; }

static inline void prefetch(const float *from, i64 n) {
    for (i64 i = 0; i < n; i += LINE) __builtin_prefetch(from + i, 0, 2);
}

static inline float *scratch(i64 n) { return aligned_alloc(64, (size_t)(n * sizeof(float) + 63) / 64 * 64); }

static inline float *zeros(i64 n) { return memset(scratch(n), 0, (size_t)n * sizeof(float)); }

/* The `part`-th of `parts` ranges of 0 ... n-1 in multiples of `unit`. */
static inline void range(i64 n, i64 unit, i64 part, i64 parts, i64 *start, i64 *stop) {
    const i64 units = pieces(n, unit);
    *start = smaller(n, units * part / parts * unit);
    *stop = smaller(n, units * (part + 1) / parts * unit);
}

/* ---- one product, one thread ------------------------------------------------------------------------------------ */

#pragma GCC visibility push(hidden)

typedef struct {
    const float *a, *b;
    float *c;
    i64 a_row, a_col, b_row, c_row, k;
    some first, second;
    int add, minus;
    i64 ahead, stride; /* from a, where what the next tile needs of it begins; a line for each k, `stride` apart, is called */
} Tile;

/* Up to ROWS x COLUMNS sums. Where loads are not MASKED, whole vectors of the right factor are read. */
void tile(const Tile *t, i64 rows);

enum { SET = 0, ADD = 1, SUBTRACT = 3 /* bit 0: add to what is there; bit 1: minus the product */ };

/* c (m, n) = a (m, k) b (k, n), or c += a b, or c -= a b; `block` holds DEPTH x COLUMNS numbers. */
void multiply(i64 m, i64 n, i64 k, const float *a, i64 a_row, i64 a_col, const float *b, i64 b_row, float *c, i64 c_row,
              int how, float *block);

void stream(float *to, const float *from, i64 n);
void add_up(i64 parts, i64 n, float *arrays, float *sum);

/* ---- GELU ------------------------------------------------------------------------------------------------------- */

/* P is the normal distribution function. GELU, x P, and its slope, P + x P', come from a = |x| and are made with little
 * rounding: GELU is the larger of x and 0, less a P(-a). `native` makes the numbers; what is not a number stays so. */
typedef struct {
    vec share, slope; /* P, and P + x P' */
} Both;

INLINE vec size_of(vec x) { return (vec)((ints)x & 0x7fffffff); }

/* Of x from what an odd function is at |x|, plus 1/2. */
INLINE vec made_odd(vec sum, vec x) { return (vec)((ints)sum ^ ((ints)x & (int)0x80000000)) + 0.5f; }

#if LANES == 16 /* looking up costs no more than a product */

/* On each interval of |x| a polynomial of P, and of the slope, both minus 1/2; the last one is the constant 1/2. */
enum { DEGREE = 5 };
extern float gelu_numbers[2 * (DEGREE + 1) * INTERVALS + 1];

typedef struct {
    vec within;
    ints interval;
} Place;

INLINE Place locate(vec x) {
    const vec size = size_of(x) * gelu_numbers[2 * (DEGREE + 1) * INTERVALS];
    const vec inside = least(same(INTERVALS - 0.5f), size); /* in this order NaN stays */
    const ints interval = truncated(inside);
    return (Place){inside - as_numbers(interval), interval};
}

INLINE vec look_up(vec x, Place at, int table) {
    const float *numbers = gelu_numbers + table * (DEGREE + 1) * INTERVALS;
    vec sum = entries(numbers + DEGREE * INTERVALS, at.interval);
#pragma GCC unroll 5
    for (int i = DEGREE - 1; i >= 0; i--) sum = sum * at.within + entries(numbers + i * INTERVALS, at.interval);
    return made_odd(sum, x);
}

INLINE vec gelu(vec x) { return x * look_up(x, locate(x), 0); }
INLINE vec gelu_slope(vec x) { return look_up(x, locate(x), 1); }

INLINE Both share_and_slope(vec x) {
    const Place at = locate(x);
    return (Both){look_up(x, at, 0), look_up(x, at, 1)};
}

#else

/* P(-a) is p(a)^-8 with a polynomial p; beyond `reach`, the number behind its own, nothing is left. */
enum { DEGREE = 8 };
extern float gelu_numbers[DEGREE + 2];

INLINE vec reached(vec x) { return least(same(gelu_numbers[DEGREE + 1]), size_of(x)); } /* in this order NaN stays */

INLINE vec eighth_power(vec x) {
    const vec square = x * x, fourth = square * square;
    return fourth * fourth;
}

INLINE vec gelu(vec x) {
    const vec a = reached(x);
    vec sum = same(gelu_numbers[DEGREE]);
#pragma GCC unroll 8
    for (int i = DEGREE - 1; i >= 0; i--) sum = sum * a + gelu_numbers[i];
    return most(same(0), x) - a * eighth_power(1 / sum);
}

INLINE Both share_and_slope(vec x) {
    const vec a = reached(x);
    vec sum = same(gelu_numbers[DEGREE]), rise = same(0);
#pragma GCC unroll 8
    for (int i = DEGREE - 1; i >= 0; i--) {
        rise = rise * a + sum;
        sum = sum * a + gelu_numbers[i];
    }
    const vec one_over = 1 / sum, tail = eighth_power(one_over); /* whose own slope is -8 tail p' / p */
    return (Both){made_odd(0.5f - tail, x), made_odd(0.5f - tail + (8 * a) * (tail * (rise * one_over)), x)};
}

INLINE vec gelu_slope(vec x) { return share_and_slope(x).slope; }

#endif

/* ---- exponentials ------------------------------------------------------------------------------------------------ */

/* exp(x) for x <= 0, to one unit of the last place (polynomial of Cephes). */
INLINE vec exponential(vec x) {
    x = most(same(-104.0f), x); /* in this order NaN stays */
    const vec n = rounded(x * 1.44269504088896341f);
    const vec r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    const float numbers[5] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
    vec sum = same(1.9875691500e-4f);
#pragma GCC unroll 5
    for (int i = 0; i < 5; i++) sum = sum * r + numbers[i];
    sum = r * r * sum + (r + 1.0f);
    return scaled(sum, n);
}

#pragma GCC visibility pop

#endif
