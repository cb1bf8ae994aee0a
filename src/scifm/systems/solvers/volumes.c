/* One march of finite volumes, samples side by side: the scheme of `finite_volume`, the fluxes of `riemann_fluxes` and
 * the friction of a gas, step after step without leaving this file. Compiled once with REAL=float, once with double.
 *
 * Along an axis the cells of a sample are worked on in blocks that stay in the first caches: so many whole lines of the
 * last axis, or so many columns side by side of another, with their ghosts. In a block neighbors along the axis lie
 * `apart` places apart, and all loops run over whole runs of places; of the few places where a line ends and the next
 * begins nobody reads. Every loop is plain C that a compiler turns into vectors.
 *
 * Threads share out the samples, or the blocks of a sample where samples are few. Sums are taken block by block and
 * added in order: results do not depend on the number of threads.
 */
#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "threads.h"
#include "volumes_faces.h"

/* Four times the least, so that no part of it is subnormal: with those a processor is slow. */
#define TINY ((real)(4 * (sizeof(real) == 4 ? FLT_MIN : DBL_MIN)))
enum { WATER = 0, GAS = 1, VISCOUS = 2 };          /* kinds of equations */
enum { PERIODIC = 0, WALL = 1, OPEN = 2 };         /* kinds of ends */
/* Channels are 5 at most. A block of 4608 places is as many cells with ghosts as 64 x 64 has: all of it, 20 numbers a
 * place, stays in a second-level cache; of 512 to 4608 the largest was the fastest. */
enum { GHOSTS = 2, MOST = 5, BLOCK = 4608, LANE = 64 / sizeof(real) };

INLINE i64 least(i64 a, i64 b) { return a < b ? a : b; }
INLINE i64 most(i64 a, i64 b) { return a > b ? a : b; }
typedef struct {
    int kind, dims, marched, fields; /* channels that evolve, and with those that stand still */
    i64 cells, shape[3];
    int ends[3];
    real per_width[3];
    int team; /* threads that work on one sample */
} Problem;

/* One axis, and how it is cut into blocks: `lines` of one column each, or one line of `columns`. */
typedef struct {
    int axis, normal, ends;
    i64 outer, count, inner, lines, columns, across, blocks, places;
    real per_width;
} Cut;

/* Of a block: cells with ghosts, values before and behind faces, fluxes, (fields, places) each, and one thing more: of
 * water the least depth at faces, of gases where nothing is too steep. Cells and `part` are kept for the whole axis. */
typedef struct {
    real *cell, *part, *ahead, *back, *flux;
} Block;

/* What one sample is worked on in. */
typedef struct {
    real *fields, *stage, *change, *axis, *faces;
    double *sums;
    i64 places; /* of the largest block, in whole vectors */
} Room;

static Cut cut_of(const Problem *p, int axis) {
    Cut c = {.axis = axis, .normal = p->dims - axis, .ends = p->ends[axis], .outer = 1, .inner = 1, .lines = 1,
             .columns = 1, .count = p->shape[axis], .per_width = p->per_width[axis]};
    for (int other = 0; other < axis; other++) c.outer *= p->shape[other];
    for (int other = axis + 1; other < p->dims; other++) c.inner *= p->shape[other];
    const i64 room = most(1, BLOCK / (c.count + 2 * GHOSTS));
    if (c.inner == 1)
        c.lines = least(c.outer, room);
    else
        c.columns = least(c.inner, most(LANE, room / LANE * LANE));
    c.across = (c.inner + c.columns - 1) / c.columns;
    c.blocks = (c.outer + c.lines - 1) / c.lines * c.across;
    c.places = c.lines * (c.count + 2 * GHOSTS) * c.columns;
    return c;
}

/* The block's first line and column, and how many of each it has. */
INLINE void corner(const Cut *c, i64 block, i64 *line, i64 *column, i64 *lines, i64 *columns) {
    *line = block / c->across * c->lines;
    *column = block % c->across * c->columns;
    *lines = least(c->lines, c->outer - *line);
    *columns = least(c->columns, c->inner - *column);
}

