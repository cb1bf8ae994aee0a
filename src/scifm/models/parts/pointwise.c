/* What works on each point, or each channel, by itself: lift, projection, depthwise convolutions, ConvNeXt blocks. */
#include "products.h"

/* ---- the lift ---------------------------------------------------------------------------------------------------- */

/* out (points, batch, width) = x (points, batch, fields) weight_t (fields, width) + bias (batch, width). */
void scifm_lift(int threads, i64 points, i64 batch, i64 fields, i64 width, const float *x, const float *weight_t,
                const float *bias, float *out) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (i64 point = 0; point < points; point++)
        for (i64 sample = 0; sample < batch; sample++) {
            const i64 row = point * batch + sample;
            for (i64 j = 0; j < width; j += LANES) {
                const some mask = lanes(width - j);
                vec sum = load_some(mask, bias + sample * width + j);
                for (i64 f = 0; f < fields; f++)
                    sum = same(x[row * fields + f]) * load_some(mask, weight_t + f * width + j) + sum;
                store_some(out + row * width + j, mask, sum);
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
                const some mask = lanes(hidden - j);
                const vec bias = load_some(mask, first_bias + j);
                for (i64 i = 0; i < count; i++) {
                    float *at = h + i * hidden + j;
                    store_some(at, mask, gelu(load_some(mask, at) + bias));
                }
            }
            for (i64 i = 0; i < count; i++)
                for (i64 o = 0; o < co; o++) {
                    vec sum = same(0);
                    for (i64 j = 0; j < hidden; j += LANES) {
                        const some mask = lanes(hidden - j);
                        sum = load_some(mask, h + i * hidden + j) * load_some(mask, last + o * hidden + j) + sum;
                    }
                    out[(start + i) * co + o] = total(sum) + last_bias[o];
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
                const some mask = lanes(hidden - j);
                const vec bias = load_some(mask, first_bias + j);
                vec sum = load_some(mask, sum_bias + j);
                for (i64 i = 0; i < count; i++) {
                    const vec value = load_some(mask, h + i * hidden + j) + bias;
                    const Both at = share_and_slope(value);
                    const vec active = value * at.share;
                    vec down = same(0);
                    for (i64 o = 0; o < co; o++) {
                        const vec scale = same(g[i * co + o]);
                        float *to = sum_last + o * hidden + j;
                        store_some(to, mask, scale * active + load_some(mask, to));
                        down = scale * load_some(mask, last + o * hidden + j) + down;
                    }
                    down = down * at.slope;
                    sum = sum + down;
                    store_some(h + i * hidden + j, mask, down);
                }
                store_some(sum_bias + j, mask, sum);
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
    some mask;
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
                                                           const float *tap, vec first, float *to) {
    const i64 channels = s->channels;
    vec sum[8];
#pragma GCC unroll 8
    for (int i = 0; i < count; i++) sum[i] = first;
    for (i64 i = 0; i < s->kz; i++)
        for (i64 j = 0; j < s->ky; j++) {
            const float *x = from + (i * s->high + j) * s->wide * channels;
            for (i64 k = 0; k < s->kx; k++, x += channels, tap += channels) {
                const vec weight = load_some(s->mask, tap);
#pragma GCC unroll 8
                for (int p = 0; p < count; p++)
                    sum[p] = load_some(s->mask, x + p * channels) * weight + sum[p];
            }
        }
#pragma GCC unroll 8
    for (int i = 0; i < count; i++) store_some(to + i * channels, s->mask, sum[i]);
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
            const vec first = bias ? load_some(s.mask, bias + c) : same(0);
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
    vec sum[8];
#pragma GCC unroll 8
    for (int k = 0; k < count; k++) sum[k] = load_some(s->mask, to + k * channels);
    for (i64 p = 0; p < s->nx; p++, x += channels, grad += channels) {
        const vec g = load_some(s->mask, grad);
#pragma GCC unroll 8
        for (int k = 0; k < count; k++)
            sum[k] = load_some(s->mask, x + k * channels) * g + sum[k];
    }
#pragma GCC unroll 8
    for (int k = 0; k < count; k++) store_some(to + k * channels, s->mask, sum[k]);
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
                vec sum = load_some(s.mask, to);
                for (i64 i = 0; i < nx; i++) sum = sum + load_some(s.mask, g + i * channels);
                store_some(to, s.mask, sum);
            }
    }
    add_up(threads, all, sums, grads);
}

