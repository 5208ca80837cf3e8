/* h_t = a_t h_{t-1} + b_t, real and complex, and the walk back.

   A task is one row and at most BLOCK floats of it; time is sequential inside it. `a` has its own
   strides over rows and time, 0 where it is one for all. Complex numbers are pairs of floats, and
   widths and strides count floats. */

#include "simd.h"

#define BLOCK 128        /* floats of a task */
#define VECTORS (BLOCK / LANES)
#define PARTIAL 64       /* tokens whose sum is taken apart: errors grow with their number, not with T */

/* x y, and conj(x) y. */
INLINE vec product(vec x, vec y, int is_complex) {
  if (!is_complex) return x * y;
  return real_parts(x) * y + flip_signs(imaginary_parts(x) * swap_parts(y), 0);
}

INLINE vec conjugate_product(vec x, vec y, int is_complex) {
  if (!is_complex) return x * y;
  return real_parts(x) * y + flip_signs(imaginary_parts(x) * swap_parts(y), 1);
}

INLINE void walk(const float *a, const float *b, const float *start, float *h, long rows,
                 long length, long width, long a_row, long a_time, long threads, int is_complex) {
  long blocks = divided_up(width, BLOCK);
#pragma omp parallel for collapse(2) num_threads(threads) schedule(static)
  for (long row = 0; row < rows; row++)
    for (long block = 0; block < blocks; block++) {
      long first = block * BLOCK, count = smaller(width - first, BLOCK);
      long vectors = divided_up(count, LANES);
      vec state[VECTORS];
      for (long v = 0; v < vectors; v++)
        state[v] = load_some(start + row * width + first + v * LANES, count - v * LANES);
      for (long t = 0; t < length; t++) {
        long here = (row * length + t) * width + first;
        const float *at = a + row * a_row + t * a_time + first;
        for (long v = 0; v < vectors; v++) {
          long n = v * LANES, some = count - n;
          vec decayed = product(load_some(at + n, some), state[v], is_complex);
          state[v] = decayed + load_some(b + here + n, some);
          store_some(h + here + n, state[v], some);
        }
      }
    }
}

/* grad_b_t = grad_h_t + conj(a_{t+1}) grad_b_{t+1};  grad_a_t = conj(h_{t-1}) grad_b_t.

   grad_a (rows, length or 1, width) is summed over time where a is one for all; it may be null.
   Columns and rows go down as time does: a processor fetches ahead what falls steadily, and waited
   twice as long for memory where they rose. */
INLINE void walk_back(const float *a, const float *h, const float *start, const float *grad_h,
                      float *grad_b, float *grad_a, long rows, long length, long width, long a_row,
                      long a_time, long threads, int is_complex) {
  long blocks = divided_up(width, BLOCK);
#pragma omp parallel for collapse(2) num_threads(threads) schedule(static)
  for (long back = 0; back < rows; back++)
    for (long block = 0; block < blocks; block++) {
      long row = rows - 1 - back, first = block * BLOCK, count = smaller(width - first, BLOCK);
      long vectors = divided_up(count, LANES);
      vec sum[VECTORS] = {0}, partial[VECTORS] = {0};
      vec carried[VECTORS] = {0}; /* conj(a_{t+1}) grad_b_{t+1} */
      for (long t = length - 1; t >= 0; t--) {
        long here = (row * length + t) * width + first;
        const float *at = a + row * a_row + t * a_time + first;
        const float *before = t ? h + here - width : start + row * width + first;
        float *ga = grad_a && a_time ? grad_a + here : 0;
        for (long v = vectors - 1; v >= 0; v--) {
          long n = v * LANES, some = count - n;
          vec gb = load_some(grad_h + here + n, some) + carried[v];
          vec of_a = conjugate_product(load_some(before + n, some), gb, is_complex);
          carried[v] = conjugate_product(load_some(at + n, some), gb, is_complex);
          store_some(grad_b + here + n, gb, some);
          if (ga)
            store_some(ga + n, of_a, some);
          else
            partial[v] += of_a;
        }
        if (ga || t % PARTIAL) continue;
        for (long v = 0; v < vectors; v++) {
          sum[v] += partial[v];
          partial[v] = (vec){0};
        }
      }
      if (!grad_a || a_time) continue;
      for (long v = 0; v < vectors; v++)
        store_some(grad_a + row * width + first + v * LANES, sum[v], count - v * LANES);
    }
}

EXPORT void scan(const float *a, const float *b, const float *start, float *h, long rows,
                 long length, long width, long a_row, long a_time, long threads) {
  walk(a, b, start, h, rows, length, width, a_row, a_time, threads, 0);
}

EXPORT void scan_complex(const float *a, const float *b, const float *start, float *h, long rows,
                         long length, long width, long a_row, long a_time, long threads) {
  walk(a, b, start, h, rows, length, 2 * width, 2 * a_row, 2 * a_time, threads, 1);
}

EXPORT void scan_backward(const float *a, const float *h, const float *start, const float *grad_h,
                          float *grad_b, float *grad_a, long rows, long length, long width,
                          long a_row, long a_time, long threads) {
  walk_back(a, h, start, grad_h, grad_b, grad_a, rows, length, width, a_row, a_time, threads, 0);
}

EXPORT void scan_complex_backward(const float *a, const float *h, const float *start,
                                  const float *grad_h, float *grad_b, float *grad_a, long rows,
                                  long length, long width, long a_row, long a_time, long threads) {
  walk_back(a, h, start, grad_h, grad_b, grad_a, rows, length, 2 * width, 2 * a_row, 2 * a_time,
            threads, 1);
}
