/* Float32 products of a Fourier neural operator on a CPU with AVX-512, and what is fused with them.
 *
 * Every product here is thin in at least one direction (8 to 256 columns), where a general library spends its time on
 * packing and, on some processors, uses half of the vector width. One tile of 12 by 32 numbers is kept in registers;
 * the right factor is copied panel by panel only where its rows lie far apart. Fused functions work on pieces that fit
 * the second-level cache, so that a large activation is read and written once.
 *
 * All matrices are row-major; a stride is given in numbers, not bytes. Every function takes the number of threads.
 * Results are the same for the same number of threads: work is dealt out statically, partial sums are added in order.
 */
#include <immintrin.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum {
    LANES = 16,           /* numbers in a register */
    ROWS = 12,            /* a tile: ROWS x COLUMNS sums stay in 24 registers */
    COLUMNS = 2 * LANES,
    DEPTH = 256,          /* a block of the right factor, DEPTH x COLUMNS, stays in the first-level cache */
    PIECE = 1 << 16       /* numbers of an activation worked on at a time, 256 KiB: the same */
};

typedef long long i64;

static inline i64 smaller(i64 a, i64 b) { return a < b ? a : b; }
static inline i64 larger(i64 a, i64 b) { return a > b ? a : b; }
static inline i64 pieces(i64 n, i64 size) { return (n + size - 1) / size; }
static inline __mmask16 lanes(i64 n) { return n >= LANES ? 0xffff : n <= 0 ? 0 : (__mmask16)((1u << n) - 1); }

static inline void prefetch(const float *from, i64 n) {
    for (i64 i = 0; i < n; i += LANES) _mm_prefetch((const char *)(from + i), _MM_HINT_T1);
}

static float *scratch(i64 n) { return aligned_alloc(64, (size_t)(n * sizeof(float) + 63) / 64 * 64); }

static float *zeros(i64 n) { return memset(scratch(n), 0, (size_t)n * sizeof(float)); }

/* Copy what will not be needed soon past the caches. */
static inline void stream(float *to, const float *from, i64 n) {
    i64 i = 0;
    for (; ((size_t)(to + i) & 63) && i < n; i++) to[i] = from[i];
    for (; i + LANES <= n; i += LANES) _mm512_stream_ps(to + i, _mm512_loadu_ps(from + i));
    for (; i < n; i++) to[i] = from[i];
    _mm_sfence();
}

/* Sum `parts` arrays of n numbers that lie one after the other, in order; frees them. */
static void add_up(i64 parts, i64 n, float *arrays, float *sum) {
    memcpy(sum, arrays, (size_t)n * sizeof(float));
    for (i64 part = 1; part < parts; part++)
        for (i64 i = 0; i < n; i++) sum[i] += arrays[part * n + i];
    free(arrays);
}

/* The `part`-th of `parts` ranges of 0 ... n-1 in multiples of `unit`. */
static inline void range(i64 n, i64 unit, i64 part, i64 parts, i64 *start, i64 *stop) {
    const i64 units = pieces(n, unit);
    *start = smaller(n, units * part / parts * unit);
    *stop = smaller(n, units * (part + 1) / parts * unit);
}

/* ---- one tile --------------------------------------------------------------------------------------------------- */

typedef struct {
    const float *a, *b;
    float *c;
    i64 a_row, a_col, b_row, c_row, k;
    __mmask16 first, second;
    int add, minus;
    i64 ahead, stride; /* from a, where what the next tile needs of it begins; a line for each k, `stride` apart, is called */
} Tile;

static inline __attribute__((always_inline)) void multiply_tile(const Tile *t, const int rows, const int wide) {
    __m512 sum[ROWS][2];
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++) {
        sum[i][0] = sum[i][1] = _mm512_setzero_ps();
        __builtin_prefetch(t->c + i * t->c_row, 1); /* while the sums are made, the place they go to comes */
        if (wide) __builtin_prefetch(t->c + i * t->c_row + LANES, 1);
    }
    const float *a = t->a, *b = t->b, *ahead = t->a + t->ahead;
    for (i64 k = 0; k < t->k; k++, a += t->a_col, b += t->b_row, ahead += t->stride) {
        _mm_prefetch((const char *)ahead, _MM_HINT_T0);
        const __m512 b0 = _mm512_maskz_loadu_ps(t->first, b);
        const __m512 b1 = wide ? _mm512_maskz_loadu_ps(t->second, b + LANES) : b0;
#pragma GCC unroll 12
        for (int i = 0; i < rows; i++) {
            const __m512 value = _mm512_set1_ps(a[i * t->a_row]);
            sum[i][0] = _mm512_fmadd_ps(value, b0, sum[i][0]);
            if (wide) sum[i][1] = _mm512_fmadd_ps(value, b1, sum[i][1]);
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++) {
        for (int half = 0; half <= wide; half++) {
            float *c = t->c + i * t->c_row + half * LANES;
            const __mmask16 mask = half ? t->second : t->first;
            __m512 value = sum[i][half];
            if (t->minus) value = _mm512_sub_ps(_mm512_setzero_ps(), value);
            if (t->add) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, c));
            _mm512_mask_storeu_ps(c, mask, value);
        }
    }
}

#define CASE(n)                                                         \
    case n:                                                             \
        if (t->second) multiply_tile(t, n, 1); else multiply_tile(t, n, 0); \
        break;

static void tile(const Tile *t, i64 rows) {
    switch (rows) {
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
    }
}

/* ---- one product, one thread ------------------------------------------------------------------------------------ */

enum { SET = 0, ADD = 1, SUBTRACT = 3 /* bit 0: add to what is there; bit 1: minus the product */ };

