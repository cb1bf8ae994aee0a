/* Transforms: of a real axis, the last one, and of a complex one. See transforms.h. */
#include "transforms.h"

/* Points 0 and n / 2 have no partner n - i. */
static inline int alone(i64 point, i64 n) { return point == 0 || 2 * point == n; }

/* Columns worked on at a time, whole lines of a cache side by side: rows may lie so far apart that all fall on one place of
 * a cache, and a line must be used up before the next comes. Panels of COLUMNS lie one after the other. */
enum { STRIP = COLUMNS > 2 * LINE ? COLUMNS : 2 * LINE, FOLDED = DEPTH / 2 + 1 /* pairs, so that n = 2^k needs no rest */ };

static i64 block_size(i64 kept) { return larger(2 * FOLDED, kept) * STRIP; }

/* ---- a real axis, all wavenumbers alike ----------------------------------------------------------------------------- */

/* A matrix has a row of cosines, which are even about point 0, for each of `modes`, then as many of sines, which are odd:
 * what differs between points i and n - i. Points are folded in pairs, which halves the products. */

/* re (modes, width) = cosines x (n, width), im = sines x; rows lie `row` and `step` apart. */
static void analyze_line(i64 n, i64 width, i64 modes, const float *matrix, const float *x, i64 row, float *re, float *im,
                         i64 step, float *block) {
    const i64 pairs = n / 2 + 1, deep = pieces(pairs, larger(1, pieces(pairs - 1, FOLDED - 1)));
    float *odd = block + deep * STRIP;
    for (i64 j = 0; j < width; j += STRIP) {
        Tile t = {.a_row = n, .a_col = 1, .b_row = COLUMNS, .c_row = step};
        for (i64 top = 0; top < pairs; top += deep) {
            t.k = smaller(deep, pairs - top);
            t.add = top > 0;
            for (i64 r = 0; r < t.k; r++) {
                const i64 point = top + r;
                const float *one = x + point * row + j, *other = x + (n - point) * row + j;
                for (i64 at = 0; at < STRIP; at += LANES) {
                    const some mask = lanes(width - j - at);
                    const i64 to = (at / COLUMNS * deep + r) * COLUMNS + at % COLUMNS;
                    const vec a = load_some(mask, one + at), b = load_some(alone(point, n) ? 0 : mask, other + at);
                    __builtin_prefetch(one + STRIP + at, 0, 2);
                    __builtin_prefetch(other + STRIP + at, 0, 2);
                    store(block + to, a + b);
                    store(odd + to, a - b);
                }
            }
            for (i64 panel = 0; panel < STRIP && panel < width - j; panel += COLUMNS) {
                t.first = lanes(width - j - panel), t.second = lanes(width - j - panel - LANES);
                for (i64 sines = 0; sines < 2; sines++)
                    for (i64 i = 0; i < modes; i += ROWS) {
                        t.a = matrix + (sines * modes + i) * n + top;
                        t.b = (sines ? odd : block) + panel * deep;
                        t.c = (sines ? im : re) + i * step + j + panel;
                        tile(&t, smaller(ROWS, modes - i));
                    }
            }
        }
    }
}

/* Rows first ... first + count - 1 of one panel of synthesize_line, and their partners: even plus odd, even minus odd. */
static void unfold(i64 first, i64 count, i64 n, i64 row, i64 width, const float *even, const float *odd, float *low,
                   float *high, int add) {
    const some masks[2] = {lanes(width), lanes(width - LANES)};
    for (i64 r = 0; r < count; r++, low += row, high -= row, even += COLUMNS, odd += COLUMNS)
        for (i64 half = 0; half < 2; half++) {
            const vec e = load(even + half * LANES), o = load(odd + half * LANES);
            float *one = low + half * LANES, *other = high + half * LANES;
            vec value = e + o;
            if (add) value = value + load_some(masks[half], one);
            store_some(one, masks[half], value);
            if (alone(first + r, n)) continue;
            value = e - o;
            if (add) value = value + load_some(masks[half], other);
            store_some(other, masks[half], value);
        }
}

