/* Vectors of LANES numbers, one way for processors of several widths: 16 (AVX-512), 8 (AVX2 with FMA) or 4 (NEON, SSE).
 *
 * Arithmetic is that of the compiler's vector types: a * b + c becomes one instruction where the processor has it. Below
 * are the few steps that need care; a step without a form for the processor has a plain one, so that every width can be
 * compiled, and tested, on every processor.
 */
#ifndef SCIFM_VECTORS_H
#define SCIFM_VECTORS_H

#include <math.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#ifndef LANES
#error "say how wide a vector is: -DLANES=16, 8 or 4"
#endif

/* What there is an instruction for. */
#if LANES == 16 && defined(__AVX512F__)
#define AVX512 1
#elif LANES == 8 && defined(__AVX2__) && defined(__FMA__)
#define AVX2 1
#elif LANES == 4 && defined(__x86_64__)
#define SSE 1
#elif LANES == 4 && defined(__aarch64__)
#define NEON 1
#endif

/* Sums of a tile, ROWS x 2 vectors, and three vectors more stay in the registers: 32 of them, or 16. */
#if LANES == 16 || defined(__aarch64__)
#define ROWS 12
#else
#define ROWS 6
#endif

typedef long long i64;
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int ints __attribute__((vector_size(4 * LANES)));
typedef float loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias)); /* wherever it lies */
typedef int loose_ints __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

INLINE vec same(float x) {
#if AVX512
    return _mm512_set1_ps(x);
#elif AVX2
    return _mm256_set1_ps(x);
#elif SSE
    return _mm_set1_ps(x);
#elif NEON
    return vdupq_n_f32(x);
#else
    vec v;
    for (int i = 0; i < LANES; i++) v[i] = x;
    return v;
#endif
}

INLINE vec load(const float *from) { return *(const loose *)from; }
INLINE void store(float *to, vec v) { *(loose *)to = v; }

/* ---- the first n lanes only ---------------------------------------------------------------------------------------- */