/* Copy a block of one channel with its ghosts; `sign` is -1 where a wall turns it. */
static void fill(const Cut *c, i64 block, const real *from, real sign, real *to) {
    i64 line, column, lines, columns;
    corner(c, block, &line, &column, &lines, &columns);
    const i64 n = c->count, size = (size_t)columns * sizeof(real);
    for (i64 l = 0; l < lines; l++) {
        const real *source = from + (line + l) * n * c->inner + column;
        real *target = to + l * (n + 2 * GHOSTS) * columns, *inside = target + GHOSTS * columns;
        if (columns == c->inner)
            memcpy(inside, source, (size_t)n * size);
        else
            for (i64 j = 0; j < n; j++) memcpy(inside + j * columns, source + j * c->inner, size);
        for (int g = 1; g <= GHOSTS; g++) { /* the g-th cell beyond each end */
            const i64 low = c->ends == PERIODIC ? n - g : c->ends == WALL ? g - 1 : 0;
            const i64 high = c->ends == PERIODIC ? g - 1 : c->ends == WALL ? n - g : n - 1;
            const real turn = c->ends == WALL ? sign : 1;
            real *below = inside - g * columns, *above = inside + (n - 1 + g) * columns;
            for (i64 k = 0; k < columns; k++) {
                below[k] = turn * inside[low * columns + k];
                above[k] = turn * inside[high * columns + k];
            }
        }
    }
}

/* Of water the surface is carried to the faces, not the depth, a tenth of which is kept in `part`. */
static void fill_all(const Problem *p, const Cut *c, i64 block, const real *fields, const Block *b) {
    for (int f = 0; f < p->fields; f++)
        fill(c, block, fields + f * p->cells, f == c->normal ? -1 : 1, b->cell + f * c->places);
    if (p->kind == WATER) {
        const real *restrict bottom = b->cell + (p->fields - 1) * c->places;
        LOOP for (i64 i = 0; i < c->places; i++) {
            b->part[i] = LEAST * b->cell[i];
            b->cell[i] += bottom[i];
        }
    }
}

/* The block's places in the room, its faces in those of this thread. */
static Block block_of(const Problem *p, const Cut *c, const Room *room, i64 block) {
    real *cell = room->axis + block * (p->fields + 1) * c->places;
    real *faces = room->faces + (p->team > 1 ? omp_get_thread_num() : 0) * 3 * MOST * room->places;
    const i64 size = MOST * room->places;
    return (Block){cell, cell + p->fields * c->places, faces, faces + size, faces + 2 * size};
}

static real squares_of_steps(i64 count, i64 apart, const real *cell) {
    real sum = 0;
    _Pragma("omp simd reduction(+:sum)") for (i64 i = 0; i < count; i++) {
        const real step = cell[i + apart] - cell[i];
        sum += step * step;
    }
    return sum;
}

typedef void Work(const Problem *, const Cut *, const Room *, i64 block, const real *coefficients, const real *floor);

/* Do a work on all blocks. Where samples run side by side no team is asked for: one inside another is slow to call. */
static void for_blocks(const Problem *p, const Cut *c, const Room *room, Work *work, const real *coefficients,
                       const real *floor) {
    if (p->team == 1)
        for (i64 block = 0; block < c->blocks; block++) work(p, c, room, block, coefficients, floor);
    else
#pragma omp parallel for num_threads(p->team) schedule(static)
        for (i64 block = 0; block < c->blocks; block++) work(p, c, room, block, coefficients, floor);
}