/* to (n, width) = or += cosines^T re (modes, width) + sines^T im; `block` holds block_size(2 modes) numbers. */
static void synthesize_line(i64 n, i64 width, i64 modes, const float *matrix, const float *re, const float *im, i64 step,
                            float *to, i64 row, int add, float *block) {
    const i64 pairs = n / 2 + 1;
    float even[ROWS * COLUMNS] __attribute__((aligned(64))), odd[ROWS * COLUMNS] __attribute__((aligned(64)));
    for (i64 j = 0; j < width; j += STRIP) {
        Tile t = {.a_row = 1, .a_col = n, .b_row = COLUMNS, .c_row = COLUMNS, .k = modes, .first = lanes(LANES),
                  .second = lanes(LANES)};
        for (i64 r = 0; r < 2 * modes; r++)
            for (i64 at = 0; at < STRIP; at += LANES)
                store(block + (at / COLUMNS * 2 * modes + r) * COLUMNS + at % COLUMNS,
                      load_some(lanes(width - j - at), (r < modes ? re + r * step : im + (r - modes) * step) + j + at));
        for (i64 i = 0; i < pairs; i += ROWS) {
            const i64 count = smaller(ROWS, pairs - i);
            float *top = to + i * row + j, *bottom = to + (n - i) * row + j;
            for (i64 r = 0; r < count; r++)
                for (i64 at = 0; at < STRIP; at += LINE) {
                    __builtin_prefetch(top + r * row + at, 1);
                    __builtin_prefetch(bottom - r * row + at, 1);
                }
            for (i64 panel = 0; panel < STRIP && panel < width - j; panel += COLUMNS) {
                t.a = matrix + i, t.b = block + panel * 2 * modes, t.c = even;
                tile(&t, count);
                t.a = matrix + modes * n + i, t.b = block + (panel * 2 + COLUMNS) * modes, t.c = odd;
                tile(&t, count);
                unfold(i, count, n, row, width - j - panel, even, odd, top + panel, bottom + panel, add);
            }
        }
    }
}

/* ---- a real axis, odd wavenumbers apart ------------------------------------------------------------------------------- */

/* Even wavenumbers are those of n / 2 points, s[i] = x[i] + x[i + n/2], and what is left, x[i] - x[i + n/2], is a complex
 * y[i] of q = n / 4 points: with turns e^(2 pi i / n), sum over k = 1 mod 4 of y exp(i j phi), k = 4 j + 1, where k = 3 mod 4
 * are the negative ones. Points i and q - i of y share cosines and sines, modes j and -j do too. A level leaves 3/8 of the
 * products of pairs, two leave 7/32. The tables of a level are cosines and sines of the turns (2, q), then of y (2, count,
 * half); after the last comes the matrix of what is left. */
typedef struct {
    i64 q, half, count; /* points of y; its pairs; its wavenumbers j = 0 ... count - 1 */
    const float *turns, *cosines, *sines;
    Axis even;
} Level;

static Level level_of(const Axis *axis) {
    const i64 q = axis->n / 4, half = q / 2 + 1, count = axis->modes / 4 + 1;
    const float *turns = axis->tables, *cosines = turns + 2 * q, *sines = cosines + count * half;
    return (Level){q, half, count, turns, cosines, sines,
                   {axis->n / 2, (axis->modes + 1) / 2, axis->levels - 1, sines + count * half}};
}

i64 axis_room(const Axis *axis) {
    if (!axis->levels) return block_size(2 * axis->modes);
    const Level at = level_of(axis);
    return 2 * at.q * STRIP + larger(4 * (at.half + at.count) * STRIP + DEPTH * COLUMNS, axis_room(&at.even));
}

/* Point b of y of what lies at `from`, and both points of s. */
typedef struct {
    vec real, imaginary;
} Number;

INLINE Number split_point(const Level *at, i64 b, some mask, const float *from, i64 row, float *s) {
    const i64 q = at->q;
    const vec x0 = load_some(mask, from), x1 = load_some(mask, from + q * row);
    const vec x2 = load_some(mask, from + 2 * q * row), x3 = load_some(mask, from + 3 * q * row);
    const vec p = x0 - x2, r = x1 - x3, c = same(at->turns[b]), d = same(at->turns[q + b]);
    for (i64 a = 0; a < 4; a++) __builtin_prefetch(from + a * q * row + STRIP, 0, 2); /* the next strip */
    store(s, x0 + x2);
    store(s + q * STRIP, x1 + x3);
    return (Number){p * c - r * d, p * d + r * c};
}

