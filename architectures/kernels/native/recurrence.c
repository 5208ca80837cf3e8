/* GRU and simple RNN over a whole sequence, and the walk back through time.

   The product of the inputs is the caller's. A task is up to ROWS rows: each vector of weights that
   is loaded serves all of them. Weights come packed as (blocks of LANES outputs, inputs, gates,
   LANES), so that they are read in order; columns beyond the width are 0. */

#include "simd.h"
#ifdef _OPENMP
#include <omp.h>
#else
#define omp_get_thread_num() 0
#endif

#define ROWS 4
#define PARTIAL 64 /* tokens whose sum is taken apart: errors grow with their number, not with T */


INLINE void exp2_each(vec *x, int n) {
  const float magic = 12582912.0f;
  vec shifted[ROWS], p[ROWS];
  for (int i = 0; i < n; i++) x[i] = at_most(at_least(x[i], splat(-126.0f)), splat(128.0f));
  for (int i = 0; i < n; i++) shifted[i] = x[i] + magic;
  for (int i = 0; i < n; i++) x[i] -= shifted[i] - magic;
  for (int i = 0; i < n; i++) p[i] = 1.54614478e-4f * x[i] + 1.33908668e-3f;
  for (int i = 0; i < n; i++) p[i] = p[i] * x[i] + 9.61805694e-3f;
  for (int i = 0; i < n; i++) p[i] = p[i] * x[i] + 5.55035695e-2f;
  for (int i = 0; i < n; i++) p[i] = p[i] * x[i] + 2.40226507e-1f;
  for (int i = 0; i < n; i++) p[i] = p[i] * x[i] + 6.93147182e-1f;
  for (int i = 0; i < n; i++) p[i] = p[i] * x[i] + 1.0f;
  for (int i = 0; i < n; i++) x[i] = (vec)((ivec)p[i] + ((ivec)shifted[i] << 23));
}
INLINE void sigmoid_each(vec *x, int n) {
  for (int i = 0; i < n; i++) x[i] *= -LOG2_E;
  exp2_each(x, n);
  for (int i = 0; i < n; i++) x[i] = 1.0f / (1.0f + x[i]);
}
INLINE void tanh_each(vec *x, int n) {
  ivec sign[ROWS];
  for (int i = 0; i < n; i++) sign[i] = (ivec)x[i] & (int32_t)0x80000000;
  for (int i = 0; i < n; i++) x[i] = (vec)((ivec)x[i] ^ sign[i]) * (-2.0f * LOG2_E);
  exp2_each(x, n);
  for (int i = 0; i < n; i++) x[i] = (vec)((ivec)((1.0f - x[i]) / (1.0f + x[i])) | sign[i]);
}

EXPORT long lanes(void) { return LANES; }

/* sums[row][v] += x[row][k] weights[k][v], over k; `step` floats from k to k + 1, `apart` between
   the vectors of one k. */
INLINE void multiply(vec *sums, const float *weights, long step, long apart, const float *x,
                     long x_row, long n_inputs, int rows, int vectors) {
  for (long k = 0; k < n_inputs; k++) {
    vec w[3];
    for (int v = 0; v < vectors; v++) {
      w[v] = load(weights + k * step + v * apart);
      KEEP_IN_REGISTER(w[v]); /* gcc would load it again for each row */
    }
    for (int row = 0; row < rows; row++)
      for (int v = 0; v < vectors; v++) sums[row * vectors + v] += x[row * x_row + k] * w[v];
  }
}

/* Call with the number of rows as a constant, so that sums stay in registers. */
#define WITH_ROWS(count, function, ...)     \
  switch (count) {                          \
    case 1: function(1, __VA_ARGS__); break; \
    case 2: function(2, __VA_ARGS__); break; \
    case 3: function(3, __VA_ARGS__); break; \
    default: function(4, __VA_ARGS__);       \
  }

INLINE long rows_of_task(long rows, long threads) {
  return smaller(ROWS, divided_up(rows > 1 ? rows : 1, threads));
}