/* c (m, n) = a (m, k) b (k, n), or c += a b, or c -= a b; `block` holds DEPTH x COLUMNS numbers. */
static void multiply(i64 m, i64 n, i64 k, const float *a, i64 a_row, i64 a_col, const float *b, i64 b_row, float *c,
                     i64 c_row, int how, float *block) {
    const int copies = m > ROWS && b_row > 2 * COLUMNS; /* rows far apart: cache lines would push each other out */
    for (i64 j = 0; j < n; j += COLUMNS) {
        Tile t = {.a_row = a_row, .a_col = a_col, .c_row = c_row, .first = lanes(n - j), .second = lanes(n - j - LANES),
                  .minus = how >> 1, .ahead = ROWS * a_row, .stride = a_col == 1 ? LANES : a_col};
        for (i64 top = 0; top < k; top += DEPTH) {
            const float *from = b + top * b_row + j;
            t.k = smaller(DEPTH, k - top);
            t.b = copies ? block : from;
            t.b_row = copies ? COLUMNS : b_row;
            t.add = top > 0 || (how & 1);
            if (copies) {
                for (i64 r = 0; r < t.k; r++, from += b_row) { /* the next panel is called while this one is used */
                    _mm_prefetch((const char *)(from + COLUMNS), _MM_HINT_T1);
                    _mm_prefetch((const char *)(from + COLUMNS + LANES), _MM_HINT_T1);
                    _mm512_store_ps(block + r * COLUMNS, _mm512_maskz_loadu_ps(t.first, from));
                    _mm512_store_ps(block + r * COLUMNS + LANES, _mm512_maskz_loadu_ps(t.second, from + LANES));
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

/* Normal distribution function P and the slope of GELU, P + x P'; both minus 1/2, which makes them odd. On each of 16
 * intervals of |x| a polynomial of degree 5; the last one is the constant 1/2. `native` makes the coefficients. */
enum { DEGREE = 5 };
static float tables[2][DEGREE + 1][LANES];
static float intervals_per_unit;

/* Once, before anything else: coefficients (2, 6, 16), then the number of intervals in a unit of |x|. */
void scifm_set_tables(int threads, const float *numbers) {
    (void)threads;
    memcpy(tables, numbers, sizeof(tables));
    intervals_per_unit = numbers[2 * (DEGREE + 1) * LANES];
}

typedef struct {
    __m512 within, sign;
    __m512i interval;
} Place;

static inline Place locate(__m512 x) {
    const __m512 sign = _mm512_set1_ps(-0.0f);
    const __m512 scaled = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(intervals_per_unit));
    const __m512 inside = _mm512_min_ps(_mm512_set1_ps(15.5f), scaled); /* in this order NaN stays */
    const __m512i interval = _mm512_cvttps_epi32(inside);
    const __m512 within = _mm512_sub_ps(inside, _mm512_cvtepi32_ps(interval));
    return (Place){within, _mm512_castsi512_ps(_mm512_and_epi32(_mm512_castps_si512(x), _mm512_castps_si512(sign))), interval};
}

static inline __attribute__((always_inline)) __m512 look_up(Place at, int table) {
    __m512 sum = _mm512_permutexvar_ps(at.interval, _mm512_loadu_ps(tables[table][DEGREE]));
#pragma GCC unroll 5
    for (int i = DEGREE - 1; i >= 0; i--)
        sum = _mm512_fmadd_ps(sum, at.within, _mm512_permutexvar_ps(at.interval, _mm512_loadu_ps(tables[table][i])));
    const __m512 odd = _mm512_castsi512_ps(_mm512_xor_epi32(_mm512_castps_si512(sum), _mm512_castps_si512(at.sign)));
    return _mm512_add_ps(odd, _mm512_set1_ps(0.5f));
}

static inline __m512 gelu(__m512 x) { return _mm512_mul_ps(x, look_up(locate(x), 0)); }
static inline __m512 gelu_slope(__m512 x) { return look_up(locate(x), 1); }

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

/* ---- transforms of a real axis ------------------------------------------------------------------------------------- */

/* A matrix (kept, n) of a real axis has kept / 2 rows of cosines, which are even about point 0, and as many of sines,
 * which are odd: what differs between points i and n - i. Points are folded in pairs, which halves the products. Points
 * 0 and n / 2 have no partner. */
static inline int alone(i64 point, i64 n) { return point == 0 || 2 * point == n; }

/* out (kept, width) = matrix x (n, width); rows lie `row` and `out_row` apart. */
static void analyze_line(i64 n, i64 width, i64 kept, const float *matrix, const float *x, i64 row, float *out,
                         i64 out_row, float *block) {
    const i64 pairs = n / 2 + 1, each = kept / 2, deep = DEPTH / 2;
    float *odd = block + deep * COLUMNS;
    for (i64 j = 0; j < width; j += COLUMNS) {
        Tile t = {.a_row = n, .a_col = 1, .b_row = COLUMNS, .c_row = out_row, .first = lanes(width - j),
                  .second = lanes(width - j - LANES)};
        for (i64 top = 0; top < pairs; top += deep) {
            t.k = smaller(deep, pairs - top);
            t.add = top > 0;
            for (i64 r = 0; r < t.k; r++) {
                const i64 point = top + r;
                const float *one = x + point * row + j, *other = x + (n - point) * row + j;
                for (i64 half = 0; half < COLUMNS; half += LANES) {
                    const __mmask16 mask = half ? t.second : t.first;
                    const __m512 a = _mm512_maskz_loadu_ps(mask, one + half);
                    const __m512 b = _mm512_maskz_loadu_ps(alone(point, n) ? 0 : mask, other + half);
                    _mm_prefetch((const char *)(one + COLUMNS + half), _MM_HINT_T1);
                    _mm_prefetch((const char *)(other + COLUMNS + half), _MM_HINT_T1);
                    _mm512_store_ps(block + r * COLUMNS + half, _mm512_add_ps(a, b));
                    _mm512_store_ps(odd + r * COLUMNS + half, _mm512_sub_ps(a, b));
                }
            }
            for (i64 sines = 0; sines < 2; sines++)
                for (i64 i = 0; i < each; i += ROWS) {
                    t.a = matrix + (sines * each + i) * n + top;
                    t.b = sines ? odd : block;
                    t.c = out + (sines * each + i) * out_row + j;
                    tile(&t, smaller(ROWS, each - i));
                }
        }
    }
}

/* Add to (or set) the rows of points first ... end - 1 and of their partners what matrix^T modes (kept, width) has
 * there. `low` is the row of point `first`, `high` that of point n - end + 1; `row` numbers lie between rows, `modes_row`
 * between those of modes; `block` holds kept x COLUMNS numbers. */
static void synthesize_pairs(i64 first, i64 end, i64 n, i64 row, i64 width, i64 kept, const float *matrix,
                             const float *modes, i64 modes_row, float *low, float *high, int add, float *block) {
    const i64 each = kept / 2;
    float even[ROWS * COLUMNS] __attribute__((aligned(64))), odd[ROWS * COLUMNS] __attribute__((aligned(64)));
    for (i64 j = 0; j < width; j += COLUMNS) {
        const __mmask16 masks[2] = {lanes(width - j), lanes(width - j - LANES)};
        Tile t = {.a_row = 1, .a_col = n, .b_row = COLUMNS, .c_row = COLUMNS, .k = each, .first = 0xffff,
                  .second = 0xffff};
        for (i64 r = 0; r < kept; r++)
            for (i64 half = 0; half < 2; half++)
                _mm512_store_ps(block + r * COLUMNS + half * LANES,
                                _mm512_maskz_loadu_ps(masks[half], modes + r * modes_row + j + half * LANES));
        for (i64 i = first; i < end; i += ROWS) {
            const i64 count = smaller(ROWS, end - i);
            for (i64 r = 0; r < count; r++) {
                __builtin_prefetch(low + (i + r - first) * row + j, 1);
                __builtin_prefetch(low + (i + r - first) * row + j + LANES, 1);
                __builtin_prefetch(high + (end - 1 - i - r) * row + j, 1);
                __builtin_prefetch(high + (end - 1 - i - r) * row + j + LANES, 1);
            }
            t.a = matrix + i, t.b = block, t.c = even;
            tile(&t, count);
            t.a = matrix + each * n + i, t.b = block + each * COLUMNS, t.c = odd;
            tile(&t, count);
            for (i64 r = 0; r < count; r++)
                for (i64 half = 0; half < 2; half++) {
                    const __m512 e = _mm512_load_ps(even + r * COLUMNS + half * LANES);
                    const __m512 o = _mm512_load_ps(odd + r * COLUMNS + half * LANES);
                    float *one = low + (i + r - first) * row + j + half * LANES;
                    float *other = high + (end - 1 - i - r) * row + j + half * LANES;
                    __m512 value = _mm512_add_ps(e, o);
                    if (add) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(masks[half], one));
                    _mm512_mask_storeu_ps(one, masks[half], value);
                    if (alone(i + r, n)) continue;
                    value = _mm512_sub_ps(e, o);
                    if (add) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(masks[half], other));
                    _mm512_mask_storeu_ps(other, masks[half], value);
                }
        }
    }
}

static i64 block_size(i64 kept) { return larger(DEPTH, kept) * COLUMNS; }

/* lines x [out (kept, row) = matrix x (n, row)]. */
void scifm_analyze_axis(int threads, i64 lines, i64 n, i64 row, i64 kept, const float *matrix, const float *x,
                        float *out) {
#pragma omp parallel num_threads(threads)
    {
        const i64 part = omp_get_thread_num(), parts = omp_get_num_threads();
        float *block = scratch(block_size(kept));
        i64 first = 0, last = lines, left = 0, right = row;
        if (lines >= parts) range(lines, 1, part, parts, &first, &last);
        else range(row, COLUMNS, part, parts, &left, &right);
        for (i64 line = first; line < last; line++)
            analyze_line(n, right - left, kept, matrix, x + line * n * row + left, row, out + line * kept * row + left,
                         row, block);
        free(block);
    }
}

/* lines x [onto (n, row) += matrix^T modes (kept, row)]. */
void scifm_synthesize_axis(int threads, i64 lines, i64 n, i64 row, i64 kept, const float *matrix, const float *modes,
                           float *onto) {
#pragma omp parallel num_threads(threads)
    {
        const i64 part = omp_get_thread_num(), parts = omp_get_num_threads(), pairs = n / 2 + 1;
        float *block = scratch(block_size(kept));
        i64 first = 0, last = lines, left = 0, right = row;
        if (lines >= parts) range(lines, 1, part, parts, &first, &last);
        else range(row, COLUMNS, part, parts, &left, &right);
        for (i64 line = first; line < last; line++) {
            float *low = onto + line * n * row + left;
            synthesize_pairs(0, pairs, n, row, right - left, kept, matrix, modes + line * kept * row + left, row, low,
                             low + (n - pairs + 1) * row, 1, block);
        }
        free(block);
    }
}

/* ---- transforms of a complex axis ---------------------------------------------------------------------------------- */

/* Modes k and -k share cosines and sines, points i and n - i do too: a quarter of the products. `matrix` (2 (m + 1), n) has
 * the cosines, then the sines, of k = 0 ... m. Modes are (2 parts, 2 m, columns), k = 0 ... m - 1 and then -m ... -1; fields
 * are (n, 2 parts, columns). */

/* For each of `lead`: modes = sum over points of field exp(-i k x). */
void scifm_analyze_complex_axis(int threads, i64 lead, i64 n, i64 columns, i64 m, const float *matrix,
                                const float *fields, float *modes) {
    const i64 kept = 2 * (m + 1), panels = pieces(columns, COLUMNS), part_size = 2 * m * columns;
#pragma omp parallel num_threads(threads)
    {
        float *block = scratch(block_size(kept)), *sums = scratch(2 * kept * COLUMNS);
        const float *cos_re = sums, *sin_re = cos_re + (m + 1) * COLUMNS;
        const float *cos_im = sin_re + (m + 1) * COLUMNS, *sin_im = cos_im + (m + 1) * COLUMNS;
#pragma omp for schedule(static)
        for (i64 item = 0; item < lead * panels; item++) {
            const i64 j = item % panels * COLUMNS, width = smaller(COLUMNS, columns - j);
            const float *from = fields + item / panels * n * 2 * columns + j;
            float *re = modes + item / panels * 2 * part_size + j, *im = re + part_size;
            for (i64 part = 0; part < 2; part++)
                analyze_line(n, width, kept, matrix, from + part * columns, 2 * columns, sums + part * kept * COLUMNS,
                             COLUMNS, block);
            for (i64 k = 0; k <= m; k++)
                for (i64 half = 0; half < width; half += LANES) {
                    const i64 at = k * COLUMNS + half, plus = k * columns + half, minus = (2 * m - k) * columns + half;
                    const __mmask16 mask = lanes(width - half);
                    const __m512 cr = _mm512_load_ps(cos_re + at), sr = _mm512_load_ps(sin_re + at);
                    const __m512 ci = _mm512_load_ps(cos_im + at), si = _mm512_load_ps(sin_im + at);
                    if (k < m) {
                        _mm512_mask_storeu_ps(re + plus, mask, _mm512_add_ps(cr, si));
                        _mm512_mask_storeu_ps(im + plus, mask, _mm512_sub_ps(ci, sr));
                    }
                    if (k > 0) {
                        _mm512_mask_storeu_ps(re + minus, mask, _mm512_sub_ps(cr, si));
                        _mm512_mask_storeu_ps(im + minus, mask, _mm512_add_ps(ci, sr));
                    }
                }
        }
        free(block);
        free(sums);
    }
}

/* For each of `lead`: field = sum over modes of mode exp(i k x), the adjoint of the above. */
void scifm_synthesize_complex_axis(int threads, i64 lead, i64 n, i64 columns, i64 m, const float *matrix,
                                   const float *modes, float *fields) {
    const i64 kept = 2 * (m + 1), panels = pieces(columns, COLUMNS), part_size = 2 * m * columns, pairs = n / 2 + 1;
#pragma omp parallel num_threads(threads)
    {
        float *block = scratch(block_size(kept)), *sums = scratch(2 * kept * COLUMNS);
        float *cos_re = sums, *sin_re = cos_re + (m + 1) * COLUMNS;
        float *cos_im = sin_re + (m + 1) * COLUMNS, *sin_im = cos_im + (m + 1) * COLUMNS;
#pragma omp for schedule(static)
        for (i64 item = 0; item < lead * panels; item++) {
            const i64 j = item % panels * COLUMNS, width = smaller(COLUMNS, columns - j);
            const float *re = modes + item / panels * 2 * part_size + j, *im = re + part_size;
            float *to = fields + item / panels * n * 2 * columns + j;
            for (i64 k = 0; k <= m; k++)
                for (i64 half = 0; half < COLUMNS; half += LANES) {
                    const i64 at = k * COLUMNS + half, plus = k * columns + half, minus = (2 * m - k) * columns + half;
                    const __mmask16 up = k < m ? lanes(width - half) : 0, down = k > 0 ? lanes(width - half) : 0;
                    const __m512 pr = _mm512_maskz_loadu_ps(up, re + plus), pi = _mm512_maskz_loadu_ps(up, im + plus);
                    const __m512 nr = _mm512_maskz_loadu_ps(down, re + minus), ni = _mm512_maskz_loadu_ps(down, im + minus);
                    _mm512_store_ps(cos_re + at, _mm512_add_ps(pr, nr));
                    _mm512_store_ps(cos_im + at, _mm512_add_ps(pi, ni));
                    _mm512_store_ps(sin_re + at, _mm512_sub_ps(ni, pi));
                    _mm512_store_ps(sin_im + at, _mm512_sub_ps(pr, nr));
                }
            for (i64 part = 0; part < 2; part++) {
                float *low = to + part * columns;
                synthesize_pairs(0, pairs, n, 2 * columns, width, kept, matrix, sums + part * kept * COLUMNS, COLUMNS,
                                 low, low + (n - pairs + 1) * 2 * columns, 0, block);
            }
        }
        free(block);
        free(sums);
    }
}

/* ---- mixing of modes: complex products in real arithmetic -------------------------------------------------------- */

/* out (2, modes, batch, co) = x (2, modes, batch, ci) times weight (2, modes, ci, co). */
void scifm_mix(int threads, i64 modes, i64 batch, i64 ci, i64 co, const float *x, const float *weight, float *out) {
    const i64 xs = modes * batch * ci, ws = modes * ci * co, os = modes * batch * co;
#pragma omp parallel num_threads(threads)
    {
        float *block = scratch(DEPTH * COLUMNS);
#pragma omp for schedule(static)
        for (i64 mode = 0; mode < modes; mode++) {
            const float *re = x + mode * batch * ci, *im = re + xs, *wr = weight + mode * ci * co, *wi = wr + ws;
            float *or = out + mode * batch * co, *oi = or + os;
            prefetch(wi, ci * co);
            multiply(batch, co, ci, re, ci, 1, wr, co, or, co, SET, block);
            multiply(batch, co, ci, im, ci, 1, wr, co, oi, co, SET, block);
            if (mode + 1 < modes) prefetch(wr + ci * co, ci * co);
            multiply(batch, co, ci, im, ci, 1, wi, co, or, co, SUBTRACT, block);
            multiply(batch, co, ci, re, ci, 1, wi, co, oi, co, ADD, block);
        }
        free(block);
    }
}

/* Rows of two parts below each other, as (2 batch, n): [re; im], or [im; -re] where `turned`. */
static void stack(i64 batch, i64 n, const float *re, const float *im, int turned, float *to) {
    const i64 size = batch * n;
    for (i64 i = 0; i < size; i++) to[i] = turned ? im[i] : re[i];
    for (i64 i = 0; i < size; i++) to[size + i] = turned ? -re[i] : im[i];
}

static void transpose(i64 rows, i64 columns, const float *from, float *to) {
    for (i64 i = 0; i < rows; i++)
        for (i64 j = 0; j < columns; j++) to[j * rows + i] = from[i * columns + j];
}

/* Both gradients of scifm_mix: of its modes (grad_x, like x) and of its weights (grad_weight, like weight).
 * With z = [gr; gi] and its turn [gi; -gr]: grad_x^T = wr z^T + wi turn^T (so that no weight is transposed), and
 * grad_wr = [re; im]^T z, grad_wi = [re; im]^T turn. */
void scifm_mix_gradients(int threads, i64 modes, i64 batch, i64 ci, i64 co, const float *x, const float *weight,
                         const float *grad, float *grad_x, float *grad_weight) {
    const i64 xs = modes * batch * ci, size = ci * co, ws = modes * size, gs = modes * batch * co, both = 2 * batch;
#pragma omp parallel num_threads(threads)
    {
        float *block = scratch(DEPTH * COLUMNS), *made = scratch(larger(size, both * ci));
        float *z = scratch(2 * both * co), *turn = z + both * co, *z_t = scratch(both * larger(co, ci));
#pragma omp for schedule(static)
        for (i64 mode = 0; mode < modes; mode++) {
            const float *w = weight + mode * size, *re = x + mode * batch * ci, *g = grad + mode * batch * co;
            stack(batch, co, g, g + gs, 0, z);
            stack(batch, co, g, g + gs, 1, turn);
            if (grad_x) {
                float *out = grad_x + mode * batch * ci;
                prefetch(w + ws, size);
                transpose(both, co, z, z_t);
                multiply(ci, both, co, w, co, 1, z_t, both, made, both, SET, block);
                if (mode + 1 < modes) prefetch(w + size, size);
                transpose(both, co, turn, z_t);
                multiply(ci, both, co, w + ws, co, 1, z_t, both, made, both, ADD, block);
                transpose(ci, both, made, z_t);
                memcpy(out, z_t, (size_t)(batch * ci) * sizeof(float));
                memcpy(out + xs, z_t + batch * ci, (size_t)(batch * ci) * sizeof(float));
            }
            if (grad_weight) {
                stack(batch, ci, re, re + xs, 0, z_t);
                multiply(ci, co, both, z_t, 1, ci, z, co, made, co, SET, block);
                stream(grad_weight + mode * size, made, size);
                multiply(ci, co, both, z_t, 1, ci, turn, co, made, co, SET, block);
                stream(grad_weight + ws + mode * size, made, size);
            }
        }
        free(block);
        free(made);
        free(z);
        free(z_t);
    }
}

/* ---- the end of a layer: last axis of the inverse transform, skip, activation, residual --------------------------- */

/* at (lines, points, batch, co) = x (lines, points, batch, ci) skip_t (ci, co) + last^T modes;
 * out = gelu(at) or at, plus x where `residual`. `last` is (kept, points), `modes` (lines, kept, batch co).
 * `before`, where at is stored, may be absent. A piece of work is a range of points and their partners. */
void scifm_layer_end(int threads, i64 lines, i64 points, i64 batch, i64 ci, i64 co, i64 kept, const float *x,
                     const float *skip_t, const float *last, const float *modes, float *before, float *out,
                     i64 activation, i64 residual) {
    const i64 row = batch * co, pairs = points / 2 + 1, most = smaller(pairs, larger(1, PIECE / 2 / row));
    const i64 chunks = pieces(pairs, most), size = pieces(pairs, chunks);
#pragma omp parallel num_threads(threads)
    {
        float *block = scratch(block_size(kept)), *at = scratch(2 * size * row);
#pragma omp for schedule(static)
        for (i64 item = 0; item < lines * chunks; item++) {
            const i64 line = item / chunks, first = item % chunks * size, end = smaller(pairs, first + size);
            const i64 last_alone = 2 * (end - 1) == points;
            const i64 starts[2] = {first, points - end + 1 + last_alone};
            const i64 counts[2] = {end - first, points - larger(first, 1) + 1 - starts[1]};
            float *parts[2] = {at, at + counts[0] * row};
            for (i64 half = 0; half < 2; half++)
                multiply(counts[half] * batch, co, ci, x + (line * points + starts[half]) * batch * ci, ci, 1, skip_t, co,
                         parts[half], co, SET, block);
            synthesize_pairs(first, end, points, row, row, kept, last, modes + line * kept * row, row, parts[0],
                             parts[1] - last_alone * row, 1, block);
            for (i64 half = 0; half < 2; half++) {
                const i64 offset = (line * points + starts[half]) * batch, total = counts[half] * row;
                if (before) stream(before + offset * co, parts[half], total);
                for (i64 i = 0; i < total; i += LANES) {
                    const __mmask16 mask = lanes(total - i);
                    __m512 value = _mm512_maskz_loadu_ps(mask, parts[half] + i);
                    if (activation) value = gelu(value);
                    if (residual) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, x + offset * ci + i));
                    _mm512_mask_storeu_ps(out + offset * co + i, mask, value);
                }
            }
        }
        free(block);
        free(at);
    }
}

