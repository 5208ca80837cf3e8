/* y_t = bias + sum_k weight_k x_{t - K + 1 + k}, depthwise, and its gradients.

   A task is one row and at most BLOCK columns. Weights come as (taps, width). What lies before x is
   the state (rows, taps - 1, width). */

#include "simd.h"

#define BLOCK 128
#define MAX_TAPS 16
#define PARTIAL 64 /* tokens whose sum is taken apart: errors grow with their number, not with T */

typedef struct {
  const float *x, *state;
  long length, width, taps;
} Input;

/* Token t of a row of x, or of the state where t is negative. */
INLINE const float *token(Input in, long row, long t) {
  if (t >= 0) return in.x + (row * in.length + t) * in.width;
  return in.state + (row * (in.taps - 1) + in.taps - 1 + t) * in.width;
}

EXPORT long most_taps(void) { return MAX_TAPS; }

EXPORT void convolve(const float *x, const float *state, const float *weight, const float *bias,
                     float *y, long rows, long length, long width, long taps, long threads) {
  long blocks = divided_up(width, BLOCK);
  Input in = {x, state, length, width, taps};
#pragma omp parallel for collapse(2) num_threads(threads) schedule(static)
  for (long row = 0; row < rows; row++)
    for (long block = 0; block < blocks; block++) {
      long first = block * BLOCK, end = smaller(width, first + BLOCK);
      for (long t = 0; t < length; t++) {
        float *to = y + (row * length + t) * width;
        for (long k = 0; k < taps; k++) {
          const float *from = token(in, row, t - taps + 1 + k), *w = weight + k * width;
          const float *sum = k ? to : bias;
#pragma omp simd
          for (long n = first; n < end; n++) to[n] = sum[n] + w[n] * from[n];
        }
      }
    }
}

/* grad_weight (rows, taps, width) and grad_bias (rows, width) are sums over time. */
EXPORT void convolve_backward(const float *x, const float *state, const float *weight,
                              const float *grad_y, float *grad_x, float *grad_state,
                              float *grad_weight, float *grad_bias, long rows, long length,
                              long width, long taps, long threads) {
  long blocks = divided_up(width, BLOCK);
  Input in = {x, state, length, width, taps};
#pragma omp parallel for collapse(2) num_threads(threads) schedule(static)
  for (long row = 0; row < rows; row++)
    for (long block = 0; block < blocks; block++) {
      long first = block * BLOCK, count = smaller(width, first + BLOCK) - first;
      const float *g = grad_y + row * length * width + first;
      for (long s = 0; s < length + taps - 1; s++) { /* over the state and x */
        long t = s - taps + 1;
        float *to = t < 0 ? grad_state + (row * (taps - 1) + s) * width + first
                          : grad_x + (row * length + t) * width + first;
        memset(to, 0, count * sizeof(float));
        for (long k = 0; k < taps; k++) {
          if (s - k < 0 || s - k >= length) continue;
          const float *w = weight + k * width + first, *from = g + (s - k) * width;
#pragma omp simd
          for (long n = 0; n < count; n++) to[n] += w[n] * from[n];
        }
      }
      float sums[(MAX_TAPS + 1) * BLOCK] = {0}, partial[(MAX_TAPS + 1) * BLOCK] = {0};
      for (long t = 0; t < length; t++) {
        const float *gt = g + t * width;
        for (long k = 0; k < taps; k++) {
          const float *from = token(in, row, t - taps + 1 + k) + first;
          float *sum = partial + k * BLOCK;
#pragma omp simd
          for (long n = 0; n < count; n++) sum[n] += gt[n] * from[n];
        }
        float *sum = partial + taps * BLOCK;
#pragma omp simd
        for (long n = 0; n < count; n++) sum[n] += gt[n];
        if (t % PARTIAL != PARTIAL - 1 && t != length - 1) continue;
#pragma omp simd
        for (long n = 0; n < (taps + 1) * BLOCK; n++) {
          sums[n] += partial[n];
          partial[n] = 0;
        }
      }
      for (long k = 0; k < taps; k++)
        memcpy(grad_weight + (row * taps + k) * width + first, sums + k * BLOCK,
               count * sizeof(float));
      memcpy(grad_bias + row * width + first, sums + taps * BLOCK, count * sizeof(float));
    }
}
