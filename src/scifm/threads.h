/* Which of how many threads this is. torch brings the runtime and no compiler's header is needed; without OpenMP all work
 * is that of one thread. */
#ifndef SCIFM_THREADS_H
#define SCIFM_THREADS_H

#ifdef _OPENMP
int omp_get_thread_num(void);
int omp_get_num_threads(void);
#else
static inline int omp_get_thread_num(void) { return 0; }
static inline int omp_get_num_threads(void) { return 1; }
#endif

#endif