INLINE void gru_rows(int rows, const float *inputs, const float *weights, const float *bias,
                     const float *state, float *y, float *saved, long length, long width) {
  long blocks = divided_up(width, LANES);
  for (long t = 0; t < length; t++) {
    const float *h = t ? y + (t - 1) * width : state;
    long h_row = t ? length * width : width;
    for (long block = 0; block < blocks; block++) {
      long first = block * LANES, count = smaller(LANES, width - first);
      vec sums[ROWS * 3] = {0};
      multiply(sums, weights + block * width * 3 * LANES, 3 * LANES, LANES, h, h_row, width, rows,
               3);
      vec b_reset = load_some(bias + first, count), b_update = load_some(bias + width + first, count);
      vec b_candidate = load_some(bias + 2 * width + first, count);
      vec b = load_some(bias + 3 * width + first, count), reset[ROWS], update[ROWS], candidate[ROWS];
      const float *x = inputs + t * 3 * width + first;
      long x_row = length * 3 * width;
      for (int row = 0; row < rows; row++) {
        reset[row] = load_some(x + row * x_row, count) + sums[3 * row] + b_reset;
        update[row] = load_some(x + row * x_row + width, count) + sums[3 * row + 1] + b_update;
      }
      sigmoid_each(reset, rows);
      sigmoid_each(update, rows);
      for (int row = 0; row < rows; row++)
        candidate[row] = load_some(x + row * x_row + 2 * width, count) + b_candidate +
                         reset[row] * (sums[3 * row + 2] + b);
      tanh_each(candidate, rows);
      for (int row = 0; row < rows; row++) {
        vec before = load_some(h + row * h_row + first, count);
        store_some(y + (row * length + t) * width + first,
                   candidate[row] + update[row] * (before - candidate[row]), count);
        if (!saved) continue;
        float *s = saved + (row * length + t) * 4 * width + first;
        store_some(s, reset[row], count);
        store_some(s + width, update[row], count);
        store_some(s + 2 * width, candidate[row], count);
        store_some(s + 3 * width, sums[3 * row + 2] + b, count);
      }
    }
  }
}

EXPORT void gru(const float *inputs, const float *weights, const float *bias, const float *state,
                float *y, float *saved, long rows, long length, long width, long threads) {
  long each = rows_of_task(rows, threads);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long row = 0; row < rows; row += each) {
    long tokens = row * length;
    WITH_ROWS(smaller(each, rows - row), gru_rows, inputs + tokens * 3 * width, weights, bias,
              state + row * width, y + tokens * width, saved ? saved + tokens * 4 * width : 0,
              length, width)
  }
}

/* carry[row] += gradients[row] weights, two vectors of it at a time. */
INLINE void carry_back(float *carry, long carry_row, const float *weights, long n_weights,
                       const float *gradients, long gradients_row, long n_gradients, long blocks,
                       int rows) {
  for (long block = 0; block < blocks; block += 3) {
    vec sums[ROWS * 3] = {0};
    const float *of_block = weights + block * n_weights * LANES;
    int vectors = smaller(3, blocks - block);
    if (vectors == 3)
      multiply(sums, of_block, LANES, n_weights * LANES, gradients, gradients_row, n_gradients,
               rows, 3);
    else if (vectors == 2)
      multiply(sums, of_block, LANES, n_weights * LANES, gradients, gradients_row, n_gradients,
               rows, 2);
    else
      multiply(sums, of_block, LANES, 0, gradients, gradients_row, n_gradients, rows, 1);
    for (int row = 0; row < rows; row++)
      for (int v = 0; v < vectors; v++) {
        float *to = carry + row * carry_row + (block + v) * LANES;
        store(to, load(to) + sums[row * vectors + v]);
      }
  }
}

/* Add what was summed up over some tokens, and begin again. */
INLINE void add_up(float *sum, float *partial, long count) {
  for (long n = 0; n < count; n++) {
    sum[n] += partial[n];
    partial[n] = 0;
  }
}