#if AVX512
#define MASKED 1 /* a load of some lanes costs no more than one of all */
typedef __mmask16 some;
INLINE some lanes(i64 n) { return n >= LANES ? 0xffff : n <= 0 ? 0 : (some)((1u << n) - 1); }
INLINE vec load_some(some on, const float *from) { return _mm512_maskz_loadu_ps(on, from); }
INLINE void store_some(float *to, some on, vec v) { _mm512_mask_storeu_ps(to, on, v); }
INLINE ints load_ints(some on, const int *from) { return (ints)_mm512_mask_loadu_epi32(_mm512_set1_epi32(-1), on, from); }
INLINE vec only(some on, vec v) { return _mm512_maskz_mov_ps(on, v); }
#else
#define MASKED 0
typedef int some; /* how many */
INLINE some lanes(i64 n) { return n >= LANES ? LANES : n <= 0 ? 0 : (some)n; }
#if AVX2
static const int window[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
INLINE __m256i first_lanes(some on) { return _mm256_loadu_si256((const __m256i *)(window + LANES - on)); }
INLINE vec load_part(some on, const float *from) { return _mm256_maskload_ps(from, first_lanes(on)); }
INLINE void store_part(float *to, some on, vec v) { _mm256_maskstore_ps(to, first_lanes(on), v); }
#else
#define SELDOM static __attribute__((noinline, unused))
SELDOM vec load_part(some on, const float *from) {
    float part[LANES] = {0};
    for (int i = 0; i < on; i++) part[i] = from[i];
    return load(part);
}
SELDOM void store_part(float *to, some on, vec v) {
    float part[LANES];
    store(part, v);
    for (int i = 0; i < on; i++) to[i] = part[i];
}
#endif
/* A store of some lanes is slow on several processors: whole ones go another way. */
INLINE vec load_some(some on, const float *from) { return __builtin_expect(on == LANES, 1) ? load(from) : load_part(on, from); }
INLINE void store_some(float *to, some on, vec v) {
    if (__builtin_expect(on == LANES, 1)) store(to, v);
    else store_part(to, on, v);
}
INLINE ints load_ints(some on, const int *from) { /* -1 in the others */
    if (__builtin_expect(on == LANES, 1)) return *(const loose_ints *)from;
    ints v;
    for (int i = 0; i < LANES; i++) v[i] = i < on ? from[i] : -1;
    return v;
}
INLINE vec only(some on, vec v) {
    ints place;
    for (int i = 0; i < LANES; i++) place[i] = i;
    return (vec)((ints)v & (place < on));
}
#endif

/* ---- steps of a lane ------------------------------------------------------------------------------------------------ */

/* Which lanes; `choose` takes from `yes` there and from `no` elsewhere. */
#if AVX512
typedef __mmask16 which;
INLINE which not_negative(ints x) { return _mm512_cmpge_epi32_mask((__m512i)x, _mm512_setzero_si512()); }
INLINE which differ(vec x, vec y) { return _mm512_cmp_ps_mask(x, y, _CMP_NEQ_UQ); }
INLINE which below(vec x, vec y) { return _mm512_cmp_ps_mask(x, y, _CMP_LT_OQ); }
INLINE vec choose(which on, vec yes, vec no) { return _mm512_mask_mov_ps(no, on, yes); }
INLINE int any(which on) { return on != 0; }
#else
typedef ints which;
INLINE which not_negative(ints x) { return x >= 0; }
INLINE which differ(vec x, vec y) { return x != y; }
INLINE which below(vec x, vec y) { return x < y; }
INLINE vec choose(which on, vec yes, vec no) { return (vec)((on & (ints)yes) | (~on & (ints)no)); }
INLINE int any(which on) {
#if AVX2
    return _mm256_movemask_ps((__m256)on) != 0;
#elif SSE
    return _mm_movemask_ps((__m128)on) != 0;
#else
    int found = 0;
    for (int i = 0; i < LANES; i++) found |= on[i];
    return found != 0;
#endif
}
#endif

/* Where one of two is not a number, so is what comes of it: it must be the second. */
INLINE vec least(vec x, vec y) {
#if AVX512
    return _mm512_min_ps(x, y);
#elif AVX2
    return _mm256_min_ps(x, y);
#elif SSE
    return _mm_min_ps(x, y);
#else
    return choose(x < y, x, y);
#endif
}

INLINE vec most(vec x, vec y) {
#if AVX512
    return _mm512_max_ps(x, y);
#elif AVX2
    return _mm256_max_ps(x, y);
#elif SSE
    return _mm_max_ps(x, y);
#else
    return choose(x > y, x, y);
#endif
}

INLINE vec square_root(vec x) {
#if AVX512
    return _mm512_sqrt_ps(x);
#elif AVX2
    return _mm256_sqrt_ps(x);
#elif SSE
    return _mm_sqrt_ps(x);
#elif NEON
    return vsqrtq_f32(x);
#else
    for (int i = 0; i < LANES; i++) x[i] = sqrtf(x[i]);
    return x;
#endif
}

/* Towards zero; of what is not a number, anything. */
INLINE ints truncated(vec x) { return __builtin_convertvector(x, ints); }
INLINE vec as_numbers(ints x) { return __builtin_convertvector(x, vec); }

/* The nearest whole number, of |x| < 2^22. */
INLINE vec rounded(vec x) {
#if AVX512
    return _mm512_roundscale_ps(x, 0);
#elif AVX2
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    const vec shift = same(12582912.0f); /* 3 * 2^22: no place is left for what is behind the point */
    return (x + shift) - shift;
#endif
}

/* x times 2^n, of whole -252 <= n <= 0. In two steps: 2^n itself may be too small for a number. */
INLINE vec scaled(vec x, vec n) {
#if AVX512
    return _mm512_scalef_ps(x, n);
#else
    const ints whole = truncated(n), half = whole >> 1;
    return x * (vec)((half + 127) << 23) * (vec)((whole - half + 127) << 23);
#endif
}

/* The sum of all lanes, in one order. */
INLINE float total(vec x) {
#if AVX512
    return _mm512_reduce_add_ps(x);
#else
    float part[LANES];
    store(part, x);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) part[i] += part[i + half];
    return part[0];
#endif
}

/* ---- tables ----------------------------------------------------------------------------------------------------------- */

/* Of a table of INTERVALS numbers, the one at each place: for vectors that hold as many. */
enum { INTERVALS = 16 };

INLINE vec entries(const float *table, ints place) {
#if AVX512
    return _mm512_permutexvar_ps((__m512i)place, _mm512_loadu_ps(table));
#else
    vec found;
    for (int i = 0; i < LANES; i++) found[i] = table[place[i] & (INTERVALS - 1)];
    return found;
#endif
}

