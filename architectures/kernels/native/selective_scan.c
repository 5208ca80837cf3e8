/* h_t = exp(dt_t A) h_{t-1} + dt_t B_t u_t,  y_t = C_t h_t + D u_t, and the walk back.

   A vector holds one state of LANES channels. A block is LANES channels with all their states; a
   task is one row and some blocks. The state is kept at every CHUNK tokens, and the walk back
   computes the states of a chunk again. Sums over channels (the gradients of B and C) are taken
   lane by lane over the blocks of a task first. All scratch memory is the caller's. */

#include "simd.h"
#ifdef _OPENMP
#include <omp.h>
#else
#define omp_get_thread_num() 0
#endif

#define CHUNK 32

typedef struct {
  const float *u, *dt, *A, *B, *C, *D, *state, *starts;
  long length, width, n_state, blocks, chunks;
} Scan;

EXPORT long lanes(void) { return LANES; }

/* Transpose between (channels, n_state) in memory and one vector for each state. */
INLINE void gather(vec *to, const float *from, long n_state, long count) {
  for (long n = 0; n < n_state; n++) {
    vec v = {0};
    for (long lane = 0; lane < count; lane++) v[lane] = from[lane * n_state + n];
    to[n] = v;
  }
}

INLINE void scatter(float *to, const vec *from, long n_state, long count) {
  for (long n = 0; n < n_state; n++)
    for (long lane = 0; lane < count; lane++) to[lane * n_state + n] = from[n][lane];
}

/* A in units of log 2, for exp2. */
INLINE void gather_rates(vec *rates, const Scan *s, long block, long count) {
  gather(rates, s->A + block * LANES * s->n_state, s->n_state, count);
  for (long n = 0; n < s->n_state; n++) rates[n] *= LOG2_E;
}

EXPORT void selective_scan(const float *u, const float *dt, const float *A, const float *B,
                           const float *C, const float *D, const float *state, float *y,
                           float *final, float *starts, float *scratch, long rows, long length,
                           long width, long n_state, long threads) {
  long blocks = divided_up(width, LANES), chunks = divided_up(length, CHUNK);
  Scan s = {u, dt, A, B, C, D, state, starts, length, width, n_state, blocks, chunks};
#pragma omp parallel for collapse(2) num_threads(threads) schedule(static)
  for (long row = 0; row < rows; row++)
    for (long block = 0; block < blocks; block++) {
      long count = smaller(LANES, width - block * LANES);
      vec *rates = (vec *)scratch + omp_get_thread_num() * 2 * n_state, *h = rates + n_state;
      gather_rates(rates, &s, block, count);
      gather(h, state + (row * width + block * LANES) * n_state, n_state, count);
      vec skip = load_some(D + block * LANES, count);
      for (long t = 0; t < length; t++) {
        if (starts && t % CHUNK == 0)
          memcpy(starts + ((row * chunks + t / CHUNK) * blocks + block) * n_state * LANES, h,
                 n_state * sizeof(vec));
        long here = (row * length + t) * width + block * LANES;
        const float *Bt = B + (row * length + t) * n_state, *Ct = C + (row * length + t) * n_state;
        vec input = load_some(u + here, count), step = load_some(dt + here, count);
        vec written = step * input, sum = skip * input;
#pragma GCC unroll 4
        for (long n = 0; n < n_state; n++) {
          h[n] = exp2_vec(step * rates[n]) * h[n] + written * Bt[n];
          sum += Ct[n] * h[n];
        }
        store_some(y + here, sum, count);
      }
      scatter(final + (row * width + block * LANES) * n_state, h, n_state, count);
    }
}

/* What one thread needs: vectors of scratch memory, in this order. */
typedef struct {
  vec *rates;         /* (n_state,) */
  vec *states;        /* (CHUNK + 1, n_state), the first before the chunk */
  vec *decay;         /* (CHUNK, n_state) */
  vec *grad_B;        /* (CHUNK, n_state), summed over blocks */
  vec *grad_C;        /* (CHUNK, n_state) */
  vec *chunk_rates;   /* (n_state,): the gradient of A within a chunk */
  vec *grad_h;        /* (blocks of a task, n_state) */
  vec *grad_rates;    /* (blocks of a task, n_state) */
  vec *grad_skip;     /* (blocks of a task,) */
} Workspace;

EXPORT long backward_vectors(long n_state, long task_blocks) {
  return (4 * CHUNK + 3 + 2 * task_blocks) * n_state + task_blocks;
}

INLINE Workspace workspace(vec *scratch, long n_state, long task_blocks) {
  Workspace w;
  w.rates = scratch;
  w.states = w.rates + n_state;
  w.decay = w.states + (CHUNK + 1) * n_state;
  w.grad_B = w.decay + CHUNK * n_state;
  w.grad_C = w.grad_B + CHUNK * n_state;
  w.chunk_rates = w.grad_C + CHUNK * n_state;
  w.grad_h = w.chunk_rates + n_state;
  w.grad_rates = w.grad_h + task_blocks * n_state;
  w.grad_skip = w.grad_rates + task_blocks * n_state;
  return w;
}