typedef struct {
    i64 ci, co;
    const float *above, *before, *x, *skip;
    float *grad_x;
    i64 residual;
} Above;

/* Rows start ... start + count: their gradient before the activation, into `room` where there is one; its address is
 * returned. Adds to grad_skip. */
static const float *piece_of_gradient(const Above *p, i64 start, i64 count, float *room, float *grad_skip, float *block) {
    const i64 ci = p->ci, co = p->co, total = count * co;
    const float *up = p->above + start * co, *in = p->x + start * ci, *g = up;
    if (p->before) {
        const float *at = p->before + start * co;
        for (i64 i = 0; i < total; i += LANES) {
            const __mmask16 mask = lanes(total - i);
            const __m512 slope = gelu_slope(_mm512_maskz_loadu_ps(mask, at + i));
            _mm512_mask_storeu_ps(room + i, mask, _mm512_mul_ps(slope, _mm512_maskz_loadu_ps(mask, up + i)));
        }
        g = room;
    }
    multiply(co, ci, count, g, 1, co, in, ci, grad_skip, ci, ADD, block);
    if (p->grad_x) {
        float *out = p->grad_x + start * ci;
        if (p->residual) memcpy(out, up, (size_t)total * sizeof(float));
        multiply(count, ci, co, g, co, 1, p->skip, ci, out, ci, p->residual ? ADD : SET, block);
    }
    return g;
}