/* ---- the pointwise half of a ConvNeXt block ----------------------------------------------------------------------- */

/* normal = (x - mean) / size over the channels of each row, and h = normal * scale + shift; `sizes` gets 1 / size. */
static void normalize(i64 rows, i64 channels, const float *x, const float *scale, const float *shift, float *normal,
                      float *h, float *sizes) {
    for (i64 i = 0; i < rows; i++, x += channels, normal += channels, h += channels) {
        vec sum = same(0), square = same(0);
        for (i64 c = 0; c < channels; c += LANES)
            sum = sum + load_some(lanes(channels - c), x + c);
        const float mean = total(sum) / (float)channels;
        for (i64 c = 0; c < channels; c += LANES) {
            const some mask = lanes(channels - c);
            const vec off = only(mask, load_some(mask, x + c) - mean);
            store_some(normal + c, mask, off);
            square = off * off + square;
        }
        sizes[i] = 1 / sqrtf(total(square) / (float)channels + 1e-5f);
        for (i64 c = 0; c < channels; c += LANES) {
            const some mask = lanes(channels - c);
            const vec value = load_some(mask, normal + c) * same(sizes[i]);
            store_some(normal + c, mask, value);
            store_some(h + c, mask, value * load_some(mask, scale + c) + load_some(mask, shift + c));
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
                const some mask = lanes(hidden - j);
                const vec bias = load_some(mask, first_bias + j);
                for (i64 i = 0; i < count; i++) {
                    float *at = middle + i * hidden + j;
                    store_some(at, mask, gelu(load_some(mask, at) + bias));
                }
            }
            for (i64 c = 0; c < channels; c += LANES) {
                const some mask = lanes(channels - c);
                const vec bias = load_some(mask, last_bias + c);
                for (i64 i = 0; i < count; i++) {
                    const i64 at = place + i * channels + c;
                    store_some(out + at, mask, load_some(mask, x + at) + bias);
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
        vec sum = same(0), along = same(0);
        for (i64 c = 0; c < channels; c += LANES) {
            const some mask = lanes(channels - c);
            const vec n = load_some(mask, normal + c), up = load_some(mask, h + c);
            const vec of_n = up * load_some(mask, scale + c);
            sum = sum + of_n;
            along = of_n * n + along;
            store_some(grad_scale + c, mask, up * n + load_some(mask, grad_scale + c));
            store_some(grad_shift + c, mask, up + load_some(mask, grad_shift + c));
        }
        const vec mean = same(total(sum) / (float)channels);
        const vec slope = same(total(along) / (float)channels);
        for (i64 c = 0; c < channels; c += LANES) {
            const some mask = lanes(channels - c);
            const vec up = load_some(mask, h + c);
            vec of_n = up * load_some(mask, scale + c) - mean;
            of_n = of_n - load_some(mask, normal + c) * slope;
            store_some(grad + c, mask, of_n * same(sizes[i]));
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
                const some mask = lanes(hidden - j);
                const vec bias = load_some(mask, first_bias + j);
                vec sum = load_some(mask, of_first_bias + j);
                for (i64 i = 0; i < count; i++) {
                    float *at = middle + i * hidden + j, *to = down + i * hidden + j;
                    const vec value = load_some(mask, at) + bias;
                    const Both of = share_and_slope(value);
                    const vec up = load_some(mask, to) * of.slope;
                    store_some(at, mask, value * of.share);
                    store_some(to, mask, up);
                    sum = sum + up;
                }
                store_some(of_first_bias + j, mask, sum);
            }
            for (i64 c = 0; c < channels; c += LANES) {
                const some mask = lanes(channels - c);
                vec sum = load_some(mask, of_last_bias + c);
                for (i64 i = 0; i < count; i++) sum = sum + load_some(mask, g + i * channels + c);
                store_some(of_last_bias + c, mask, sum);
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