/* s (n / 2, STRIP) and y (4, half, STRIP): real even, real odd, imaginary even, imaginary odd, of x (n, width). */
static void split(const Level *at, i64 width, const float *x, i64 row, float *s, float *y) {
    const i64 q = at->q, size = at->half * STRIP;
    for (i64 b = 0; b < at->half; b++)
        for (i64 j = 0; j < width; j += LANES) {
            const some mask = lanes(width - j);
            const Number one = split_point(at, b, mask, x + b * row + j, row, s + b * STRIP + j);
            Number other = {same(0), same(0)};
            if (!alone(b, q)) other = split_point(at, q - b, mask, x + (q - b) * row + j, row, s + (q - b) * STRIP + j);
            float *to = y + b * STRIP + j;
            store(to, one.real + other.real);
            store(to + size, one.real - other.real);
            store(to + 2 * size, one.imaginary + other.imaginary);
            store(to + 3 * size, one.imaginary - other.imaginary);
        }
}

static void analyze_strip(const Axis *axis, i64 width, const float *x, i64 row, float *re, float *im, i64 step,
                          float *room) {
    if (!axis->levels) {
        analyze_line(axis->n, width, axis->modes, axis->tables, x, row, re, im, step, room);
        return;
    }
    const Level at = level_of(axis);
    const i64 wide = pieces(width, LANES) * LANES, size = at.half * STRIP, part = at.count * STRIP;
    float *s = room, *y = s + 2 * at.q * STRIP, *sums = y + 4 * size, *block = sums + 4 * part;
    split(&at, width, x, row, s, y);
    for (i64 i = 0; i < 4; i++)
        multiply(at.count, wide, at.half, i & 1 ? at.sines : at.cosines, at.half, 1, y + i * size, STRIP, sums + i * part,
                 STRIP, SET, block);
    for (i64 c = 0; c < at.count; c++)
        for (i64 j = 0; j < wide; j += LANES) {
            const float *from = sums + c * STRIP + j;
            const vec cr = load(from), sr = load(from + part), ci = load(from + 2 * part), si = load(from + 3 * part);
            const i64 up = 4 * c + 1, down = 4 * c - 1;
            if (up < axis->modes) {
                store_some(re + up * step + j, lanes(width - j), cr - si);
                store_some(im + up * step + j, lanes(width - j), same(0) - (ci + sr));
            }
            if (down > 0 && down < axis->modes) {
                store_some(re + down * step + j, lanes(width - j), cr + si);
                store_some(im + down * step + j, lanes(width - j), ci - sr);
            }
        }
    analyze_strip(&at.even, width, s, STRIP, re, im, 2 * step, y);
}

INLINE void join_point(const Level *at, i64 b, some mask, Number v, const float *s, float *to, i64 row, const int add) {
    const i64 q = at->q;
    const vec c = same(at->turns[b]), d = same(at->turns[q + b]);
    const vec real = v.real * c - v.imaginary * d, imaginary = v.real * d + v.imaginary * c;
    const vec s0 = load(s), s1 = load(s + q * STRIP);
    const vec value[4] = {s0 + real, s1 - imaginary, s0 - real, s1 + imaginary};
    for (i64 a = 0; a < 4; a++) __builtin_prefetch(to + a * q * row + STRIP, 1, 2); /* the next strip */
#pragma GCC unroll 4
    for (int a = 0; a < 4; a++, to += q * row) store_some(to, mask, add ? value[a] + load_some(mask, to) : value[a]);
}

/* x (n, width) = or += what split took apart. */
INLINE void join(const Level *at, i64 width, const float *s, const float *y, float *x, i64 row, const int add) {
    const i64 q = at->q, size = at->half * STRIP;
    for (i64 b = 0; b < at->half; b++)
        for (i64 j = 0; j < width; j += LANES) {
            const some mask = lanes(width - j);
            const float *from = y + b * STRIP + j;
            const vec re = load(from), ro = load(from + size), ie = load(from + 2 * size), io = load(from + 3 * size);
            join_point(at, b, mask, (Number){re + ro, ie + io}, s + b * STRIP + j, x + b * row + j, row, add);
            if (!alone(b, q))
                join_point(at, q - b, mask, (Number){re - ro, ie - io}, s + (q - b) * STRIP + j, x + (q - b) * row + j, row, add);
        }
}