/* grad = above * gelu'(before) (or above), grad_x = grad skip (+ above where `residual`), grad_skip = grad^T x and
 * spectrum (lines, kept, batch co) = last grad. `skip` and `grad_skip` are (co, ci), `last` is (kept, points).
 * With few lines `spectrum` is absent and `grad` is stored; else it only passes through. `grad_x` may be absent. */
void scifm_layer_end_gradient(int threads, i64 lines, i64 points, i64 batch, i64 ci, i64 co, i64 kept,
                              const float *above, const float *before, const float *x, const float *skip,
                              const float *last, float *grad, float *spectrum, float *grad_x, float *grad_skip,
                              i64 residual) {
    const Above p = {ci, co, above, before, x, skip, grad_x, residual};
    const i64 row = batch * co, size = smaller(points, larger(1, PIECE / 2 / row)), chunks = pieces(points, size);
    float *sums = zeros(threads * ci * co);
#pragma omp parallel num_threads(threads)
    {
        float *block = scratch(DEPTH * COLUMNS), *room = scratch(size * row);
        float *sum = sums + omp_get_thread_num() * ci * co;
        i64 first, end;
        range(lines * chunks, spectrum ? chunks : 1, omp_get_thread_num(), omp_get_num_threads(), &first, &end);
        for (i64 item = first; item < end; item++) {
            const i64 line = item / chunks, start = item % chunks * size, count = smaller(size, points - start);
            const i64 offset = (line * points + start) * batch;
            const float *g = piece_of_gradient(&p, offset, count * batch, spectrum ? room : grad + offset * co, sum, block);
            if (!spectrum) continue;
            float *to = spectrum + line * kept * row;
            if (chunks == 1) analyze_line(points, row, kept, last, g, row, to, row, block);
            else multiply(kept, row, count, last + start, points, 1, g, row, to, row, start ? ADD : SET, block);
        }
        free(block);
        free(room);
    }
    add_up(threads, ci * co, sums, grad_skip);
}

