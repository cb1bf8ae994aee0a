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

/* Normal distribution function P and the slope of GELU, P + x P'; both minus 1/2, which makes them odd. On each interval of
 * |x| a polynomial; the last one is the constant 1/2. `native` makes the coefficients: as many intervals as one look-up
 * serves, and the degree that goes with them. */
enum { DEGREE = INTERVALS == 8 ? 7 : 5 };
extern float gelu_tables[2][DEGREE + 1][INTERVALS], gelu_intervals_per_unit;

typedef struct {
    vec inside, within;
    ints sign, interval;
} Place;

INLINE Place locate(vec x) {
    const vec size = (vec)((ints)x & 0x7fffffff) * gelu_intervals_per_unit;
    const vec inside = least(same(INTERVALS - 0.5f), size); /* in this order NaN stays */
    const ints interval = truncated(inside);
    return (Place){inside, inside - as_numbers(interval), (ints)x & (int)0x80000000, interval};
}

INLINE vec made_odd(vec sum, Place at) { return (vec)((ints)sum ^ at.sign) + 0.5f; }

INLINE vec look_up(Place at, int table) {
    vec sum = entries(gelu_tables[table][DEGREE], at.interval);
#pragma GCC unroll 7
    for (int i = DEGREE - 1; i >= 0; i--) sum = sum * at.within + entries(gelu_tables[table][i], at.interval);
    return made_odd(sum, at);
}

INLINE vec gelu(vec x) { return x * look_up(locate(x), 0); }
INLINE vec gelu_slope(vec x) { return look_up(locate(x), 1); }

typedef struct {
    vec share, slope; /* P, and P + x P' */
} Both;

INLINE Both share_and_slope(vec x) {
    const Place at = locate(x);
#if INTERVALS == 8 /* a look-up costs more than a product: P' comes from the numbers of P */
    vec sum = entries(gelu_tables[0][DEGREE], at.interval), rise = same(0);
#pragma GCC unroll 7
    for (int i = DEGREE - 1; i >= 0; i--) {
        rise = rise * at.within + sum;
        sum = sum * at.within + entries(gelu_tables[0][i], at.interval);
    }
    return (Both){made_odd(sum, at), made_odd(at.inside * rise + sum, at)};
#else
    return (Both){look_up(at, 0), look_up(at, 1)};
#endif
}

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