/* The same of a table of 32 numbers; of a negative place, anything. */
INLINE vec entries_of_32(const float *table, ints place) {
#if AVX512
    return _mm512_permutex2var_ps(_mm512_loadu_ps(table), (__m512i)place, _mm512_loadu_ps(table + 16));
#elif AVX2
    const __m256i at = (__m256i)place, above_8 = _mm256_slli_epi32(at, 28), above_16 = _mm256_slli_epi32(at, 27);
    vec part[4];
    for (int i = 0; i < 4; i++) part[i] = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8 * i), at);
    const __m256 low = _mm256_blendv_ps(part[0], part[1], (__m256)above_8);
    const __m256 high = _mm256_blendv_ps(part[2], part[3], (__m256)above_8);
    return _mm256_blendv_ps(low, high, (__m256)above_16);
#else
    vec found;
    for (int i = 0; i < LANES; i++) found[i] = table[place[i] & 31];
    return found;
#endif
}

/* ---- past the caches ------------------------------------------------------------------------------------------------- */

/* Store what will not be needed soon; `to` is a multiple of a vector's size. Ends with `streamed`. */
INLINE void store_past(float *to, vec v) {
#if AVX512
    _mm512_stream_ps(to, v);
#elif AVX2
    _mm256_stream_ps(to, v);
#elif SSE
    _mm_stream_ps(to, v);
#else
    store(to, v);
#endif
}

INLINE void streamed(void) {
#if defined(__x86_64__)
    _mm_sfence();
#endif
}

/* ---- a square turned --------------------------------------------------------------------------------------------------- */

/* Rows of a square of LANES x LANES become its columns. */
INLINE void turn_rows(vec *a) {
#if AVX512
    __m512 b[LANES];
#pragma GCC unroll 8
    for (int i = 0; i < LANES; i += 2) b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]), b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
#pragma GCC unroll 4
    for (int i = 0; i < LANES; i += 4)
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            const __m512d one = _mm512_castps_pd(b[i + j]), other = _mm512_castps_pd(b[i + j + 2]);
            a[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(one, other));
            a[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(one, other));
        }
#pragma GCC unroll 2
    for (int i = 0; i < LANES; i += 8)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            b[i + j] = _mm512_shuffle_f32x4(a[i + j], a[i + j + 4], 0x88);
            b[i + j + 4] = _mm512_shuffle_f32x4(a[i + j], a[i + j + 4], 0xdd);
        }
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        a[j] = _mm512_shuffle_f32x4(b[j], b[j + 8], 0x88);
        a[j + 8] = _mm512_shuffle_f32x4(b[j], b[j + 8], 0xdd);
    }
#elif AVX2
    __m256 b[LANES];
#pragma GCC unroll 4
    for (int i = 0; i < LANES; i += 2) b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]), b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
#pragma GCC unroll 2
    for (int i = 0; i < LANES; i += 4)
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            const __m256d one = _mm256_castps_pd(b[i + j]), other = _mm256_castps_pd(b[i + j + 2]);
            a[i + 2 * j] = _mm256_castpd_ps(_mm256_unpacklo_pd(one, other));
            a[i + 2 * j + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(one, other));
        }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        const __m256 low = a[j], high = a[j + 4];
        a[j] = _mm256_permute2f128_ps(low, high, 0x20);
        a[j + 4] = _mm256_permute2f128_ps(low, high, 0x31);
    }
#elif SSE
    __m128 r0 = a[0], r1 = a[1], r2 = a[2], r3 = a[3];
    _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
    a[0] = r0, a[1] = r1, a[2] = r2, a[3] = r3;
#elif NEON
    const float32x4x2_t one = vtrnq_f32(a[0], a[1]), other = vtrnq_f32(a[2], a[3]);
    a[0] = vcombine_f32(vget_low_f32(one.val[0]), vget_low_f32(other.val[0]));
    a[1] = vcombine_f32(vget_low_f32(one.val[1]), vget_low_f32(other.val[1]));
    a[2] = vcombine_f32(vget_high_f32(one.val[0]), vget_high_f32(other.val[0]));
    a[3] = vcombine_f32(vget_high_f32(one.val[1]), vget_high_f32(other.val[1]));
#else
    float rows[LANES][LANES];
    memcpy(rows, a, sizeof(rows));
    for (int i = 0; i < LANES; i++) {
        float column[LANES];
        for (int j = 0; j < LANES; j++) column[j] = rows[j][i];
        a[i] = load(column);
    }
#endif
}

#endif