/* ---- the lift ---------------------------------------------------------------------------------------------------- */

/* out (points, batch, width) = x (points, batch, fields) weight_t (fields, width) + bias (batch, width). */
void scifm_lift(int threads, i64 points, i64 batch, i64 fields, i64 width, const float *x, const float *weight_t,
                const float *bias, float *out) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (i64 point = 0; point < points; point++)
        for (i64 sample = 0; sample < batch; sample++) {
            const i64 row = point * batch + sample;
            for (i64 j = 0; j < width; j += LANES) {
                const __mmask16 mask = lanes(width - j);
                __m512 sum = _mm512_maskz_loadu_ps(mask, bias + sample * width + j);
                for (i64 f = 0; f < fields; f++)
                    sum = _mm512_fmadd_ps(_mm512_set1_ps(x[row * fields + f]),
                                          _mm512_maskz_loadu_ps(mask, weight_t + f * width + j), sum);
                _mm512_mask_storeu_ps(out + row * width + j, mask, sum);
            }
        }
}

/* ---- the projection: two pointwise maps with GELU between --------------------------------------------------------- */

/* Rows of the wide middle worked on at a time: few enough to stay in the first-level cache. */
static inline i64 middle_rows(i64 hidden) { return larger(1, PIECE / 8 / hidden / ROWS) * ROWS; }