static void lay_out(const Problem *p, const Cut *c, const Room *room, i64 block, const real *coefficients,
                    const real *floor) {
    (void)coefficients, (void)floor;
    const Block b = block_of(p, c, room, block);
    i64 line, column, lines, columns;
    corner(c, block, &line, &column, &lines, &columns);
    fill_all(p, c, block, room->fields, &b);
    for (int f = 0; f < p->fields; f++) {
        double sum = 0;
        for (i64 l = 0; l < lines; l++)
            sum += squares_of_steps((c->count + 2 * GHOSTS - 1) * columns, columns,
                                    b.cell + f * c->places + l * (c->count + 2 * GHOSTS) * columns);
        room->sums[block * MOST + f] = sum;
    }
}

/* Lay out the fields along an axis; `floor` takes a tenth of the mean square of differences: ε of `finite_volume`. */
static void fill_axis(const Problem *p, const Cut *c, const Room *room, real *floor) {
    for_blocks(p, c, room, lay_out, NULL, NULL);
    const double count = (double)c->outer * (double)(c->count + 2 * GHOSTS - 1) * (double)c->inner;
    for (int f = 0; f < p->fields; f++) {
        double sum = 0;
        for (i64 block = 0; block < c->blocks; block++) sum += room->sums[block * MOST + f];
        floor[f] = (real)(sum * SMOOTH / count) + TINY;
    }
}

/* What flows through all faces of a block, given its cells. Face i lies between places i + apart and i + 2 apart. */
static void block_flux(const Problem *p, const Cut *c, i64 apart, i64 places, const real *coefficients,
                       const real *floor, const Block *b) {
    const i64 inner = places - 2 * apart, faces = places - 3 * apart, size = c->places;
    const int last = p->fields - 1, first = c->normal == 1 ? 2 : 1, second = c->normal == 3 ? 2 : 3;
    const int gas = p->kind != WATER;
    if (gas) keep_level(inner, apart, b->cell, b->cell + last * size, b->part);
    for (int f = 0; f < p->fields; f++) {
        real *ahead = b->ahead + f * size, *back = b->back + f * size;
        const real *cell = b->cell + f * size;
        if (!gas) to_faces(inner, apart, cell, floor[f], NULL, 0, ahead, back);
        else if (f == 0 || f == last) to_faces(inner, apart, cell, floor[f], b->part, 1, ahead, back);
        else to_faces(inner, apart, cell, floor[f], b->part, 0, ahead, back);
    }
    const real *l = b->ahead, *r = b->back + apart;
    const Sides s = {l, l + c->normal * size, l + last * size, l + first * size, l + second * size,
                     r, r + c->normal * size, r + last * size, r + first * size, r + second * size,
                     b->flux, b->flux + c->normal * size, b->flux + last * size, b->flux + first * size,
                     b->flux + second * size};
    if (gas) {
        if (p->dims == 1) gas_flux(faces, s, coefficients[0], 0);
        if (p->dims == 2) gas_flux(faces, s, coefficients[0], 1);
        if (p->dims == 3) gas_flux(faces, s, coefficients[0], 2);
    } else {
        const real *under = b->part + apart;
        real *depth_l = b->ahead + last * size, *depth_r = b->back + last * size + apart;
        if (p->dims == 1) water_flux(faces, s, under, under + apart, coefficients[0], depth_l, depth_r, 0);
        if (p->dims == 2) water_flux(faces, s, under, under + apart, coefficients[0], depth_l, depth_r, 1);
        if (p->dims == 3) water_flux(faces, s, under, under + apart, coefficients[0], depth_l, depth_r, 2);
    }
}

