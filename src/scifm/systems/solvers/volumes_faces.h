/* Values at faces (the reconstruction of `finite_volume`) and what flows through them (`riemann_fluxes`), over runs of
 * places of REAL numbers. Part of volumes.c.
 */
#include <math.h>
#include <stddef.h>
#include <tgmath.h>

typedef long long i64;
typedef REAL real;

#define SMOOTH ((real)0.1)  /* the numbers of `finite_volume` */
#define LEAST ((real)0.1)
#define STEEP ((real)2)
#define HALF ((real)0.5)
#define LOOP _Pragma("omp simd")
#if defined(__clang__) /* else it makes vectors first, and then finds that it cannot */
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 5")
#endif
#define INLINE static inline __attribute__((always_inline))

/* Of two numbers; where one is none, neither is the answer, so that a march that has failed is seen. */
INLINE real larger(real a, real b) { return ((a > b) | (a != a)) ? a : b; }
INLINE real smaller(real a, real b) { return ((a < b) | (a != a)) ? a : b; }
/* 0 where a positive channel is too steep for anything but a constant, 1 elsewhere. */
static void keep_level(i64 count, i64 apart, const real *one, const real *other, real *restrict keep) {
    LOOP for (i64 i = 0; i < count; i++) {
        const real a = fabs(one[i + apart] - one[i]) + fabs(one[i + 2 * apart] - one[i + apart]);
        const real b = fabs(other[i + apart] - other[i]) + fabs(other[i + 2 * apart] - other[i + apart]);
        keep[i] = ((a > STEEP * one[i + apart]) | (b > STEEP * other[i + apart])) ? 0 : 1;
    }
}

/* Carry a channel to the two faces of every cell; `keep` may be absent. */
INLINE void to_faces(i64 count, i64 apart, const real *cell, real floor, const real *keep, const int positive,
                     real *restrict ahead, real *restrict back) {
    LOOP for (i64 i = 0; i < count; i++) {
        const real center = cell[i + apart];
        const real before = center - cell[i], behind = cell[i + 2 * apart] - center;
        const real below = (floor + 2 * before * before) + (floor + 2 * behind * behind);
        real smooth = (HALF * floor + before * behind) / below; /* s/4 */
        smooth = smooth > 0 ? smooth : 0;
        if (keep) smooth *= keep[i];
        const real lean = (before + behind) * smooth;
        const real middle = center + (behind - before) * smooth * smooth * (real)(4.0 / 3);
        ahead[i] = positive ? larger(LEAST * center, middle + lean) : middle + lean;
        back[i] = positive ? larger(LEAST * center, middle - lean) : middle - lean;
    }
}

/* Channels of the two sides of faces, and what flows: density, the velocity along the axis, those across, pressure. */
typedef struct {
    const real *rho_l, *u_l, *p_l, *v_l, *w_l, *rho_r, *u_r, *p_r, *v_r, *w_r;
    real *mass, *along, *energy, *across, *other;
} Sides;