static void synthesize_strip(const Axis *axis, i64 width, const float *re, const float *im, i64 step, float *to, i64 row,
                             int add, float *room) {
    if (!axis->levels) {
        synthesize_line(axis->n, width, axis->modes, axis->tables, re, im, step, to, row, add, room);
        return;
    }
    const Level at = level_of(axis);
    const i64 wide = pieces(width, LANES) * LANES, size = at.half * STRIP, part = at.count * STRIP;
    float *s = room, *y = s + 2 * at.q * STRIP, *sums = y + 4 * size, *block = sums + 4 * part;
    synthesize_strip(&at.even, width, re, im, 2 * step, s, STRIP, 0, y);
    for (i64 c = 0; c < at.count; c++)
        for (i64 j = 0; j < wide; j += LANES) {
            const i64 up = 4 * c + 1, down = 4 * c - 1, plus = up * step + j, minus = down * step + j;
            const some on = up < axis->modes ? lanes(width - j) : 0, off = down > 0 && down < axis->modes ? lanes(width - j) : 0;
            const vec pr = load_some(on, re + plus), pi = load_some(on, im + plus);
            const vec nr = load_some(off, re + minus), ni = load_some(off, im + minus);
            float *into = sums + c * STRIP + j;
            store(into, pr + nr);
            store(into + part, same(0) - (pi + ni));
            store(into + 2 * part, pi - ni);
            store(into + 3 * part, pr - nr);
        }
    for (i64 i = 0; i < 4; i++)
        multiply(at.half, wide, at.count, i & 1 ? at.sines : at.cosines, 1, at.half, sums + i * part, STRIP, y + i * size,
                 STRIP, SET, block);
    if (add) join(&at, width, s, y, to, row, 1);
    else join(&at, width, s, y, to, row, 0);
}

/* ---- a real axis ------------------------------------------------------------------------------------------------------ */

void analyze_columns(const Axis *axis, i64 width, const float *x, i64 row, float *out, i64 step, float *room) {
    float *im = out + axis->modes * step;
    const i64 size = axis->levels ? STRIP : width;
    for (i64 j = 0; j < width; j += size)
        analyze_strip(axis, smaller(size, width - j), x + j, row, out + j, im + j, step, room);
}

void synthesize_columns(const Axis *axis, i64 width, const float *modes, i64 step, float *onto, i64 row, int add,
                        float *room) {
    const float *im = modes + axis->modes * step;
    const i64 size = axis->levels ? STRIP : width;
    for (i64 j = 0; j < width; j += size)
        synthesize_strip(axis, smaller(size, width - j), modes + j, im + j, step, onto + j, row, add, room);
}

void analyze_lines(int threads, i64 lines, const Axis *axis, i64 row, const float *x, float *out) {
#pragma omp parallel num_threads(threads)
    {
        const i64 part = omp_get_thread_num(), parts = omp_get_num_threads(), n = axis->n, kept = 2 * axis->modes;
        float *room = scratch(axis_room(axis));
        i64 first = 0, last = lines, left = 0, right = row;
        if (lines >= parts) range(lines, 1, part, parts, &first, &last);
        else range(row, STRIP, part, parts, &left, &right);
        for (i64 line = first; line < last; line++)
            analyze_columns(axis, right - left, x + line * n * row + left, row, out + line * kept * row + left, row, room);
        free(room);
    }
}

void synthesize_lines(int threads, i64 lines, const Axis *axis, i64 row, const float *modes, float *onto, int add) {
#pragma omp parallel num_threads(threads)
    {
        const i64 part = omp_get_thread_num(), parts = omp_get_num_threads(), n = axis->n, kept = 2 * axis->modes;
        float *room = scratch(axis_room(axis));
        i64 first = 0, last = lines, left = 0, right = row;
        if (lines >= parts) range(lines, 1, part, parts, &first, &last);
        else range(row, STRIP, part, parts, &left, &right);
        for (i64 line = first; line < last; line++)
            synthesize_columns(axis, right - left, modes + line * kept * row + left, row, onto + line * n * row + left, row,
                               add, room);
        free(room);
    }
}

/* lines x [out (kept, row) = matrix x (n, row)]. */
void scifm_analyze_axis(int threads, i64 lines, i64 n, i64 row, i64 kept, i64 levels, const float *tables, const float *x,
                        float *out) {
    const Axis axis = {n, kept / 2, levels, tables};
    analyze_lines(threads, lines, &axis, row, x, out);
}

/* lines x [onto (n, row) += matrix^T modes (kept, row)]. */
void scifm_synthesize_axis(int threads, i64 lines, i64 n, i64 row, i64 kept, i64 levels, const float *tables,
                           const float *modes, float *onto) {
    const Axis axis = {n, kept / 2, levels, tables};
    synthesize_lines(threads, lines, &axis, row, modes, onto, 1);
}