/* Add what flows into the cells of a block less what flows out. */
static void gather(const Problem *p, const Cut *c, i64 block, const real *coefficients, const Block *b, real *change) {
    i64 line, column, lines, columns;
    corner(c, block, &line, &column, &lines, &columns);
    const real scale = c->per_width, half = HALF * coefficients[0];
    const i64 size = c->places;
    const int whole = columns == c->inner, last = p->fields - 1; /* then all positions are one run */
    const i64 rows = whole ? 1 : c->count, run = whole ? c->count * columns : columns;
    for (int f = 0; f < p->marched; f++)
        for (i64 l = 0; l < lines; l++)
            for (i64 j = 0; j < rows; j++) {
                const i64 right = (l * (c->count + 2 * GHOSTS) + j + 1) * columns, left = right - columns;
                real *restrict to = change + f * p->cells + ((line + l) * c->count + j) * c->inner + column;
                const real *flux = b->flux + f * size, *pushed = flux;
                if (p->kind == WATER && f == c->normal) {
                    pushed = b->flux + last * size;
                    const real *own_l = b->ahead, *own_r = b->back, *deep = b->ahead + last * size;
                    const real *deep_r = b->back + last * size;
                    LOOP for (i64 k = 0; k < run; k++) {
                        const i64 in = left + k, out = right + k;
                        const real slope = (own_l[out] - own_r[out]) * (deep[out] + deep_r[out]);
                        to[k] += (pushed[in] - flux[out] - half * slope) * scale;
                    }
                } else {
                    LOOP for (i64 k = 0; k < run; k++) to[k] += (flux[left + k] - flux[right + k]) * scale;
                }
            }
}

static void flow(const Problem *p, const Cut *c, const Room *room, i64 block, const real *coefficients,
                 const real *floor) {
    const Block b = block_of(p, c, room, block);
    i64 line, column, lines, columns;
    corner(c, block, &line, &column, &lines, &columns);
    block_flux(p, c, columns, lines * (c->count + 2 * GHOSTS) * columns, coefficients, floor, &b);
    gather(p, c, block, coefficients, &b, room->change);
}

static void change_along(const Problem *p, int axis, const Room *room, const real *coefficients) {
    const Cut c = cut_of(p, axis);
    real floor[MOST];
    fill_axis(p, &c, room, floor);
    for_blocks(p, &c, room, flow, coefficients, floor);
}

/* ---- friction --------------------------------------------------------------------------------------------------- */

/* A sample with one ghost on all sides, its velocities and the stresses on faces across one axis with their work. */
typedef struct {
    i64 cells, stride[3];
    real *velocities, *stresses;
} Padded;

/* Where a position beyond the ends of an axis is found; `turned` changes its sign at walls. */
INLINE i64 found_at(i64 position, i64 count, int ends, int odd, real *turn) {
    if (position >= 0 && position < count) return position;
    if (ends == PERIODIC) return position < 0 ? position + count : position - count;
    if (ends == WALL && odd) *turn = -*turn;
    return position < 0 ? 0 : count - 1;
}

static void pad_velocities(const Problem *p, const real *fields, const Padded *pad) {
    const int d = p->dims;
    const i64 n = p->shape[d - 1], rows = d > 1 ? p->shape[d - 2] : 1, sheets = d > 2 ? p->shape[0] : 1;
    for (int component = 0; component < d; component++) {
        const real *from = fields + (component + 1) * p->cells;
        real *to = pad->velocities + component * pad->cells;
        for (i64 sheet = d > 2 ? -1 : 0; sheet < sheets + (d > 2); sheet++)
            for (i64 row = d > 1 ? -1 : 0; row < rows + (d > 1); row++, to += n + 2) {
                real turn = 1, first = 1, last = 1;
                const i64 z = d > 2 ? found_at(sheet, sheets, p->ends[0], component == 2, &turn) : 0;
                const i64 y = d > 1 ? found_at(row, rows, p->ends[d - 2], component == 1, &turn) : 0;
                const real *line = from + (z * rows + y) * n;
                LOOP for (i64 i = 0; i < n; i++) to[1 + i] = turn * line[i];
                to[0] = turn * line[found_at(-1, n, p->ends[d - 1], component == 0, &first)];
                to[n + 1] = turn * line[found_at(n, n, p->ends[d - 1], component == 0, &last)];
                to[0] *= first;
                to[n + 1] *= last;
            }
    }
}

