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

/* Lines that fit the second-level cache go through all of it while they lie there. Longer ones do so in pieces of points,
 * all samples and channels of which lie together, and the transform, which takes all points of a few columns, goes apart. */
static i64 points_at_a_time(i64 points, i64 row) { return points * row <= PIECE ? points : larger(1, PIECE / 2 / row); }

/* at (lines, points, batch, co) = x (lines, points, batch, ci) skip_t (ci, co) + last^T modes; out = gelu(at) or at, plus x
 * where `residual`. `last` is an axis of `levels` and `tables`, `modes` (lines, kept, batch co). `before`, where at is
 * stored, may be absent. */
void scifm_layer_end(int threads, i64 lines, i64 points, i64 batch, i64 ci, i64 co, i64 kept, i64 levels, const float *x,
                     const float *skip_t, const float *tables, const float *modes, float *before, float *out,
                     i64 activation, i64 residual) {
    const Axis last = {points, kept / 2, levels, tables};
    const i64 row = batch * co, size = points_at_a_time(points, row), chunks = pieces(points, size);
    if (chunks > 1) synthesize_lines(threads, lines, &last, row, modes, out, 0);
#pragma omp parallel num_threads(threads)
    {
        float *block = scratch(DEPTH * COLUMNS), *room = scratch(axis_room(&last)), *at = scratch(size * row);
#pragma omp for schedule(static)
        for (i64 item = 0; item < lines * chunks; item++) {
            const i64 line = item / chunks, first = item % chunks * size, count = smaller(size, points - first);
            const i64 start = (line * points + first) * batch, total = count * row;
            float *to = out + start * co;
            multiply(count * batch, co, ci, x + start * ci, ci, 1, skip_t, co, at, co, SET, block);
            if (chunks == 1) synthesize_columns(&last, row, modes + line * kept * row, row, at, row, 1, room);
            else
                for (i64 i = 0; i < total; i++) at[i] += to[i];
            if (before) stream(before + start * co, at, total);
            for (i64 i = 0; i < total; i += LANES) {
                const some mask = lanes(total - i);
                vec value = load_some(mask, at + i);
                if (activation) value = gelu(value);
                if (residual) value = value + load_some(mask, x + start * ci + i);
                store_some(to + i, mask, value);
            }
        }
        streamed();
        free(block);
        free(room);
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
 * spectrum (lines, kept, batch co) = last grad. `skip` and `grad_skip` are (co, ci). `grad_x` may be absent. So may `grad`,
 * where each line of it then passes through; where it is given, (lines, points, batch, co), it is stored on the way. */
void scifm_layer_end_gradient(int threads, i64 lines, i64 points, i64 batch, i64 ci, i64 co, i64 kept, i64 levels,
                              const float *above, const float *before, const float *x, const float *skip,
                              const float *tables, float *grad, float *spectrum, float *grad_x, float *grad_skip,
                              i64 residual) {
    const Axis last = {points, kept / 2, levels, tables};
    const Above p = {ci, co, above, before, x, skip, grad_x, residual};
    const i64 row = batch * co, size = grad ? points_at_a_time(points, row) : points, chunks = pieces(points, size);
    float *sums = zeros(threads * ci * co);
#pragma omp parallel num_threads(threads)
    {
        float *block = scratch(DEPTH * COLUMNS), *room = scratch(axis_room(&last)), *made = scratch(grad ? 1 : size * row);
        float *sum = sums + omp_get_thread_num() * ci * co;
        i64 from, to;
        range(lines * chunks, 1, omp_get_thread_num(), omp_get_num_threads(), &from, &to);
        for (i64 item = from; item < to; item++) {
            const i64 line = item / chunks, first = item % chunks * size, count = smaller(size, points - first);
            const i64 start = (line * points + first) * batch;
            const float *g = piece_of_gradient(&p, start, count * batch, grad ? grad + start * co : made, sum, block);
            if (!grad) analyze_columns(&last, row, g, row, spectrum + line * kept * row, row, room);
        }
        free(block);
        free(room);
        free(made);
    }
    add_up(threads, ci * co, sums, grad_skip);
    if (grad) analyze_lines(threads, lines, &last, row, before ? grad : above, spectrum);
}
