/* The wkv of RWKV-4 with its running maximum, and the walk back.

   A task is one row and LANES channels, sequential in time. The state (a, b, p) is kept at every
   CHUNK tokens; the walk back computes those of a chunk again. Of two exponentials whose larger
   exponent is taken off both, one is 1: a step takes two exponentials, not four. */

#include "simd.h"

#define CHUNK 32

typedef struct {
  vec a, b, p;
} State;

typedef struct {
  vec of_past, of_token, y, inverse; /* weights and value of the output; 1 / denominator */
  vec kept, written;                 /* weights of the state before and of the token in the next */
  ivec falls;                        /* where the maximum is the state's and not the token's */
} Step;

EXPORT long lanes(void) { return LANES; }

/* exp(x - max(x, y)) and exp(y - max(x, y)) */
INLINE void weigh(vec x, vec y, vec *of_x, vec *of_y) {
  vec difference = x - y, one = splat(1);
  ivec larger = difference >= 0.0f;
  vec weight = exp_vec(select_vec(larger, -difference, difference));
  *of_x = select_vec(larger, one, weight);
  *of_y = select_vec(larger, weight, one);
}

INLINE Step step_of(State s, vec w, vec u, vec k, vec v) {
  Step step;
  weigh(s.p, u + k, &step.of_past, &step.of_token);
  step.inverse = 1.0f / (step.of_past * s.b + step.of_token);
  step.y = (step.of_past * s.a + step.of_token * v) * step.inverse;
  weigh(s.p - w, k, &step.kept, &step.written);
  step.falls = s.p - w > k;
  return step;
}

INLINE State after(State s, Step step, vec w, vec k, vec v) {
  State next;
  next.a = step.kept * s.a + step.written * v;
  next.b = step.kept * s.b + step.written;
  next.p = maximum(s.p - w, k);
  return next;
}

EXPORT void wkv4(const float *w, const float *u, const float *k, const float *v, const float *a,
                 const float *b, const float *p, const int64_t *lengths, float *y, float *final_a,
                 float *final_b, float *final_p, float *starts, long rows, long length, long width,
                 long threads) {
  long blocks = divided_up(width, LANES), chunks = divided_up(length, CHUNK);
#pragma omp parallel for collapse(2) num_threads(threads) schedule(static)
  for (long row = 0; row < rows; row++)
    for (long block = 0; block < blocks; block++) {
      long first = block * LANES, count = smaller(LANES, width - first);
      long at = row * width + first, last = (lengths ? lengths[row] : length) - 1;
      vec decay = load_some(w + first, count), bonus = load_some(u + first, count);
      State s = {load_some(a + at, count), load_some(b + at, count), load_some(p + at, count)};
      for (long t = 0; t < length; t++) {
        if (starts && t % CHUNK == 0)
          memcpy(starts + ((row * chunks + t / CHUNK) * blocks + block) * 3 * LANES, &s, sizeof s);
        long here = (row * length + t) * width + first;
        vec key = load_some(k + here, count), value = load_some(v + here, count);
        Step step = step_of(s, decay, bonus, key, value);
        store_some(y + here, step.y, count);
        s = after(s, step, decay, key, value);
        if (t != last) continue;
        store_some(final_a + at, s.a, count);
        store_some(final_b + at, s.b, count);
        store_some(final_p + at, s.p, count);
      }
    }
}

/* With A = a e^p the true numerator, grad.a is here the gradient of A times e^p, and likewise
   grad.b. grad.p is what p itself gets: it comes from the final state alone, since nothing else
   depends on how A is divided into a and p, and goes to whichever token was the maximum.

   grad_w and grad_u (rows, width) are sums over time. */
EXPORT void wkv4_backward(const float *w, const float *u, const float *k, const float *v,
                          const int64_t *lengths, const float *starts, const float *grad_y,
                          const float *grad_final_a, const float *grad_final_b,
                          const float *grad_final_p, float *grad_w, float *grad_u, float *grad_k,
                          float *grad_v, float *grad_a, float *grad_b, float *grad_p, long rows,
                          long length, long width, long threads) {
  long blocks = divided_up(width, LANES), chunks = divided_up(length, CHUNK);
#pragma omp parallel for collapse(2) num_threads(threads) schedule(static)
  for (long row = 0; row < rows; row++)
    for (long block = 0; block < blocks; block++) {
      long first = block * LANES, count = smaller(LANES, width - first);
      long at = row * width + first, last = (lengths ? lengths[row] : length) - 1;
      vec decay = load_some(w + first, count), bonus = load_some(u + first, count);
      vec sum_w = splat(0), sum_u = splat(0);
      State grad = {splat(0), splat(0), splat(0)}, states[CHUNK + 1];
      for (long chunk = chunks - 1; chunk >= 0; chunk--) {
        long tokens = smaller(CHUNK, length - chunk * CHUNK);
        vec chunk_w = splat(0), chunk_u = splat(0);
        memcpy(states, starts + ((row * chunks + chunk) * blocks + block) * 3 * LANES,
               sizeof(State));
        for (long i = 0; i < tokens; i++) {
          long here = (row * length + chunk * CHUNK + i) * width + first;
          vec key = load_some(k + here, count), value = load_some(v + here, count);
          Step step = step_of(states[i], decay, bonus, key, value);
          states[i + 1] = after(states[i], step, decay, key, value);
        }
        for (long i = tokens - 1; i >= 0; i--) {
          long t = chunk * CHUNK + i, here = (row * length + t) * width + first;
          vec key = load_some(k + here, count), value = load_some(v + here, count);
          State s = states[i], next = states[i + 1];
          if (t == last) {
            vec final_a = load_some(grad_final_a + at, count);
            vec final_b = load_some(grad_final_b + at, count);
            grad.a += final_a;
            grad.b += final_b;
            grad.p += load_some(grad_final_p + at, count) - final_a * next.a - final_b * next.b;
          }
          Step step = step_of(s, decay, bonus, key, value);
          vec fallen = select_vec(step.falls, grad.p, splat(0));
          chunk_w -= step.kept * (grad.a * s.a + grad.b * s.b) + fallen;
          vec dk = step.written * (grad.a * value + grad.b) + (grad.p - fallen);
          vec dv = step.written * grad.a;
          vec share = load_some(grad_y + here, count) * step.inverse;
          vec of_token = step.of_token * share, of_past = step.of_past * share;
          vec exponent = of_token * (value - step.y); /* the gradient of u + k */
          chunk_u += exponent;
          store_some(grad_k + here, dk + exponent, count);
          store_some(grad_v + here, dv + of_token, count);
          grad.a = step.kept * grad.a + of_past;
          grad.b = step.kept * grad.b - of_past * step.y;
          grad.p = fallen;
        }
        sum_w += chunk_w;
        sum_u += chunk_u;
      }
      if (length)
        grad.p += grad.a * states[0].a + grad.b * states[0].b;
      store_some(grad_w + at, sum_w, count);
      store_some(grad_u + at, sum_u, count);
      store_some(grad_a + at, grad.a, count);
      store_some(grad_b + at, grad.b, count);
      store_some(grad_p + at, grad.p, count);
    }
}