INLINE void gas_flux(i64 count, Sides s, real ratio, const int across) {
    const real of_pressure = 1 / (ratio - 1);
    LOOP for (i64 i = 0; i < count; i++) {
        const real rho_l = s.rho_l[i], u_l = s.u_l[i], p_l = s.p_l[i];
        const real rho_r = s.rho_r[i], u_r = s.u_r[i], p_r = s.p_r[i];
        const real sound_l = ratio * p_l / rho_l, sound_r = ratio * p_r / rho_r; /* squared */
        const real root_l = sqrt(rho_l), root_r = sqrt(rho_r), share = root_l / (root_l + root_r), jump = u_l - u_r;
        const real mean = u_r + share * jump;
        const real sound = sqrt(sound_r + share * (sound_l - sound_r) + HALF * (share - share * share) * jump * jump);
        const real slow = smaller(u_l - sqrt(sound_l), mean - sound), fast = larger(u_r + sqrt(sound_r), mean + sound);
        const real mass_l = (slow - u_l) * rho_l, mass_r = (fast - u_r) * rho_r;
        const real middle = (p_r - p_l + u_l * mass_l - u_r * mass_r) / (mass_l - mass_r);
        const int forward = middle >= 0;
        const real rho = forward ? rho_l : rho_r, u = forward ? u_l : u_r, p = forward ? p_l : p_r;
        const real outer = forward ? slow : fast, mass = forward ? mass_l : mass_r;
        const real reach = forward ? smaller(0, slow) : larger(0, fast), inverse = 1 / (outer - middle);
        const real v = across > 0 ? (forward ? s.v_l[i] : s.v_r[i]) : 0;
        const real w = across > 1 ? (forward ? s.w_l[i] : s.w_r[i]) : 0;
        const real energy = p * of_pressure + HALF * rho * (u * u + v * v + w * w), momentum = rho * u;
        const real squeezed = mass * inverse;
        const real between = ((outer - u) * energy + (middle - u) * (middle * mass + p)) * inverse;
        const real flow = momentum + reach * (squeezed - rho);
        s.mass[i] = flow;
        s.along[i] = p + momentum * u + reach * (squeezed * middle - momentum);
        s.energy[i] = (between - energy) * reach + (energy + p) * u;
        if (across > 0) s.across[i] = v * flow;
        if (across > 1) s.other[i] = w * flow;
    }
}

/* `p_l`, `p_r` hold the bottom, and are overwritten by the depths at the faces; `along` and `energy` take the momentum
 * that flows less the push of still water before and behind the face. */
INLINE void water_flux(i64 count, Sides s, const real *under_l, const real *under_r, real gravity, real *depth_l,
                       real *depth_r, const int across) {
    const real root = sqrt(gravity);
    LOOP for (i64 i = 0; i < count; i++) {
        const real b_l = s.p_l[i], b_r = s.p_r[i], floor = larger(b_l, b_r), u_l = s.u_l[i], u_r = s.u_r[i];
        const real h_l = larger(under_l[i], s.rho_l[i] - floor), h_r = larger(under_r[i], s.rho_r[i] - floor);
        depth_l[i] = larger(under_l[i], s.rho_l[i] - b_l);
        depth_r[i] = larger(under_r[i], s.rho_r[i] - b_r);
        const real sound_l = gravity * h_l, sound_r = gravity * h_r; /* squared */
        const real root_l = sqrt(h_l), root_r = sqrt(h_r), share = root_l / (root_l + root_r);
        const real mean = u_r + share * (u_l - u_r), sound = sqrt(HALF * (sound_l + sound_r));
        const real slow = smaller(u_l - root * root_l, mean - sound), fast = larger(u_r + root * root_r, mean + sound);
        const real mass_l = (slow - u_l) * h_l, mass_r = (fast - u_r) * h_r;
        const real inverse = 1 / (fast - slow), gained = mass_r - mass_l;
        const int forward = slow * mass_r >= fast * mass_l; /* the middle wave's speed, times what is gained */
        const real push_l = HALF * sound_l * h_l, push_r = HALF * sound_r * h_r;
        const real between = (u_r * mass_r - u_l * mass_l + push_l - push_r) * inverse;
        const real h = forward ? h_l : h_r, u = forward ? u_l : u_r, push = forward ? push_l : push_r;
        const real reach = forward ? smaller(0, slow) : larger(0, fast), momentum = h * u;
        const real flow = momentum + reach * (gained * inverse - h);
        const real along = momentum * u + push + reach * (between - momentum);
        s.mass[i] = flow;
        s.along[i] = along - push_l;
        s.energy[i] = along - push_r;
        if (across > 0) s.across[i] = (forward ? s.v_l[i] : s.v_r[i]) * flow;
        if (across > 1) s.other[i] = (forward ? s.w_l[i] : s.w_r[i]) * flow;
    }
}
