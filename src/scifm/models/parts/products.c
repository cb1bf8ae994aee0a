/* Float32 products of a Fourier neural operator on a CPU; vectors.h says how wide its vectors may be.
 *
 * Every product here is thin in at least one direction (8 to 256 columns), where a general library spends its time on
 * packing and, on some processors, uses half of the vector width. One tile (12 by 32 numbers with AVX-512, 6 by 16 with
 * AVX2) is kept in registers; the right factor is copied panel by panel only where its rows lie far apart. Fused
 * functions, in the files that include products.h, work on pieces that fit the second-level cache, so that a large
 * activation is read and written once.
 */
#include "products.h"

/* Copy what will not be needed soon past the caches; whoever is done calls `streamed`. */
void stream(float *to, const float *from, i64 n) {
    i64 i = 0;
    for (; ((size_t)(to + i) & 63) && i < n; i++) to[i] = from[i];
    for (; i + LANES <= n; i += LANES) store_past(to + i, load(from + i));
    for (; i < n; i++) to[i] = from[i];
}

/* Sum `parts` arrays of n numbers that lie one after the other, in order; frees them. */
void add_up(i64 parts, i64 n, float *arrays, float *sum) {
    memcpy(sum, arrays, (size_t)n * sizeof(float));
    for (i64 part = 1; part < parts; part++)
        for (i64 i = 0; i < n; i++) sum[i] += arrays[part * n + i];
    free(arrays);
}

/* ---- one tile --------------------------------------------------------------------------------------------------- */


/* Put the sums where they belong; `whole`: all lanes, and not minus the product. */
INLINE void put_sums(const Tile *t, const int rows, const int wide, const int whole, const int add, vec sum[ROWS][2]) {
    float *row = t->c;
    const i64 c_row = t->c_row;
    const int minus = whole ? 0 : t->minus;
    const some on[2] = {t->first, t->second};
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
        for (int half = 0; half <= wide; half++) {
            float *c = (MASKED ? t->c + i * t->c_row : row + i * c_row) + half * LANES;
            vec value = sum[i][half];
            if (minus) value = same(0) - value;
            if (add) value = value + (whole ? load(c) : load_some(on[half], c));
            if (whole) store(c, value);
            else store_some(c, on[half], value);
        }
}

INLINE void multiply_tile(const Tile *t, const int rows, const int wide) {
    vec sum[ROWS][2];
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++) {
        sum[i][0] = sum[i][1] = same(0);
        __builtin_prefetch(t->c + i * t->c_row, 1); /* while the sums are made, the place they go to comes */
        if (wide) __builtin_prefetch(t->c + i * t->c_row + COLUMNS - 1, 1);
    }
    const float *a = t->a, *b = t->b, *ahead = t->a + t->ahead;
    for (i64 k = 0; k < t->k; k++, a += t->a_col, b += t->b_row, ahead += t->stride) {
        __builtin_prefetch(ahead);
        const vec b0 = MASKED ? load_some(t->first, b) : load(b);
        const vec b1 = !wide ? b0 : MASKED ? load_some(t->second, b + LANES) : load(b + LANES);
#pragma GCC unroll 12
        for (int i = 0; i < rows; i++) {
            const vec value = same(a[i * t->a_row]);
            sum[i][0] = value * b0 + sum[i][0];
            if (wide) sum[i][1] = value * b1 + sum[i][1];
        }
    }
    const int whole = !MASKED && t->first == LANES && (!wide || t->second == LANES) && !t->minus;
    if (!whole) put_sums(t, rows, wide, 0, t->add, sum);
    else if (t->add) put_sums(t, rows, wide, 1, 1, sum);
    else put_sums(t, rows, wide, 1, 0, sum);
}

#define CASE(n)                                                         \
    case n:                                                             \
        if (t->second) multiply_tile(t, n, 1); else multiply_tile(t, n, 0); \
        break;

void tile(const Tile *t, i64 rows) {
    switch (rows) {
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if ROWS == 12
        CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#endif
    }
}

/* ---- one product, one thread ------------------------------------------------------------------------------------ */

void multiply(i64 m, i64 n, i64 k, const float *a, i64 a_row, i64 a_col, const float *b, i64 b_row, float *c, i64 c_row,
              int how, float *block) {
    const int apart = m > ROWS && b_row > 2 * COLUMNS; /* cache lines would push each other out */
    for (i64 j = 0; j < n; j += COLUMNS) {
        Tile t = {.a_row = a_row, .a_col = a_col, .c_row = c_row, .first = lanes(n - j), .second = lanes(n - j - LANES),
                  .minus = how >> 1, .ahead = ROWS * a_row, .stride = a_col == 1 ? LINE * ROWS / 12 : a_col};
        const int copies = apart || (!MASKED && smaller(COLUMNS, n - j) % LANES); /* a block is as wide as its vectors */
        for (i64 top = 0; top < k; top += DEPTH) {
            const float *from = b + top * b_row + j;
            t.k = smaller(DEPTH, k - top);
            t.b = copies ? block : from;
            t.b_row = copies ? COLUMNS : b_row;
            t.add = top > 0 || (how & 1);
            if (copies) {
                for (i64 r = 0; r < t.k; r++, from += b_row) { /* the next panel is called while this one is used */
                    __builtin_prefetch(from + COLUMNS, 0, 2);
                    __builtin_prefetch(from + COLUMNS + LANES, 0, 2);
                    store(block + r * COLUMNS, load_some(t.first, from));
                    store(block + r * COLUMNS + LANES, load_some(t.second, from + LANES));
                }
            }
            for (i64 i = 0; i < m; i += ROWS) {
                t.a = a + i * a_row + top * a_col;
                t.c = c + i * c_row + j;
                tile(&t, smaller(ROWS, m - i));
            }
        }
    }
}

/* ---- GELU ------------------------------------------------------------------------------------------------------- */

float gelu_numbers[sizeof(gelu_numbers) / sizeof(float)];

/* Once, before anything else. */
void scifm_set_gelu(int threads, const float *numbers) {
    (void)threads;
    memcpy(gelu_numbers, numbers, sizeof(gelu_numbers));
}

/* ---- products for all threads ----------------------------------------------------------------------------------- */

/* batch x [c (m, n) = or += or -= a (m, k) b (k, n)]: what the machine can do, for benchmarks/counting.py. */
void scifm_product(int threads, i64 batch, i64 m, i64 n, i64 k, const float *a, i64 a_batch, i64 a_row, i64 a_col,
                   const float *b, i64 b_batch, i64 b_row, float *c, i64 c_batch, i64 c_row, i64 how) {
    const int by_batch = batch >= threads, by_columns = n >= m;
#pragma omp parallel num_threads(threads)
    {
        const i64 part = omp_get_thread_num(), parts = omp_get_num_threads();
        float *block = scratch(DEPTH * COLUMNS);
        i64 first = 0, last = batch, top = 0, bottom = m, left = 0, right = n;
        if (by_batch) range(batch, 1, part, parts, &first, &last);
        else if (by_columns) range(n, COLUMNS, part, parts, &left, &right);
        else range(m, ROWS, part, parts, &top, &bottom);
        for (i64 item = first; item < last; item++)
            multiply(bottom - top, right - left, k, a + item * a_batch + top * a_row, a_row, a_col,
                     b + item * b_batch + left, b_row, c + item * c_batch + top * c_row + left, c_row, how, block);
        free(block);
    }
}
