/* Transforms of a Fourier layer, the mixing of its modes, and its end. */
#include "products.h"

/* ---- transforms of a real axis ------------------------------------------------------------------------------------- */

/* A matrix (kept, n) of a real axis has kept / 2 rows of cosines, which are even about point 0, and as many of sines,
 * which are odd: what differs between points i and n - i. Points are folded in pairs, which halves the products. Points
 * 0 and n / 2 have no partner. */
static inline int alone(i64 point, i64 n) { return point == 0 || 2 * point == n; }

/* Columns folded at a time, whole lines of a cache side by side: rows may lie so far apart that all fall on one place of
 * a cache, and a line must be used up before the next comes. Panels of COLUMNS lie one after the other. */
enum { STRIP = COLUMNS > 2 * LINE ? COLUMNS : 2 * LINE, FOLDED = DEPTH / 2 + 1 /* pairs, so that n = 2^k needs no rest */ };

static i64 block_size(i64 kept) { return larger(2 * FOLDED, kept) * STRIP; }

/* out (kept, width) = matrix x (n, width); rows lie `row` and `out_row` apart. */
static void analyze_line(i64 n, i64 width, i64 kept, const float *matrix, const float *x, i64 row, float *out,
                         i64 out_row, float *block) {
    const i64 pairs = n / 2 + 1, each = kept / 2, deep = pieces(pairs, larger(1, pieces(pairs - 1, FOLDED - 1)));
    float *odd = block + deep * STRIP;
    for (i64 j = 0; j < width; j += STRIP) {
        Tile t = {.a_row = n, .a_col = 1, .b_row = COLUMNS, .c_row = out_row};
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
                    for (i64 i = 0; i < each; i += ROWS) {
                        t.a = matrix + (sines * each + i) * n + top;
                        t.b = (sines ? odd : block) + panel * deep;
                        t.c = out + (sines * each + i) * out_row + j + panel;
                        tile(&t, smaller(ROWS, each - i));
                    }
            }
        }
    }
}

/* Rows first ... first + count - 1 of one panel of synthesize_pairs, and their partners: even plus odd, even minus odd. */
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

/* Add to (or set) the rows of points first ... end - 1 and of their partners what matrix^T modes (kept, width) has
 * there. `low` is the row of point `first`, `high` that of point n - end + 1; `row` numbers lie between rows, `modes_row`
 * between those of modes; `block` holds block_size(kept) numbers. */
static void synthesize_pairs(i64 first, i64 end, i64 n, i64 row, i64 width, i64 kept, const float *matrix,
                             const float *modes, i64 modes_row, float *low, float *high, int add, float *block) {
    const i64 each = kept / 2;
    float even[ROWS * COLUMNS] __attribute__((aligned(64))), odd[ROWS * COLUMNS] __attribute__((aligned(64)));
    for (i64 j = 0; j < width; j += STRIP) {
        Tile t = {.a_row = 1, .a_col = n, .b_row = COLUMNS, .c_row = COLUMNS, .k = each, .first = lanes(LANES),
                  .second = lanes(LANES)};
        for (i64 r = 0; r < kept; r++)
            for (i64 at = 0; at < STRIP; at += LANES)
                store(block + (at / COLUMNS * kept + r) * COLUMNS + at % COLUMNS,
                      load_some(lanes(width - j - at), modes + r * modes_row + j + at));
        for (i64 i = first; i < end; i += ROWS) {
            const i64 count = smaller(ROWS, end - i);
            float *top = low + (i - first) * row + j, *bottom = high + (end - 1 - i) * row + j;
            for (i64 r = 0; r < count; r++)
                for (i64 at = 0; at < STRIP; at += LINE) {
                    __builtin_prefetch(top + r * row + at, 1);
                    __builtin_prefetch(bottom - r * row + at, 1);
                }
            for (i64 panel = 0; panel < STRIP && panel < width - j; panel += COLUMNS) {
                t.a = matrix + i, t.b = block + panel * kept, t.c = even;
                tile(&t, count);
                t.a = matrix + each * n + i, t.b = block + panel * kept + each * COLUMNS, t.c = odd;
                tile(&t, count);
                unfold(i, count, n, row, width - j - panel, even, odd, top + panel, bottom + panel, add);
            }
        }
    }
}

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
                analyze_line(n, width, kept, matrix, from + part * columns, 2 * columns, sums + part * kept * STRIP,
                             STRIP, block);
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
    const i64 kept = 2 * (m + 1), panels = pieces(columns, STRIP), part_size = 2 * m * columns, pairs = n / 2 + 1;
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
            for (i64 part = 0; part < 2; part++) {
                float *low = to + part * columns;
                synthesize_pairs(0, pairs, n, 2 * columns, width, kept, matrix, sums + part * kept * STRIP, STRIP,
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
                    const some mask = lanes(total - i);
                    vec value = load_some(mask, parts[half] + i);
                    if (activation) value = gelu(value);
                    if (residual) value = value + load_some(mask, x + offset * ci + i);
                    store_some(out + offset * co + i, mask, value);
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
            const some mask = lanes(total - i);
            const vec slope = gelu_slope(load_some(mask, at + i));
            store_some(room + i, mask, slope * load_some(mask, up + i));
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
        float *block = scratch(block_size(kept)), *room = scratch(size * row);
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