/* Blocks go down as time does: a processor fetches ahead what falls steadily. */
INLINE void gru_rows_backward(int rows, const float *weights, const float *state, const float *y,
                              const float *saved, const float *grad_y, float *grad_inputs,
                              float *grad_hidden, float *grad_bias, float *grad_state,
                              float *carry, long length, long width) {
  long blocks = divided_up(width, LANES), carry_row = blocks * LANES;
  float *partial = carry + ROWS * carry_row; /* (4, carry_row): of the biases, over all rows */
  memset(carry, 0, (ROWS + 4) * carry_row * sizeof(float));
  memset(grad_bias, 0, 4 * width * sizeof(float));
  for (long t = length - 1; t >= 0; t--) {
    for (int row = 0; row < rows; row++)
      for (long block = blocks - 1; block >= 0; block--) {
        long first = block * LANES, count = smaller(LANES, width - first);
        long here = (row * length + t) * width + first;
        const float *s = saved + (row * length + t) * 4 * width + first;
        vec reset = load_some(s, count), update = load_some(s + width, count);
        vec candidate = load_some(s + 2 * width, count), hidden = load_some(s + 3 * width, count);
        vec before = load_some(t ? y + here - width : state + row * width + first, count);
        float *c = carry + row * carry_row + first;
        vec dh = load_some(grad_y + here, count) + load(c);
        vec d_candidate = dh * (1.0f - update) * (1.0f - candidate * candidate);
        float *g = grad_inputs + (row * length + t) * 3 * width + first;
        vec d_reset = d_candidate * hidden * reset * (1.0f - reset);
        vec d_update = dh * (before - candidate) * update * (1.0f - update);
        vec d_hidden = d_candidate * reset;
        store_some(g, d_reset, count);
        store_some(g + width, d_update, count);
        store_some(g + 2 * width, d_candidate, count);
        store_some(grad_hidden + here, d_hidden, count);
        store(c, dh * update);
        float *b = partial + first;
        store(b, load(b) + d_reset);
        store(b + carry_row, load(b + carry_row) + d_update);
        store(b + 2 * carry_row, load(b + 2 * carry_row) + d_candidate);
        store(b + 3 * carry_row, load(b + 3 * carry_row) + d_hidden);
      }
    if (t % PARTIAL == 0)
      for (int gate = 0; gate < 4; gate++)
        add_up(grad_bias + gate * width, partial + gate * carry_row, width);
    carry_back(carry, carry_row, weights, 3 * width, grad_inputs + t * 3 * width,
               length * 3 * width, 2 * width, blocks, rows);
    carry_back(carry, carry_row, weights + 2 * width * LANES, 3 * width, grad_hidden + t * width,
               length * width, width, blocks, rows);
  }
  for (int row = 0; row < rows; row++)
    memcpy(grad_state + row * width, carry + row * carry_row, width * sizeof(float));
}

EXPORT void gru_backward(const float *weights, const float *state, const float *y,
                         const float *saved, const float *grad_y, float *grad_inputs,
                         float *grad_hidden, float *grad_bias, float *grad_state, float *scratch,
                         long rows, long length, long width, long threads) {
  long each = rows_of_task(rows, threads), carry_row = divided_up(width, LANES) * LANES;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long row = 0; row < rows; row += each) {
    long tokens = row * length;
    float *carry = scratch + omp_get_thread_num() * (ROWS + 4) * carry_row;
    WITH_ROWS(smaller(each, rows - row), gru_rows_backward, weights, state + row * width,
              y + tokens * width, saved + tokens * 4 * width, grad_y + tokens * width,
              grad_inputs + tokens * 3 * width, grad_hidden + tokens * width,
              grad_bias + row * 4 * width, grad_state + row * width, carry, length, width)
  }
}