/* States and decays of the chunk's tokens, from the state that was kept. */
INLINE void compute_again(const Scan *s, const Workspace *w, long row, long block, long chunk,
                          long tokens, long count) {
  long n_state = s->n_state;
  memcpy(w->states, s->starts + ((row * s->chunks + chunk) * s->blocks + block) * n_state * LANES,
         n_state * sizeof(vec));
  for (long k = 0; k < tokens; k++) {
    long token = row * s->length + chunk * CHUNK + k, here = token * s->width + block * LANES;
    const float *Bt = s->B + token * n_state;
    vec step = load_some(s->dt + here, count), written = step * load_some(s->u + here, count);
    vec *before = w->states + k * n_state, *after = before + n_state, *decay = w->decay + k * n_state;
#pragma GCC unroll 4
    for (long n = 0; n < n_state; n++) {
      decay[n] = exp2_vec(step * w->rates[n]);
      after[n] = decay[n] * before[n] + written * Bt[n];
    }
  }
}

EXPORT void selective_scan_backward(const float *u, const float *dt, const float *A, const float *B,
                                    const float *C, const float *D, const float *starts,
                                    const float *grad_y, const float *grad_final, float *grad_u,
                                    float *grad_dt, float *grad_A, float *grad_B, float *grad_C,
                                    float *grad_D, float *grad_state, float *scratch, long rows,
                                    long length, long width, long n_state, long groups,
                                    long threads) {
  long blocks = divided_up(width, LANES), chunks = divided_up(length, CHUNK);
  long task_blocks = divided_up(blocks, groups), vectors = backward_vectors(n_state, task_blocks);
  Scan s = {u, dt, A, B, C, D, 0, starts, length, width, n_state, blocks, chunks};
#pragma omp parallel for collapse(2) num_threads(threads) schedule(static)
  for (long group = 0; group < groups; group++)
    for (long row = 0; row < rows; row++) {
      long first = group * task_blocks, end = smaller(blocks, first + task_blocks);
      Workspace w = workspace((vec *)scratch + omp_get_thread_num() * vectors, n_state, task_blocks);
      memset(w.grad_rates, 0, task_blocks * (n_state + 1) * sizeof(vec)); /* and grad_skip */
      for (long block = first; block < end; block++)
        gather(w.grad_h + (block - first) * n_state,
               grad_final + (row * width + block * LANES) * n_state, n_state,
               smaller(LANES, width - block * LANES));
      for (long chunk = chunks - 1; chunk >= 0; chunk--) {
        long tokens = smaller(CHUNK, length - chunk * CHUNK);
        memset(w.grad_B, 0, 2 * CHUNK * n_state * sizeof(vec)); /* and grad_C */
        for (long block = first; block < end; block++) {
          long count = smaller(LANES, width - block * LANES);
          gather_rates(w.rates, &s, block, count);
          compute_again(&s, &w, row, block, chunk, tokens, count);
          memset(w.chunk_rates, 0, n_state * sizeof(vec));
          vec *grad_h = w.grad_h + (block - first) * n_state;
          vec skip = load_some(D + block * LANES, count), skip_sum = {0};
          for (long k = tokens - 1; k >= 0; k--) {
            long token = row * length + chunk * CHUNK + k, here = token * width + block * LANES;
            const float *Bt = B + token * n_state, *Ct = C + token * n_state;
            vec input = load_some(u + here, count), step = load_some(dt + here, count);
            vec dy = load_some(grad_y + here, count), weight = step * input;
            vec written = {0}, decayed = {0};
            vec *before = w.states + k * n_state, *now = before + n_state;
            vec *decay = w.decay + k * n_state;
            vec *dB = w.grad_B + k * n_state, *dC = w.grad_C + k * n_state;
            /* Downwards like k: the processor fetches ahead what falls steadily. */
            for (long n = n_state - 1; n >= 0; n--) {
              vec dh = grad_h[n] + dy * Ct[n];
              dC[n] += dy * now[n];
              dB[n] += dh * weight;
              written += dh * Bt[n];
              dh *= decay[n];
              grad_h[n] = dh;
              vec exponent = dh * before[n]; /* the gradient of dt A */
              decayed += exponent * w.rates[n];
              w.chunk_rates[n] += exponent * step;
            }
            store_some(grad_u + here, written * step + skip * dy, count);
            store_some(grad_dt + here, written * input + decayed * (1.0f / LOG2_E), count);
            skip_sum += dy * input;
          }
          for (long n = 0; n < n_state; n++)
            w.grad_rates[(block - first) * n_state + n] += w.chunk_rates[n];
          w.grad_skip[block - first] += skip_sum;
        }
        long at = ((group * rows + row) * length + chunk * CHUNK) * n_state;
        for (long i = 0; i < tokens * n_state; i++) {
          grad_B[at + i] = sum_lanes(w.grad_B[i]);
          grad_C[at + i] = sum_lanes(w.grad_C[i]);
        }
      }
      for (long block = first; block < end; block++) {
        long count = smaller(LANES, width - block * LANES), channel = row * width + block * LANES;
        scatter(grad_state + channel * n_state, w.grad_h + (block - first) * n_state, n_state, count);
        scatter(grad_A + channel * n_state, w.grad_rates + (block - first) * n_state, n_state, count);
        store_some(grad_D + channel, w.grad_skip[block - first], count);
      }
    }
}