/* out (rows, co) = gelu(x (rows, ci) first_t (ci, hidden) + first_bias) last^T + last_bias; `last` is (co, hidden). */
void scifm_projection(int threads, i64 rows, i64 ci, i64 hidden, i64 co, const float *x, const float *first_t,
                      const float *first_bias, const float *last, const float *last_bias, float *out) {
    const i64 size = middle_rows(hidden), chunks = pieces(rows, size);
#pragma omp parallel num_threads(threads)
    {
        float *block = scratch(DEPTH * COLUMNS), *h = scratch(size * hidden);
#pragma omp for schedule(static)
        for (i64 chunk = 0; chunk < chunks; chunk++) {
            const i64 start = chunk * size, count = smaller(size, rows - start);
            multiply(count, hidden, ci, x + start * ci, ci, 1, first_t, hidden, h, hidden, SET, block);
            for (i64 j = 0; j < hidden; j += LANES) {
                const __mmask16 mask = lanes(hidden - j);
                const __m512 bias = _mm512_maskz_loadu_ps(mask, first_bias + j);
                for (i64 i = 0; i < count; i++) {
                    float *at = h + i * hidden + j;
                    _mm512_mask_storeu_ps(at, mask, gelu(_mm512_add_ps(_mm512_maskz_loadu_ps(mask, at), bias)));
                }
            }
            for (i64 i = 0; i < count; i++)
                for (i64 o = 0; o < co; o++) {
                    __m512 sum = _mm512_setzero_ps();
                    for (i64 j = 0; j < hidden; j += LANES) {
                        const __mmask16 mask = lanes(hidden - j);
                        sum = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, h + i * hidden + j),
                                              _mm512_maskz_loadu_ps(mask, last + o * hidden + j), sum);
                    }
                    out[(start + i) * co + o] = _mm512_reduce_add_ps(sum) + last_bias[o];
                }
        }
        free(block);
        free(h);
    }
}

/* Gradients of scifm_projection: grad_x (rows, ci), which may be absent, and, one after the other in `grads`, those of
 * first (hidden, ci), of last (co, hidden) and of first_bias. `first_t` is the transpose of `first`. */
void scifm_projection_gradients(int threads, i64 rows, i64 ci, i64 hidden, i64 co, const float *x, const float *first,
                                const float *first_t, const float *first_bias, const float *last, const float *grad,
                                float *grad_x, float *grads) {
    const i64 size = middle_rows(hidden), chunks = pieces(rows, size);
    const i64 all = hidden * (ci + co + 1);
    float *sums = zeros(threads * all);
#pragma omp parallel num_threads(threads)
    {
        float *block = scratch(DEPTH * COLUMNS), *h = scratch(size * hidden);
        float *sum_first = sums + omp_get_thread_num() * all, *sum_last = sum_first + ci * hidden;
        float *sum_bias = sum_last + co * hidden;
#pragma omp for schedule(static)
        for (i64 chunk = 0; chunk < chunks; chunk++) {
            const i64 start = chunk * size, count = smaller(size, rows - start);
            const float *in = x + start * ci, *g = grad + start * co;
            multiply(count, hidden, ci, in, ci, 1, first_t, hidden, h, hidden, SET, block);
            for (i64 j = 0; j < hidden; j += LANES) { /* h becomes the gradient with respect to itself */
                const __mmask16 mask = lanes(hidden - j);
                const __m512 bias = _mm512_maskz_loadu_ps(mask, first_bias + j);
                __m512 sum = _mm512_maskz_loadu_ps(mask, sum_bias + j);
                for (i64 i = 0; i < count; i++) {
                    const __m512 value = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, h + i * hidden + j), bias);
                    const Place at = locate(value);
                    const __m512 active = _mm512_mul_ps(value, look_up(at, 0));
                    __m512 down = _mm512_setzero_ps();
                    for (i64 o = 0; o < co; o++) {
                        const __m512 scale = _mm512_set1_ps(g[i * co + o]);
                        float *to = sum_last + o * hidden + j;
                        _mm512_mask_storeu_ps(to, mask, _mm512_fmadd_ps(scale, active, _mm512_maskz_loadu_ps(mask, to)));
                        down = _mm512_fmadd_ps(scale, _mm512_maskz_loadu_ps(mask, last + o * hidden + j), down);
                    }
                    down = _mm512_mul_ps(down, look_up(at, 1));
                    sum = _mm512_add_ps(sum, down);
                    _mm512_mask_storeu_ps(h + i * hidden + j, mask, down);
                }
                _mm512_mask_storeu_ps(sum_bias + j, mask, sum);
            }
            multiply(hidden, ci, count, h, 1, hidden, in, ci, sum_first, ci, ADD, block);
            if (grad_x)
                multiply(count, ci, hidden, h, hidden, 1, first, ci, grad_x + start * ci, ci, SET, block);
        }
        free(block);
        free(h);
    }
    add_up(threads, all, sums, grads);
}

/* ---- convolutions of each channel by itself ----------------------------------------------------------------------- */

/* A field (batch, nz, ny, nx, channels) and, longer by taps - 1 along each axis, the one it is summed from. */
typedef struct {
    i64 nz, ny, nx, kz, ky, kx, channels, high, wide;
    __mmask16 mask;
} Stencil;

static Stencil stencil(i64 nz, i64 ny, i64 nx, i64 kz, i64 ky, i64 kx, i64 channels) {
    return (Stencil){nz, ny, nx, kz, ky, kx, channels, ny + ky - 1, nx + kx - 1, 0};
}

/* The place of the first tap of a line of points. */
static inline const float *corner(const Stencil *s, const float *x, i64 line) {
    const i64 b = line / (s->nz * s->ny), z = line / s->ny % s->nz, y = line % s->ny;
    return x + ((b * (s->nz + s->kz - 1) + z) * s->high + y) * s->wide * s->channels;
}

/* `count` points of a line, 16 channels at a time: the sums stay in registers. */
static inline __attribute__((always_inline)) void sum_taps(const Stencil *s, const int count, const float *from,
                                                           const float *tap, __m512 first, float *to) {
    const i64 channels = s->channels;
    __m512 sum[8];
#pragma GCC unroll 8
    for (int i = 0; i < count; i++) sum[i] = first;
    for (i64 i = 0; i < s->kz; i++)
        for (i64 j = 0; j < s->ky; j++) {
            const float *x = from + (i * s->high + j) * s->wide * channels;
            for (i64 k = 0; k < s->kx; k++, x += channels, tap += channels) {
                const __m512 weight = _mm512_maskz_loadu_ps(s->mask, tap);
#pragma GCC unroll 8
                for (int p = 0; p < count; p++)
                    sum[p] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(s->mask, x + p * channels), weight, sum[p]);
            }
        }
#pragma GCC unroll 8
    for (int i = 0; i < count; i++) _mm512_mask_storeu_ps(to + i * channels, s->mask, sum[i]);
}

/* out (batch, nz, ny, nx, channels) = x * taps (kz, ky, kx, channels) + bias, which may be absent. */
void scifm_depthwise(int threads, i64 batch, i64 nz, i64 ny, i64 nx, i64 kz, i64 ky, i64 kx, i64 channels,
                     const float *x, const float *taps, const float *bias, float *out) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (i64 line = 0; line < batch * nz * ny; line++) {
        Stencil s = stencil(nz, ny, nx, kz, ky, kx, channels);
        for (i64 c = 0; c < channels; c += LANES) {
            const float *from = corner(&s, x, line) + c;
            float *to = out + line * nx * channels + c;
            s.mask = lanes(channels - c);
            const __m512 first = bias ? _mm512_maskz_loadu_ps(s.mask, bias + c) : _mm512_setzero_ps();
            i64 i = 0;
            for (; i + 8 <= nx; i += 8) sum_taps(&s, 8, from + i * channels, taps + c, first, to + i * channels);
            for (; i + 4 <= nx; i += 4) sum_taps(&s, 4, from + i * channels, taps + c, first, to + i * channels);
            for (; i < nx; i++) sum_taps(&s, 1, from + i * channels, taps + c, first, to + i * channels);
        }
    }
}

