/* A stage of patches: a product, and a scale and a shift of each sample behind it; see stages.py. */
#include "tokens.h"

/* Rows worked on at a time. */
static inline i64 stage_rows(i64 rows, i64 k, i64 n) { return smaller(rows, larger(1, PIECE / 4 / larger(k, n) / ROWS) * ROWS); }

/* made (batch, rows, n) = x (batch, rows, k) weight_t (k, n), and out = made scale (batch, n) + shift (batch, n), or gelu of
 * that where `active`. */
void scifm_stage(int threads, i64 batch, i64 rows, i64 k, i64 n, const float *x, const float *weight_t, const float *scale,
                 const float *shift, i64 active, float *made, float *out) {
    const i64 size = stage_rows(rows, k, n), chunks = pieces(rows, size);
#pragma omp parallel num_threads(threads)
    {
        float *block = scratch(DEPTH * COLUMNS);
#pragma omp for schedule(static)
        for (i64 item = 0; item < batch * chunks; item++) {
            const i64 b = item / chunks, start = item % chunks * size, count = smaller(size, rows - start), at = b * rows + start;
            multiply(count, n, k, x + at * k, k, 1, weight_t, n, made + at * n, n, SET, block);
            for (i64 j = 0; j < n; j += LANES) {
                const some mask = lanes(n - j);
                const vec by = load_some(mask, scale + b * n + j), to = load_some(mask, shift + b * n + j);
                for (i64 i = at; i < at + count; i++) {
                    const vec value = load_some(mask, made + i * n + j) * by + to;
                    store_some(out + i * n + j, mask, active ? gelu(value) : value);
                }
            }
        }
        free(block);
    }
}

/* Gradients of scifm_stage: of_x, which may be absent, and one after the other in `grads` those of weight_t, scale, shift. */
void scifm_stage_gradients(int threads, i64 batch, i64 rows, i64 k, i64 n, const float *x, const float *weight_t,
                           const float *scale, const float *shift, i64 active, const float *made, const float *grad,
                           float *of_x, float *grads) {
    const i64 size = stage_rows(rows, k, n), chunks = pieces(rows, size), all = k * n + 2 * batch * n;
    float *sums = zeros(threads * all), *weight = scratch(n * k);
    if (of_x) turn(k, n, weight_t, n, weight, k);
#pragma omp parallel num_threads(threads)
    {
        float *block = scratch(DEPTH * COLUMNS), *up = scratch(size * n);
        float *of_weight = sums + omp_get_thread_num() * all, *of_scale = of_weight + k * n, *of_shift = of_scale + batch * n;
#pragma omp for schedule(static)
        for (i64 item = 0; item < batch * chunks; item++) {
            const i64 b = item / chunks, start = item % chunks * size, count = smaller(size, rows - start), at = b * rows + start;
            for (i64 j = 0; j < n; j += LANES) {
                const some mask = lanes(n - j);
                const vec by = load_some(mask, scale + b * n + j), to = load_some(mask, shift + b * n + j);
                vec along = load_some(mask, of_scale + b * n + j), sum = load_some(mask, of_shift + b * n + j);
                for (i64 i = 0; i < count; i++) {
                    const i64 here = (at + i) * n + j;
                    const vec value = load_some(mask, made + here);
                    vec g = load_some(mask, grad + here);
                    if (active) g = g * gelu_slope(value * by + to);
                    along = g * value + along;
                    sum = sum + g;
                    store_some(up + i * n + j, mask, g * by);
                }
                store_some(of_scale + b * n + j, mask, along);
                store_some(of_shift + b * n + j, mask, sum);
            }
            multiply(k, n, count, x + at * k, 1, k, up, n, of_weight, n, ADD, block);
            if (of_x) multiply(count, k, n, up, n, 1, weight, k, of_x + at * k, k, SET, block);
        }
        free(block);
        free(up);
    }
    free(weight);
    add_up(threads, all, sums, grads);
}