/* The velocity along the axis is u, those across are v and w; neighbors along their own axes lie b and c apart. */
INLINE void stresses(const Problem *p, const Padded *pad, int axis, i64 start, i64 stop, real shear, real spread,
                     const int across) {
    const int d = p->dims, iu = d - axis - 1, iv = iu == 0 ? 1 : 0, iw = iu == 2 ? 1 : 2;
    const i64 a = pad->stride[axis], b = across > 0 ? pad->stride[d - 1 - iv] : 0;
    const i64 c = across > 1 ? pad->stride[d - 1 - iw] : 0;
    const real along = p->per_width[axis], v_width = across > 0 ? p->per_width[d - 1 - iv] / 4 : 0;
    const real w_width = across > 1 ? p->per_width[d - 1 - iw] / 4 : 0;
    const real *u = pad->velocities + iu * pad->cells, *v = pad->velocities + iv * pad->cells;
    const real *w = pad->velocities + iw * pad->cells;
    real *on_u = pad->stresses + iu * pad->cells, *on_v = pad->stresses + iv * pad->cells;
    real *on_w = pad->stresses + iw * pad->cells, *work = pad->stresses + d * pad->cells;
#define ACROSS(f, s) (((f)[i + (s)] - (f)[i - (s)]) + ((f)[i + a + (s)] - (f)[i + a - (s)]))
    LOOP for (i64 i = start; i < stop; i++) {
        const real slope = (u[i + a] - u[i]) * along;
        real spreading = slope, sum = 0;
        if (across > 0) {
            const real stress = shear * ((v[i + a] - v[i]) * along + ACROSS(u, b) * v_width);
            spreading += ACROSS(v, b) * v_width;
            on_v[i] = stress;
            sum += stress * (v[i] + v[i + a]);
        }
        if (across > 1) {
            const real stress = shear * ((w[i + a] - w[i]) * along + ACROSS(u, c) * w_width);
            spreading += ACROSS(w, c) * w_width;
            on_w[i] = stress;
            sum += stress * (w[i] + w[i + a]);
        }
        const real stress = 2 * shear * slope + spread * spreading;
        on_u[i] = stress;
        work[i] = HALF * (sum + stress * (u[i] + u[i + a]));
    }
#undef ACROSS
}

static void add_friction(const Problem *p, const Padded *pad, const real *fields, const real *coefficients,
                         real *change) {
    const int d = p->dims;
    const i64 n = p->shape[d - 1], middle = d > 2 ? p->shape[1] : 1, rows = p->cells / n;
    const real shear = coefficients[1], spread = coefficients[2] - (real)(2.0 / 3) * shear;
    i64 inside = 0, end = 0; /* places of the first and the last cell */
    for (int axis = 0; axis < d; axis++) {
        inside += pad->stride[axis];
        end += p->shape[axis] * pad->stride[axis];
    }
    pad_velocities(p, fields, pad);
    for (int axis = 0; axis < d; axis++) {
        const i64 a = pad->stride[axis], start = inside - a;
        if (d == 1) stresses(p, pad, axis, start, end + 1, shear, spread, 0);
        if (d == 2) stresses(p, pad, axis, start, end + 1, shear, spread, 1);
        if (d == 3) stresses(p, pad, axis, start, end + 1, shear, spread, 2);
        const real scale = p->per_width[axis];
        for (int f = 0; f <= d; f++)
            for (i64 row = 0; row < rows; row++) {
                const i64 at = d == 1 ? 0 : row / middle * pad->stride[0] + (d > 2 ? row % middle * pad->stride[1] : 0);
                const real *flux = pad->stresses + f * pad->cells + inside + at;
                real *restrict to = change + (f + 1) * p->cells + row * n;
                LOOP for (i64 i = 0; i < n; i++) to[i] += (flux[i] - flux[i - a]) * scale;
            }
    }
}

/* ---- the march -------------------------------------------------------------------------------------------------- */

