/* Long Expressive Memory, all steps of a sequence; see recurrence.py, which says the equations.
 *
 * A step is two small products and a few pointwise maps on (batch, width): torch spends its time on calling them. Here a
 * thread takes some samples through all steps; what the steps made is kept for the way back, where only the two products
 * with the state go from step to step. Gradients of weights are products over all steps, left to torch.
 */
#include "products.h"

/* tanh to a few units of the last place: near zero an odd polynomial (Cephes), else by an exponential. */
static inline vec hyperbolic_tangent(vec x) {
    const vec size = (vec)((ints)x & 0x7fffffff), square = x * x;
    const float numbers[4] = {2.06390887954e-2f, -5.37397155531e-2f, 1.33314422036e-1f, -3.33332819422e-1f};
    vec near = same(-5.70498872745e-3f);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) near = near * square + numbers[i];
    near = near * square * x + x;
    const vec e = exponential(size * -2.0f);
    const vec far = (vec)((ints)((1.0f - e) / (1.0f + e)) | ((ints)x & (int)0x80000000));
    return choose(below(size, same(0.625f)), near, far);
}

static inline vec logistic(vec x) {
    const vec e = exponential((vec)((ints)x | (int)0x80000000)); /* of -|x| */
    const vec share = 1.0f / (1.0f + e);
    return choose(below(x, same(0.0f)), e * share, share);
}

/* For each of `steps`: u (batch, 4 width), what the input adds to the step size of z, to that of y, to the new z and to the
 * new y, becomes the two logistic functions and the two hyperbolic tangents that are made of it. Of states (steps + 1,
 * batch, width) the first is given. `slow` is (width, 3 width), `fast` (width, width): both transposed. */
void scifm_lem(int threads, i64 steps, i64 batch, i64 width, const float *time_step, const float *slow, const float *fast,
               float *u, float *z, float *y) {
    const i64 all = batch * width, four = 4 * width;
    const vec dt = same(*time_step);
#pragma omp parallel num_threads(threads)
    {
        float *block = scratch(DEPTH * COLUMNS);
        i64 first, last;
        range(batch, 1, omp_get_thread_num(), omp_get_num_threads(), &first, &last);
        const i64 rows = last - first;
        for (i64 step = 0; rows && step < steps; step++) {
            float *at = u + (step * batch + first) * four, *z0 = z + step * all + first * width, *z1 = z0 + all;
            float *y0 = y + step * all + first * width, *y1 = y0 + all;
            multiply(rows, 3 * width, width, y0, width, 1, slow, 3 * width, at, four, ADD, block);
            for (i64 i = 0; i < rows; i++)
                for (i64 j = 0; j < width; j += LANES) {
                    const some on = lanes(width - j);
                    float *here = at + i * four + j;
                    const vec gate = logistic(load_some(on, here)), other = logistic(load_some(on, here + width));
                    const vec made = hyperbolic_tangent(load_some(on, here + 2 * width)), was = load_some(on, z0 + i * width + j);
                    store_some(here, on, gate);
                    store_some(here + width, on, other);
                    store_some(here + 2 * width, on, made);
                    store_some(z1 + i * width + j, on, was + dt * gate * (made - was));
                }
            multiply(rows, width, width, z1, width, 1, fast, width, at + 3 * width, four, ADD, block);
            for (i64 i = 0; i < rows; i++)
                for (i64 j = 0; j < width; j += LANES) {
                    const some on = lanes(width - j);
                    float *here = at + i * four + j;
                    const vec gate = load_some(on, here + width), made = hyperbolic_tangent(load_some(on, here + 3 * width));
                    const vec was = load_some(on, y0 + i * width + j);
                    store_some(here + 3 * width, on, made);
                    store_some(y1 + i * width + j, on, was + dt * gate * (made - was));
                }
        }
        free(block);
    }
}

/* The gradient of scifm_lem with respect to u (in place of what was made of it), and to the first states: `grad` (steps,
 * batch, width) is that of every y, `grad_z` and `grad_y` (batch, width) that of the last states on entry, of the first on
 * return. `slow` is (3 width, width), `fast` (width, width): as they are. */
void scifm_lem_gradient(int threads, i64 steps, i64 batch, i64 width, const float *time_step, const float *slow,
                        const float *fast, const float *grad, const float *z, const float *y, float *u, float *grad_z,
                        float *grad_y) {
    const i64 all = batch * width, four = 4 * width;
    const vec dt = same(*time_step);
#pragma omp parallel num_threads(threads)
    {
        float *block = scratch(DEPTH * COLUMNS);
        i64 first, last;
        range(batch, 1, omp_get_thread_num(), omp_get_num_threads(), &first, &last);
        const i64 rows = last - first;
        float *dz = grad_z + first * width, *dy = grad_y + first * width;
        for (i64 step = steps - 1; rows && step >= 0; step--) {
            float *at = u + (step * batch + first) * four;
            const float *above = grad + step * all + first * width;
            const float *z0 = z + step * all + first * width, *y0 = y + step * all + first * width;
            for (i64 i = 0; i < rows; i++)
                for (i64 j = 0; j < width; j += LANES) {
                    const some on = lanes(width - j);
                    const i64 place = i * width + j;
                    float *here = at + i * four + j;
                    const vec gate = load_some(on, here + width), made = load_some(on, here + 3 * width);
                    const vec down = load_some(on, dy + place) + load_some(on, above + place);
                    const vec share = dt * gate, slope = gate * (1.0f - gate);
                    store_some(here + 3 * width, on, down * share * (1.0f - made * made));
                    store_some(here + width, on, down * dt * (made - load_some(on, y0 + place)) * slope);
                    store_some(dy + place, on, down - down * share);
                }
            multiply(rows, width, width, at + 3 * width, four, 1, fast, width, dz, width, ADD, block);
            for (i64 i = 0; i < rows; i++)
                for (i64 j = 0; j < width; j += LANES) {
                    const some on = lanes(width - j);
                    const i64 place = i * width + j;
                    float *here = at + i * four + j;
                    const vec gate = load_some(on, here), made = load_some(on, here + 2 * width);
                    const vec down = load_some(on, dz + place), share = dt * gate, slope = gate * (1.0f - gate);
                    store_some(here + 2 * width, on, down * share * (1.0f - made * made));
                    store_some(here, on, down * dt * (made - load_some(on, z0 + place)) * slope);
                    store_some(dz + place, on, down - down * share);
                }
            multiply(rows, width, 3 * width, at, four, 1, slow, width, dy, width, ADD, block);
        }
        free(block);
    }
}