/* to[k] += sum over a line of points of x[i + k] grad[i], for `count` taps. */
static inline __attribute__((always_inline)) void sum_points(const Stencil *s, const int count, const float *x,
                                                             const float *grad, float *to) {
    const i64 channels = s->channels;
    __m512 sum[8];
#pragma GCC unroll 8
    for (int k = 0; k < count; k++) sum[k] = _mm512_maskz_loadu_ps(s->mask, to + k * channels);
    for (i64 p = 0; p < s->nx; p++, x += channels, grad += channels) {
        const __m512 g = _mm512_maskz_loadu_ps(s->mask, grad);
#pragma GCC unroll 8
        for (int k = 0; k < count; k++)
            sum[k] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(s->mask, x + k * channels), g, sum[k]);
    }
#pragma GCC unroll 8
    for (int k = 0; k < count; k++) _mm512_mask_storeu_ps(to + k * channels, s->mask, sum[k]);
}

/* The gradients of scifm_depthwise: of its taps, (kz, ky, kx, channels), and then of its bias. */
void scifm_depthwise_gradient(int threads, i64 batch, i64 nz, i64 ny, i64 nx, i64 kz, i64 ky, i64 kx, i64 channels,
                              const float *x, const float *grad, float *grads) {
    const i64 all = (kz * ky * kx + 1) * channels;
    float *sums = zeros(threads * all);
#pragma omp parallel num_threads(threads)
    {
        float *mine = sums + omp_get_thread_num() * all;
        Stencil s = stencil(nz, ny, nx, kz, ky, kx, channels);
#pragma omp for schedule(static)
        for (i64 line = 0; line < batch * nz * ny; line++)
            for (i64 c = 0; c < channels; c += LANES) {
                const float *g = grad + line * nx * channels + c;
                float *to = mine + c;
                s.mask = lanes(channels - c);
                for (i64 i = 0; i < kz; i++)
                    for (i64 j = 0; j < ky; j++) {
                        const float *row = corner(&s, x, line) + (i * s.high + j) * s.wide * channels + c;
                        i64 k = 0;
                        for (; k + 7 <= kx; k += 7, to += 7 * channels) sum_points(&s, 7, row + k * channels, g, to);
                        for (; k + 5 <= kx; k += 5, to += 5 * channels) sum_points(&s, 5, row + k * channels, g, to);
                        for (; k < kx; k++, to += channels) sum_points(&s, 1, row + k * channels, g, to);
                    }
                __m512 sum = _mm512_maskz_loadu_ps(s.mask, to);
                for (i64 i = 0; i < nx; i++) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(s.mask, g + i * channels));
                _mm512_mask_storeu_ps(to, s.mask, sum);
            }
    }
    add_up(threads, all, sums, grads);
}

/* ---- the pointwise half of a ConvNeXt block ----------------------------------------------------------------------- */

/* normal = (x - mean) / size over the channels of each row, and h = normal * scale + shift; `sizes` gets 1 / size. */
static void normalize(i64 rows, i64 channels, const float *x, const float *scale, const float *shift, float *normal,
                      float *h, float *sizes) {
    for (i64 i = 0; i < rows; i++, x += channels, normal += channels, h += channels) {
        __m512 sum = _mm512_setzero_ps(), square = _mm512_setzero_ps();
        for (i64 c = 0; c < channels; c += LANES)
            sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(lanes(channels - c), x + c));
        const float mean = _mm512_reduce_add_ps(sum) / (float)channels;
        for (i64 c = 0; c < channels; c += LANES) {
            const __mmask16 mask = lanes(channels - c);
            const __m512 off = _mm512_maskz_sub_ps(mask, _mm512_maskz_loadu_ps(mask, x + c), _mm512_set1_ps(mean));
            _mm512_mask_storeu_ps(normal + c, mask, off);
            square = _mm512_fmadd_ps(off, off, square);
        }
        sizes[i] = 1 / sqrtf(_mm512_reduce_add_ps(square) / (float)channels + 1e-5f);
        for (i64 c = 0; c < channels; c += LANES) {
            const __mmask16 mask = lanes(channels - c);
            const __m512 value = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, normal + c), _mm512_set1_ps(sizes[i]));
            _mm512_mask_storeu_ps(normal + c, mask, value);
            _mm512_mask_storeu_ps(h + c, mask, _mm512_fmadd_ps(value, _mm512_maskz_loadu_ps(mask, scale + c),
                                                               _mm512_maskz_loadu_ps(mask, shift + c)));
        }
    }
}

/* Rows worked on at a time: the two wide middles and what goes with them stay in the second-level cache. */
static inline i64 block_rows(i64 hidden) { return larger(1, PIECE / 2 / hidden / ROWS) * ROWS; }

/* out (batch, rows, channels) = x + gelu((norm(y) scale + shift) first_t + first_bias) last_t + last_bias with scale and
 * shift (batch, channels), first_t (channels, hidden), last_t (hidden, channels). */
void scifm_pointwise_block(int threads, i64 batch, i64 rows, i64 channels, i64 hidden, const float *x, const float *y,
                           const float *scale, const float *shift, const float *first_t, const float *first_bias,
                           const float *last_t, const float *last_bias, float *out) {
    const i64 size = smaller(rows, block_rows(hidden)), chunks = pieces(rows, size);
#pragma omp parallel num_threads(threads)
    {
        float *block = scratch(DEPTH * COLUMNS), *middle = scratch(size * hidden), *sizes = scratch(size);
        float *normal = scratch(size * channels), *h = scratch(size * channels);
#pragma omp for schedule(static)
        for (i64 item = 0; item < batch * chunks; item++) {
            const i64 b = item / chunks, start = item % chunks * size, count = smaller(size, rows - start);
            const i64 place = (b * rows + start) * channels;
            normalize(count, channels, y + place, scale + b * channels, shift + b * channels, normal, h, sizes);
            multiply(count, hidden, channels, h, channels, 1, first_t, hidden, middle, hidden, SET, block);
            for (i64 j = 0; j < hidden; j += LANES) {
                const __mmask16 mask = lanes(hidden - j);
                const __m512 bias = _mm512_maskz_loadu_ps(mask, first_bias + j);
                for (i64 i = 0; i < count; i++) {
                    float *at = middle + i * hidden + j;
                    _mm512_mask_storeu_ps(at, mask, gelu(_mm512_add_ps(_mm512_maskz_loadu_ps(mask, at), bias)));
                }
            }
            for (i64 c = 0; c < channels; c += LANES) {
                const __mmask16 mask = lanes(channels - c);
                const __m512 bias = _mm512_maskz_loadu_ps(mask, last_bias + c);
                for (i64 i = 0; i < count; i++) {
                    const i64 at = place + i * channels + c;
                    _mm512_mask_storeu_ps(out + at, mask, _mm512_add_ps(_mm512_maskz_loadu_ps(mask, x + at), bias));
                }
            }
            multiply(count, channels, hidden, middle, hidden, 1, last_t, channels, out + place, channels, ADD, block);
        }
        free(block);
        free(middle);
        free(sizes);
        free(normal);
        free(h);
    }
}

