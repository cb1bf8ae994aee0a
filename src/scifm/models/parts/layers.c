/* Fourier layers: the mixing of modes, and the end of a layer. */
#include "transforms.h"

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
        streamed();
        free(block);
        free(made);
        free(z);
        free(z_t);
    }
}

/* ---- the end of a layer: last axis of the inverse transform, skip, activation, residual --------------------------- */

/* A piece of work is a line of points and as many samples as keep it in the second-level cache: `count` of them, the first
 * at `x`. All samples of a line lie one after the other, so that its points and samples are rows of one product. */
typedef struct {
    i64 points, batch, count;
} Piece;

static i64 samples_of_piece(i64 points, i64 batch, i64 channels) {
    return pieces(batch, pieces(batch, larger(1, PIECE / (points * channels))));
}

/* at (points, count, co) = x (points, batch, ci) weight (ci, co), or += where `how` says so. */
static void apply(const Piece *p, i64 ci, i64 co, const float *x, i64 x_batch, const float *weight, float *at, i64 at_batch,
                  int how, float *block) {
    if (p->count == p->batch) {
        multiply(p->points * p->batch, co, ci, x, ci, 1, weight, co, at, co, how, block);
        return;
    }
    for (i64 s = 0; s < p->count; s++)
        multiply(p->points, co, ci, x + s * ci, x_batch * ci, 1, weight, co, at + s * co, at_batch * co, how, block);
}

/* at (lines, points, batch, co) = x (lines, points, batch, ci) skip_t (ci, co) + last^T modes; out = gelu(at) or at, plus x
 * where `residual`. `last` is an axis of `levels` and `tables`, `modes` (lines, kept, batch co). `before`, where at is
 * stored, may be absent. */
void scifm_layer_end(int threads, i64 lines, i64 points, i64 batch, i64 ci, i64 co, i64 kept, i64 levels, const float *x,
                     const float *skip_t, const float *tables, const float *modes, float *before, float *out,
                     i64 activation, i64 residual) {
    const Axis last = {points, kept / 2, levels, tables};
    const i64 row = batch * co, size = samples_of_piece(points, batch, co), groups = pieces(batch, size);
#pragma omp parallel num_threads(threads)
    {
        float *block = scratch(DEPTH * COLUMNS), *room = scratch(axis_room(&last)), *at = scratch(points * size * co);
#pragma omp for schedule(static)
        for (i64 item = 0; item < lines * groups; item++) {
            const i64 line = item / groups, first = item % groups * size, start = line * points * batch + first;
            const Piece p = {points, batch, smaller(size, batch - first)};
            const i64 wide = p.count * co, whole = p.count == batch;
            apply(&p, ci, co, x + start * ci, batch, skip_t, at, p.count, SET, block);
            synthesize_columns(&last, wide, modes + line * kept * row + first * co, row, at, wide, room);
            for (i64 point = 0; point < (whole ? 1 : points); point++) {
                const i64 run = whole ? points * row : wide, offset = start * co + point * row;
                const float *from = at + point * wide;
                if (before) stream(before + offset, from, run);
                for (i64 i = 0; i < run; i += LANES) {
                    const some mask = lanes(run - i);
                    vec value = load_some(mask, from + i);
                    if (activation) value = gelu(value);
                    if (residual) value = value + load_some(mask, x + offset + i);
                    store_some(out + offset + i, mask, value);
                }
            }
        }
        streamed();
        free(block);
        free(room);
        free(at);
    }
}

/* grad = above * gelu'(before) (or above), grad_x = grad skip (+ above where `residual`), grad_skip = grad^T x and
 * spectrum (lines, kept, batch co) = last grad. `skip` and `grad_skip` are (co, ci); `grad_x` may be absent. */
void scifm_layer_end_gradient(int threads, i64 lines, i64 points, i64 batch, i64 ci, i64 co, i64 kept, i64 levels,
                              const float *above, const float *before, const float *x, const float *skip,
                              const float *tables, float *spectrum, float *grad_x, float *grad_skip, i64 residual) {
    const Axis last = {points, kept / 2, levels, tables};
    const i64 row = batch * co, size = samples_of_piece(points, batch, co), groups = pieces(batch, size);
    float *sums = zeros(threads * ci * co);
#pragma omp parallel num_threads(threads)
    {
        float *block = scratch(DEPTH * COLUMNS), *room = scratch(axis_room(&last)), *made = scratch(points * size * co);
        float *sum = sums + omp_get_thread_num() * ci * co;
        i64 from, to;
        range(lines * groups, 1, omp_get_thread_num(), omp_get_num_threads(), &from, &to);
        for (i64 item = from; item < to; item++) {
            const i64 line = item / groups, first = item % groups * size, start = line * points * batch + first;
            const Piece p = {points, batch, smaller(size, batch - first)};
            const i64 wide = p.count * co, whole = p.count == batch;
            const i64 rows = whole ? 1 : points, run = whole ? points * row : wide;
            const float *g = above + start * co, *in = x + start * ci;
            i64 samples = batch; /* between two points of g */
            if (before) {
                for (i64 point = 0; point < rows; point++) {
                    const float *at = before + start * co + point * row, *up = above + start * co + point * row;
                    for (i64 i = 0; i < run; i += LANES) {
                        const some mask = lanes(run - i);
                        const vec slope = gelu_slope(load_some(mask, at + i));
                        store_some(made + point * wide + i, mask, slope * load_some(mask, up + i));
                    }
                }
                g = made, samples = p.count;
            }
            if (whole) multiply(co, ci, points * batch, g, 1, co, in, ci, sum, ci, ADD, block);
            else
                for (i64 s = 0; s < p.count; s++)
                    multiply(co, ci, points, g + s * co, 1, samples * co, in + s * ci, batch * ci, sum, ci, ADD, block);
            if (grad_x) {
                float *back = grad_x + start * ci;
                for (i64 point = 0; residual && point < rows; point++)
                    memcpy(back + point * row, above + start * co + point * row, (size_t)run * sizeof(float));
                apply(&p, co, ci, g, samples, skip, back, batch, residual ? ADD : SET, block);
            }
            analyze_columns(&last, wide, g, samples * co, spectrum + line * kept * row + first * co, row, room);
        }
        free(block);
        free(room);
        free(made);
    }
    add_up(threads, ci * co, sums, grad_skip);
}
