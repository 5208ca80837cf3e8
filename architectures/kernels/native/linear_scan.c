/* h_t = a_t h_{t-1} + b_t, real and complex, and the walk back.

   A task is one row and at most BLOCK columns; time is sequential inside it. `a` has its own strides
   over rows and time, 0 where it is one for all. Complex numbers are pairs of floats. */

#include "simd.h"

#define BLOCK 128    /* columns of a task */
#define PARTIAL 64   /* tokens whose sum is taken apart: errors grow with their number, not with T */

static const float nothing[2 * BLOCK]; /* what comes after the last token: decay 0, gradient 0 */

EXPORT void scan(const float *a, const float *b, const float *start, float *h, long rows,
                 long length, long width, long a_row, long a_time, long threads) {
  long blocks = divided_up(width, BLOCK);
#pragma omp parallel for collapse(2) num_threads(threads) schedule(static)
  for (long row = 0; row < rows; row++)
    for (long block = 0; block < blocks; block++) {
      long first = block * BLOCK, end = smaller(width, first + BLOCK);
      const float *before = start + row * width;
      for (long t = 0; t < length; t++) {
        const float *at = a + row * a_row + t * a_time, *bt = b + (row * length + t) * width;
        float *ht = h + (row * length + t) * width;
#pragma omp simd
        for (long n = first; n < end; n++) ht[n] = at[n] * before[n] + bt[n];
        before = ht;
      }
    }
}

/* grad_b_t = grad_h_t + a_{t+1} grad_b_{t+1};  grad_a_t = grad_b_t h_{t-1}.

   grad_a (rows, length or 1, width) is summed over time where a is one for all; it may be null. */
EXPORT void scan_backward(const float *a, const float *h, const float *start, const float *grad_h,
                          float *grad_b, float *grad_a, long rows, long length, long width,
                          long a_row, long a_time, long threads) {
  long blocks = divided_up(width, BLOCK);
#pragma omp parallel for collapse(2) num_threads(threads) schedule(static)
  for (long row = 0; row < rows; row++)
    for (long block = 0; block < blocks; block++) {
      long first = block * BLOCK, end = smaller(width, first + BLOCK), count = end - first;
      float sum[BLOCK] = {0}, partial[BLOCK] = {0};
      const float *after = nothing, *gb_after = nothing;
      for (long t = length - 1; t >= 0; t--) {
        long here = (row * length + t) * width + first;
        const float *gt = grad_h + here, *before = t ? h + here - width : start + row * width + first;
        float *gb = grad_b + here;
        if (grad_a && a_time) {
          float *ga = grad_a + here;
#pragma omp simd
          for (long n = 0; n < count; n++) {
            float g = gt[n] + after[n] * gb_after[n];
            gb[n] = g;
            ga[n] = g * before[n];
          }
        } else {
#pragma omp simd
          for (long n = 0; n < count; n++) {
            float g = gt[n] + after[n] * gb_after[n];
            gb[n] = g;
            partial[n] += g * before[n];
          }
        }
        after = a + row * a_row + t * a_time + first;
        gb_after = gb;
        if (t % PARTIAL) continue;
#pragma omp simd
        for (long n = 0; n < count; n++) {
          sum[n] += partial[n];
          partial[n] = 0;
        }
      }
      if (grad_a && !a_time) memcpy(grad_a + row * width + first, sum, count * sizeof(float));
    }
}

EXPORT void scan_complex(const float *a, const float *b, const float *start, float *h, long rows,
                         long length, long width, long a_row, long a_time, long threads) {
  long blocks = divided_up(width, BLOCK);
#pragma omp parallel for collapse(2) num_threads(threads) schedule(static)
  for (long row = 0; row < rows; row++)
    for (long block = 0; block < blocks; block++) {
      long first = block * BLOCK, end = smaller(width, first + BLOCK);
      const float *before = start + 2 * row * width;
      for (long t = 0; t < length; t++) {
        const float *at = a + 2 * (row * a_row + t * a_time);
        const float *bt = b + 2 * (row * length + t) * width;
        float *ht = h + 2 * (row * length + t) * width;
#pragma omp simd
        for (long n = first; n < end; n++) {
          float ar = at[2 * n], ai = at[2 * n + 1], hr = before[2 * n], hi = before[2 * n + 1];
          ht[2 * n] = ar * hr - ai * hi + bt[2 * n];
          ht[2 * n + 1] = ar * hi + ai * hr + bt[2 * n + 1];
        }
        before = ht;
      }
    }
}

/* As `scan_backward`, with the conjugates of a and h. */
EXPORT void scan_complex_backward(const float *a, const float *h, const float *start,
                                  const float *grad_h, float *grad_b, float *grad_a, long rows,
                                  long length, long width, long a_row, long a_time, long threads) {
  long blocks = divided_up(width, BLOCK);
#pragma omp parallel for collapse(2) num_threads(threads) schedule(static)
  for (long row = 0; row < rows; row++)
    for (long block = 0; block < blocks; block++) {
      long first = block * BLOCK, end = smaller(width, first + BLOCK), count = end - first;
      float sum[2 * BLOCK] = {0}, partial[2 * BLOCK] = {0};
      const float *after = nothing, *gb_after = nothing;
      for (long t = length - 1; t >= 0; t--) {
        long here = 2 * ((row * length + t) * width + first);
        const float *gt = grad_h + here;
        const float *before = t ? h + here - 2 * width : start + 2 * (row * width + first);
        float *gb = grad_b + here, *ga = grad_a && a_time ? grad_a + here : partial;
        float keep = ga == partial;
#pragma omp simd
        for (long n = 0; n < count; n++) {
          float ar = after[2 * n], ai = after[2 * n + 1];
          float gr = gb_after[2 * n], gi = gb_after[2 * n + 1];
          float real = gt[2 * n] + ar * gr + ai * gi, imaginary = gt[2 * n + 1] + ar * gi - ai * gr;
          gb[2 * n] = real;
          gb[2 * n + 1] = imaginary;
          float hr = before[2 * n], hi = before[2 * n + 1];
          ga[2 * n] = (keep ? ga[2 * n] : 0.0f) + (real * hr + imaginary * hi);
          ga[2 * n + 1] = (keep ? ga[2 * n + 1] : 0.0f) + (imaginary * hr - real * hi);
        }
        after = a + 2 * (row * a_row + t * a_time + first);
        gb_after = gb;
        if (t % PARTIAL) continue;
#pragma omp simd
        for (long n = 0; n < 2 * count; n++) {
          sum[n] += partial[n];
          partial[n] = 0;
        }
      }
      if (grad_a && !a_time)
        memcpy(grad_a + 2 * (row * width + first), sum, 2 * count * sizeof(float));
    }
}