/* What h, the gradient of a row's h, is for the row itself; sums for scale and shift are added to. */
static void normalize_gradient(i64 rows, i64 channels, const float *normal, const float *sizes, const float *scale,
                               const float *h, float *grad, float *grad_scale, float *grad_shift) {
    for (i64 i = 0; i < rows; i++, normal += channels, h += channels, grad += channels) {
        __m512 sum = _mm512_setzero_ps(), along = _mm512_setzero_ps();
        for (i64 c = 0; c < channels; c += LANES) {
            const __mmask16 mask = lanes(channels - c);
            const __m512 n = _mm512_maskz_loadu_ps(mask, normal + c), up = _mm512_maskz_loadu_ps(mask, h + c);
            const __m512 of_n = _mm512_mul_ps(up, _mm512_maskz_loadu_ps(mask, scale + c));
            sum = _mm512_add_ps(sum, of_n);
            along = _mm512_fmadd_ps(of_n, n, along);
            _mm512_mask_storeu_ps(grad_scale + c, mask, _mm512_fmadd_ps(up, n, _mm512_maskz_loadu_ps(mask, grad_scale + c)));
            _mm512_mask_storeu_ps(grad_shift + c, mask, _mm512_add_ps(up, _mm512_maskz_loadu_ps(mask, grad_shift + c)));
        }
        const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / (float)channels);
        const __m512 slope = _mm512_set1_ps(_mm512_reduce_add_ps(along) / (float)channels);
        for (i64 c = 0; c < channels; c += LANES) {
            const __mmask16 mask = lanes(channels - c);
            const __m512 up = _mm512_maskz_loadu_ps(mask, h + c);
            __m512 of_n = _mm512_fmsub_ps(up, _mm512_maskz_loadu_ps(mask, scale + c), mean);
            of_n = _mm512_fnmadd_ps(_mm512_maskz_loadu_ps(mask, normal + c), slope, of_n);
            _mm512_mask_storeu_ps(grad + c, mask, _mm512_mul_ps(of_n, _mm512_set1_ps(sizes[i])));
        }
    }
}

/* Gradients of scifm_pointwise_block, whose middle is made again: grad_y (batch, rows, channels), and one after the other
 * in `grads` those of first (hidden, channels), last (channels, hidden), first_bias, last_bias, scale and shift. That of
 * x is `grad` itself. `first_t` is the transpose of `first`. */
void scifm_pointwise_block_gradients(int threads, i64 batch, i64 rows, i64 channels, i64 hidden, const float *y,
                                     const float *scale, const float *shift, const float *first, const float *first_t,
                                     const float *first_bias, const float *last, const float *grad, float *grad_y,
                                     float *grads) {
    const i64 size = smaller(rows, block_rows(2 * hidden)), chunks = pieces(rows, size);
    const i64 all = 2 * hidden * channels + hidden + channels + 2 * batch * channels;
    float *sums = zeros(threads * all);
#pragma omp parallel num_threads(threads)
    {
        float *block = scratch(DEPTH * COLUMNS), *middle = scratch(size * hidden), *down = scratch(size * hidden);
        float *normal = scratch(size * channels), *h = scratch(size * channels), *sizes = scratch(size);
        float *of_first = sums + omp_get_thread_num() * all, *of_last = of_first + hidden * channels;
        float *of_first_bias = of_last + hidden * channels, *of_last_bias = of_first_bias + hidden;
        float *of_scale = of_last_bias + channels, *of_shift = of_scale + batch * channels;
#pragma omp for schedule(static)
        for (i64 item = 0; item < batch * chunks; item++) {
            const i64 b = item / chunks, start = item % chunks * size, count = smaller(size, rows - start);
            const i64 place = (b * rows + start) * channels;
            const float *g = grad + place;
            normalize(count, channels, y + place, scale + b * channels, shift + b * channels, normal, h, sizes);
            multiply(count, hidden, channels, h, channels, 1, first_t, hidden, middle, hidden, SET, block);
            multiply(count, hidden, channels, g, channels, 1, last, hidden, down, hidden, SET, block);
            for (i64 j = 0; j < hidden; j += LANES) {
                const __mmask16 mask = lanes(hidden - j);
                const __m512 bias = _mm512_maskz_loadu_ps(mask, first_bias + j);
                __m512 sum = _mm512_maskz_loadu_ps(mask, of_first_bias + j);
                for (i64 i = 0; i < count; i++) {
                    float *at = middle + i * hidden + j, *to = down + i * hidden + j;
                    const __m512 value = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, at), bias);
                    const Place where = locate(value);
                    const __m512 up = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, to), look_up(where, 1));
                    _mm512_mask_storeu_ps(at, mask, _mm512_mul_ps(value, look_up(where, 0)));
                    _mm512_mask_storeu_ps(to, mask, up);
                    sum = _mm512_add_ps(sum, up);
                }
                _mm512_mask_storeu_ps(of_first_bias + j, mask, sum);
            }
            for (i64 c = 0; c < channels; c += LANES) {
                const __mmask16 mask = lanes(channels - c);
                __m512 sum = _mm512_maskz_loadu_ps(mask, of_last_bias + c);
                for (i64 i = 0; i < count; i++) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, g + i * channels + c));
                _mm512_mask_storeu_ps(of_last_bias + c, mask, sum);
            }
            multiply(channels, hidden, count, g, 1, channels, middle, hidden, of_last, hidden, ADD, block);
            multiply(hidden, channels, count, down, 1, hidden, h, channels, of_first, channels, ADD, block);
            multiply(count, channels, hidden, down, hidden, 1, first, channels, h, channels, SET, block);
            normalize_gradient(count, channels, normal, sizes, scale + b * channels, h, grad_y + place,
                               of_scale + b * channels, of_shift + b * channels);
        }
        free(block);
        free(middle);
        free(down);
        free(normal);
        free(h);
        free(sizes);
    }
    add_up(threads, all, sums, grads);
}

/* ---- attention along axes ----------------------------------------------------------------------------------------- */

#include "attention.c"