INLINE void rnn_block(int rows, int vectors, const float *inputs, const float *weights,
                      const float *bias, const float *h, long h_row, float *y, long y_row, long first, long width,
                      long relu) {
  vec sums[ROWS * 2] = {0};
  multiply(sums, weights + first * width, LANES, width * LANES, h, h_row, width, rows, vectors);
  for (int v = 0; v < vectors; v++) {
    long column = first + v * LANES, count = smaller(LANES, width - column);
    vec b = load_some(bias + column, count), out[ROWS];
    for (int row = 0; row < rows; row++)
      out[row] = load_some(inputs + row * y_row + column, count) + sums[row * vectors + v] + b;
    if (!relu) tanh_each(out, rows);
    for (int row = 0; row < rows; row++) {
      /* Compared this way round, NaN stays. */
      if (relu) out[row] = select_vec(out[row] < 0.0f, splat(0), out[row]);
      store_some(y + row * y_row + column, out[row], count);
    }
  }
}

INLINE void rnn_rows(int rows, const float *inputs, const float *weights, const float *bias,
                     const float *state, float *y, long length, long width, long relu) {
  for (long t = 0; t < length; t++) {
    const float *h = t ? y + (t - 1) * width : state;
    long y_row = length * width, h_row = t ? y_row : width, first = 0;
    const float *x = inputs + t * width;
    for (; first + LANES < width; first += 2 * LANES)
      rnn_block(rows, 2, x, weights, bias, h, h_row, y + t * width, y_row, first, width, relu);
    if (first < width)
      rnn_block(rows, 1, x, weights, bias, h, h_row, y + t * width, y_row, first, width, relu);
  }
}

EXPORT void rnn(const float *inputs, const float *weights, const float *bias,
                const float *state, float *y, long rows, long length, long width, long relu, long threads) {
  long each = rows_of_task(rows, threads);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long row = 0; row < rows; row += each) {
    long tokens = row * length;
    WITH_ROWS(smaller(each, rows - row), rnn_rows, inputs + tokens * width, weights, bias,
              state + row * width, y + tokens * width, length, width, relu)
  }
}

INLINE void rnn_rows_backward(int rows, const float *weights, const float *y, const float *grad_y,
                              float *grad_inputs, float *grad_bias, float *grad_state,
                              float *carry, long length, long width, long relu) {
  long blocks = divided_up(width, LANES), carry_row = blocks * LANES;
  float *partial = carry + ROWS * carry_row;
  memset(carry, 0, (ROWS + 1) * carry_row * sizeof(float));
  memset(grad_bias, 0, width * sizeof(float));
  for (long t = length - 1; t >= 0; t--) {
    for (int row = 0; row < rows; row++)
      for (long block = blocks - 1; block >= 0; block--) {
        long first = block * LANES, count = smaller(LANES, width - first);
        long here = (row * length + t) * width + first;
        float *c = carry + row * carry_row + first;
        vec h = load_some(y + here, count), dh = load_some(grad_y + here, count) + load(c);
        vec slope = relu ? select_vec(h <= 0.0f, splat(0), splat(1)) : 1.0f - h * h;
        store_some(grad_inputs + here, dh * slope, count);
        store(c, splat(0));
        store(partial + first, load(partial + first) + dh * slope);
      }
    if (t % PARTIAL == 0) add_up(grad_bias, partial, width);
    carry_back(carry, carry_row, weights, width, grad_inputs + t * width, length * width, width,
               blocks, rows);
  }
  for (int row = 0; row < rows; row++)
    memcpy(grad_state + row * width, carry + row * carry_row, width * sizeof(float));
}

EXPORT void rnn_backward(const float *weights, const float *y, const float *grad_y,
                         float *grad_inputs, float *grad_bias, float *grad_state, float *scratch,
                         long rows, long length, long width, long relu, long threads) {
  long each = rows_of_task(rows, threads), carry_row = divided_up(width, LANES) * LANES;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long row = 0; row < rows; row += each) {
    long tokens = row * length;
    float *carry = scratch + omp_get_thread_num() * (ROWS + 1) * carry_row;
    WITH_ROWS(smaller(each, rows - row), rnn_rows_backward, weights, y + tokens * width,
              grad_y + tokens * width, grad_inputs + tokens * width, grad_bias + row * width,
              grad_state + row * width, carry, length, width, relu)
  }
}