/* One of the steps of Shu and Osher and the fields that follow: 0 takes no step, 1 and 2 make the stages between, 3 the
 * new state. */
INLINE void update(i64 n, const int which, real step, const real *change, real *stage, real *state,
                   real ratio, real *fields, const int dims, const int gas) {
    LOOP for (i64 i = 0; i < n; i++) {
        real now[MOST];
        UNROLL for (int f = 0; f <= dims + gas; f++) {
            const i64 at = f * n + i;
            real value = state[at];
            if (which == 1) value += step * change[at];
            if (which == 2) value = (real)0.75 * value + (real)0.25 * (stage[at] + step * change[at]);
            if (which == 3) { /* a third and two thirds do not add up to 1 in single precision */
                const real third = stage[at] + step * change[at];
                value = third - (third - value) * (real)(1.0 / 3);
                state[at] = value;
            } else if (which)
                stage[at] = value;
            now[f] = value;
        }
        const real inverse = 1 / now[0];
        real motion = 0;
        fields[i] = now[0];
        UNROLL for (int d = 1; d <= dims; d++) {
            const real speed = now[d] * inverse;
            fields[d * n + i] = speed;
            motion += now[d] * speed;
        }
        if (gas) fields[(dims + 1) * n + i] = (now[dims + 1] - HALF * motion) * (ratio - 1);
    }
}

#define UPDATE(w, d, g) update(n, w, step, room->change, room->stage, state, ratio, room->fields, d, g)
#define IN_DIMS(w, g) (p->dims == 1 ? UPDATE(w, 1, g) : p->dims == 2 ? UPDATE(w, 2, g) : UPDATE(w, 3, g))
#define OF_KIND(w) (p->kind == WATER ? IN_DIMS(w, 0) : IN_DIMS(w, 1))

static void take_step(const Problem *p, int which, const Room *room, real ratio, real step, real *state) {
    const i64 n = p->cells;
    which == 0 ? OF_KIND(0) : which == 1 ? OF_KIND(1) : which == 2 ? OF_KIND(2) : OF_KIND(3);
}

static real rate_of(const Problem *p, const real *fields, const real *coefficients) {
    const int dims = p->dims;
    const i64 n = p->cells;
    const real *last = fields + (dims + 1) * n, factor = coefficients[0];
    const real *x = fields + n, *y = fields + least(dims, 2) * n, *z = fields + least(dims, 3) * n;
    const real in_x = p->per_width[dims - 1], in_y = dims > 1 ? p->per_width[dims - 2] : 0;
    const real in_z = dims > 2 ? p->per_width[0] : 0;
    const int gas = p->kind != WATER;
    real total = 0, most = 0, sum = 0, thinnest = fields[0];
    for (int axis = 0; axis < dims; axis++) total += p->per_width[axis];
    _Pragma("omp simd reduction(max:most) reduction(+:sum) reduction(min:thinnest)") for (i64 i = 0; i < n; i++) {
        const real sound = sqrt(factor * (gas ? last[i] / fields[i] : fields[i]));
        const real rate = sound * total + fabs(x[i]) * in_x + fabs(y[i]) * in_y + fabs(z[i]) * in_z;
        most = rate > most ? rate : most;
        thinnest = fields[i] < thinnest ? fields[i] : thinnest;
        sum += rate; /* is no number where one of the rates is none */
    }
    if (sum != sum) return sum;
    if (p->kind == VISCOUS) { /* see `compressible_navier_stokes` */
        real squares = 0;
        for (int axis = 0; axis < dims; axis++) squares += p->per_width[axis] * p->per_width[axis];
        most += 2 * squares * ((real)(4.0 / 3) * coefficients[1] + coefficients[2]) / thinnest;
    }
    return most;
}

static void change(const Problem *p, const Room *room, const Padded *pad, const real *coefficients) {
    memset(room->change, 0, (size_t)(p->marched * p->cells) * sizeof(real));
    for (int axis = 0; axis < p->dims; axis++) change_along(p, axis, room, coefficients);
    if (p->kind == VISCOUS) add_friction(p, pad, room->fields, coefficients, room->change);
}