/* ---- transforms of a complex axis ---------------------------------------------------------------------------------- */

/* Modes k and -k share cosines and sines, points i and n - i do too: a quarter of the products. `matrix` (2 (m + 1), n) has
 * the cosines, then the sines, of k = 0 ... m. Modes are (2 parts, 2 m, columns), k = 0 ... m - 1 and then -m ... -1; fields
 * are (n, 2 parts, columns). */

/* For each of `lead`: modes = sum over points of field exp(-i k x). */
void scifm_analyze_complex_axis(int threads, i64 lead, i64 n, i64 columns, i64 m, const float *matrix,
                                const float *fields, float *modes) {
    const i64 kept = 2 * (m + 1), panels = pieces(columns, STRIP), part_size = 2 * m * columns;
#pragma omp parallel num_threads(threads)
    {
        float *block = scratch(block_size(kept)), *sums = scratch(2 * kept * STRIP);
        const float *cos_re = sums, *sin_re = cos_re + (m + 1) * STRIP;
        const float *cos_im = sin_re + (m + 1) * STRIP, *sin_im = cos_im + (m + 1) * STRIP;
#pragma omp for schedule(static)
        for (i64 item = 0; item < lead * panels; item++) {
            const i64 j = item % panels * STRIP, width = smaller(STRIP, columns - j);
            const float *from = fields + item / panels * n * 2 * columns + j;
            float *re = modes + item / panels * 2 * part_size + j, *im = re + part_size;
            for (i64 part = 0; part < 2; part++)
                analyze_line(n, width, m + 1, matrix, from + part * columns, 2 * columns, sums + part * kept * STRIP,
                             sums + (part * kept + m + 1) * STRIP, STRIP, block);
            for (i64 k = 0; k <= m; k++)
                for (i64 half = 0; half < width; half += LANES) {
                    const i64 at = k * STRIP + half, plus = k * columns + half, minus = (2 * m - k) * columns + half;
                    const some mask = lanes(width - half);
                    const vec cr = load(cos_re + at), sr = load(sin_re + at);
                    const vec ci = load(cos_im + at), si = load(sin_im + at);
                    if (k < m) {
                        store_some(re + plus, mask, cr + si);
                        store_some(im + plus, mask, ci - sr);
                    }
                    if (k > 0) {
                        store_some(re + minus, mask, cr - si);
                        store_some(im + minus, mask, ci + sr);
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
    const i64 kept = 2 * (m + 1), panels = pieces(columns, STRIP), part_size = 2 * m * columns;
#pragma omp parallel num_threads(threads)
    {
        float *block = scratch(block_size(kept)), *sums = scratch(2 * kept * STRIP);
        float *cos_re = sums, *sin_re = cos_re + (m + 1) * STRIP;
        float *cos_im = sin_re + (m + 1) * STRIP, *sin_im = cos_im + (m + 1) * STRIP;
#pragma omp for schedule(static)
        for (i64 item = 0; item < lead * panels; item++) {
            const i64 j = item % panels * STRIP, width = smaller(STRIP, columns - j);
            const float *re = modes + item / panels * 2 * part_size + j, *im = re + part_size;
            float *to = fields + item / panels * n * 2 * columns + j;
            for (i64 k = 0; k <= m; k++)
                for (i64 half = 0; half < STRIP; half += LANES) {
                    const i64 at = k * STRIP + half, plus = k * columns + half, minus = (2 * m - k) * columns + half;
                    const some up = k < m ? lanes(width - half) : 0, down = k > 0 ? lanes(width - half) : 0;
                    const vec pr = load_some(up, re + plus), pi = load_some(up, im + plus);
                    const vec nr = load_some(down, re + minus), ni = load_some(down, im + minus);
                    store(cos_re + at, pr + nr);
                    store(cos_im + at, pi + ni);
                    store(sin_re + at, ni - pi);
                    store(sin_im + at, pr - nr);
                }
            for (i64 part = 0; part < 2; part++)
                synthesize_line(n, width, m + 1, matrix, sums + part * kept * STRIP, sums + (part * kept + m + 1) * STRIP,
                                STRIP, to + part * columns, 2 * columns, 0, block);
        }
        free(block);
        free(sums);
    }
}
