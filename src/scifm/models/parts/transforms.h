/* A real axis, as transforms.c and layers.c know it. */
#ifndef SCIFM_TRANSFORMS_H
#define SCIFM_TRANSFORMS_H

#include "products.h"

/* `levels` times the odd wavenumbers are done apart; `spectral` makes the tables. Without levels they are one matrix,
 * (2 modes, n): cosines of the wavenumbers 0 ... modes - 1, then minus sines. */
typedef struct {
    i64 n, modes, levels;
    const float *tables;
} Axis;

#pragma GCC visibility push(hidden)

/* How many numbers of room the two below need. */
i64 axis_room(const Axis *axis);

/* out (2 modes, width) = matrix x (n, width); rows lie `step` and `row` apart. */
void analyze_columns(const Axis *axis, i64 width, const float *x, i64 row, float *out, i64 step, float *room);

/* onto (n, width) = or, where `add`, += matrix^T modes (2 modes, width). */
void synthesize_columns(const Axis *axis, i64 width, const float *modes, i64 step, float *onto, i64 row, int add,
                        float *room);

/* The same of all columns of all lines, by all threads: x and onto (lines, n, row), out and modes (lines, 2 modes, row). */
void analyze_lines(int threads, i64 lines, const Axis *axis, i64 row, const float *x, float *out);
void synthesize_lines(int threads, i64 lines, const Axis *axis, i64 row, const float *modes, float *onto, int add);

#pragma GCC visibility pop

#endif