static real *numbers(i64 count) { return aligned_alloc(64, ((size_t)count * sizeof(real) + 127) / 64 * 64); }

static Room room_for(const Problem *p) {
    Room room = {.fields = numbers(p->fields * p->cells), .stage = numbers(p->marched * p->cells),
                 .change = numbers(p->marched * p->cells)};
    i64 blocks = 0, all = 0;
    for (int axis = 0; axis < p->dims; axis++) {
        const Cut c = cut_of(p, axis);
        room.places = most(room.places, (c.places + LANE - 1) / LANE * LANE);
        blocks = most(blocks, c.blocks);
        all = most(all, c.blocks * c.places);
    }
    room.sums = malloc((size_t)(blocks * MOST) * sizeof(double));
    room.axis = numbers((p->fields + 1) * all);
    room.faces = numbers(p->team * 3 * MOST * room.places);
    return room;
}

static Padded padded_for(const Problem *p) {
    Padded pad = {.cells = 1};
    for (int axis = p->dims - 1; axis >= 0; axis--) {
        pad.stride[axis] = pad.cells;
        pad.cells *= p->shape[axis] + 2;
    }
    pad.velocities = p->kind == VISCOUS ? numbers(p->dims * pad.cells) : NULL;
    pad.stresses = p->kind == VISCOUS ? numbers((p->dims + 1) * pad.cells) : NULL;
    return pad;
}

static void leave(const Room *room, const Padded *pad) {
    free(room->fields), free(room->stage), free(room->change), free(room->axis), free(room->faces), free(room->sums);
    free(pad->velocities), free(pad->stresses);
}

/* March every sample by its own number of steps, in place.
 *
 * box: points of each axis, then the kind of ends of each.   per_width: 1 over the distance of points.
 * steps, step: how many, and how long, (samples).            coefficients: (samples, num_coefficients).
 * still: what does not evolve, (samples, channels, cells).    state: what is conserved, (samples, channels, cells).
 * fastest: takes the speed of the fastest wave, in cells a time, summed over the axes, (samples).
 */
void scifm_march(int threads, int kind, int dims, i64 samples, const i64 *box, const double *per_width,
                 i64 num_coefficients, const i64 *steps, const REAL *step, const REAL *coefficients, const REAL *still,
                 REAL *state, REAL *fastest) {
    Problem p = {.kind = kind, .dims = dims, .marched = dims + (kind == WATER ? 1 : 2), .fields = dims + 2, .cells = 1};
    for (int axis = 0; axis < dims; axis++) {
        p.shape[axis] = box[axis];
        p.ends[axis] = (int)box[dims + axis];
        p.per_width[axis] = (real)per_width[axis];
        p.cells *= box[axis];
    }
    const int side_by_side = (int)least(threads, samples);
    p.team = threads / side_by_side;
#pragma omp parallel num_threads(side_by_side)
    {
        const Room room = room_for(&p);
        const Padded pad = padded_for(&p);
#pragma omp for schedule(dynamic)
        for (i64 s = 0; s < samples; s++) {
            const real *own = coefficients + s * num_coefficients;
            real *now = state + s * p.marched * p.cells, most = 0;
            if (kind == WATER)
                memcpy(room.fields + p.marched * p.cells, still + s * p.cells, (size_t)p.cells * sizeof(real));
            take_step(&p, 0, &room, own[0], 0, now);
            for (i64 i = 0; i < steps[s]; i++) {
                most = larger(rate_of(&p, room.fields, own), most);
                for (int which = 1; which <= 3; which++) {
                    change(&p, &room, &pad, own);
                    take_step(&p, which, &room, own[0], step[s], now);
                }
            }
            fastest[s] = most;
        }
        leave(&room, &pad);
    }
}
