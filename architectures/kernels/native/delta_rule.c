/* u = a^T S,  S = diag(w) S + b u^T + k v^T,  y = q^T S, and the walk back.

   S is kept as its columns: a vector is LANES keys of one value, and a column's erasure needs that
   column alone. Sums over keys (u, y, the gradients of v and u) are taken for LANES columns at
   once, by a transposition; sums over values (all other gradients) are vectors anyway. A task is
   one row and head, sequential in time. S is kept at every CHUNK tokens, and the walk back computes
   those of a chunk again. All scratch memory is the caller's.

   The gated rule has one decay w for a head and one strength beta: there a is 0, b is beta and
   log_decay one number; it is the general rule with a = -w k, b = beta k, and beta k for k. */

#include "simd.h"
#ifdef _OPENMP
#include <omp.h>
#else
#define omp_get_thread_num() 0
#endif

#define CHUNK 16
#define CACHE_LINE 16 /* floats */
#define AHEAD 8 /* tokens */

typedef struct {
  const float *q, *k, *v, *a, *b, *log_decay;
  long length, heads, n_keys, n_values;
  long blocks;  /* vectors of a column */
  long columns; /* n_values, up to the next whole vector; those beyond stay 0 */
  long chunks;
} Rule;

/* What one token brings, filled up with zeros; u is what it finds. */
typedef struct {
  vec *w, *a, *b, *k, *q;
  float *v, *u;
} Token;

EXPORT long lanes(void) { return LANES; }

INLINE Rule rule_of(const float *q, const float *k, const float *v, const float *a, const float *b,
                    const float *log_decay, long length, long heads, long n_keys, long n_values) {
  long blocks = divided_up(n_keys, LANES), columns = divided_up(n_values, LANES) * LANES;
  Rule r = {q, k, v, a, b, log_decay, length, heads, n_keys, n_values, blocks, columns};
  r.chunks = divided_up(length, CHUNK);
  return r;
}

INLINE long state_vectors(const Rule *r) { return r->blocks * r->columns; }

INLINE long token_vectors(const Rule *r) { return 5 * r->blocks + 2 * r->columns / LANES; }

INLINE Token token_in(vec *scratch, const Rule *r) {
  Token x;
  x.w = scratch;
  x.a = x.w + r->blocks;
  x.b = x.a + r->blocks;
  x.k = x.b + r->blocks;
  x.q = x.k + r->blocks;
  x.v = (float *)(x.q + r->blocks);
  x.u = x.v + r->columns;
  return x;
}

/* Where a token's keys begin, in units of vectors of n_keys or n_values. */
INLINE long place(const Rule *r, long row, long head, long t) {
  return (row * r->length + t) * r->heads + head;
}

INLINE void load_columns(float *to, const float *from, const Rule *r) {
  for (long p = 0; p < r->columns; p += LANES) store(to + p, load_some(from + p, r->n_values - p));
}

/* Ask for memory that is needed soon: the next token of a head is too far off for the processor to
   fetch it by itself. An address beyond the ends is no fault. */
INLINE void ask_for(const float *from, long at, long width) {
  if (!from) return;
  for (long n = 0; n < width; n += CACHE_LINE) __builtin_prefetch(from + at * width + n);
}

INLINE void ask_for_token(const Rule *r, long at) {
  ask_for(r->q, at, r->n_keys);
  ask_for(r->k, at, r->n_keys);
  ask_for(r->v, at, r->n_values);
  ask_for(r->a, at, r->n_keys);
  ask_for(r->b, at, r->a ? r->n_keys : 1);
  ask_for(r->log_decay, at, r->a ? r->n_keys : 1);
}

INLINE void load_token(Token x, const Rule *r, long at) {
  load_columns(x.v, r->v + at * r->n_values, r);
  for (long j = 0; j < r->blocks; j++) {
    long here = at * r->n_keys + j * LANES, count = smaller(LANES, r->n_keys - j * LANES);
    vec key = load_some(r->k + here, count);
    x.q[j] = load_some(r->q + here, count);
    if (r->a) {
      x.w[j] = exp_vec(load_some(r->log_decay + here, count));
      x.a[j] = load_some(r->a + here, count);
      x.b[j] = load_some(r->b + here, count);
      x.k[j] = key;
    } else {
      x.w[j] = exp_vec(splat(r->log_decay[at]));
      x.a[j] = -x.w[j] * key;
      x.b[j] = x.k[j] = r->b[at] * key;
    }
  }
}

/* Transpose between (n_keys, n_values) in memory and columns. */
INLINE void gather(vec *to, const float *from, const Rule *r) {
  memset(to, 0, state_vectors(r) * sizeof(vec));
  for (long n = 0; n < r->n_keys; n++)
    for (long p = 0; p < r->n_values; p++)
      to[n / LANES * r->columns + p][n % LANES] = from[n * r->n_values + p];
}

INLINE void scatter(float *to, const vec *from, const Rule *r) {
  for (long n = 0; n < r->n_keys; n++)
    for (long p = 0; p < r->n_values; p++)
      to[n * r->n_values + p] = from[n / LANES * r->columns + p][n % LANES];
}

/* u = a^T S */
INLINE void find(Token x, const vec *state, const Rule *r) {
  for (long p = 0; p < r->columns; p += LANES) {
    vec sums[LANES] = {0};
    for (long j = 0; j < r->blocks; j++)
      for (int i = 0; i < LANES; i++) sums[i] += x.a[j] * state[j * r->columns + p + i];
    store(x.u + p, sums_of_lanes(sums));
  }
}

/* The state after a token, two columns at a time; `reads`, if there, gets q S before its sums. */
INLINE void advance(Token x, const vec *before, vec *after, vec *reads, const Rule *r) {
  for (long p = 0; p < r->columns; p += 2) {
    vec u0 = splat(x.u[p]), u1 = splat(x.u[p + 1]), v0 = splat(x.v[p]), v1 = splat(x.v[p + 1]);
    vec y0 = {0}, y1 = {0};
    for (long j = 0; j < r->blocks; j++) {
      long at = j * r->columns + p;
      vec s0 = x.w[j] * before[at] + x.b[j] * u0 + x.k[j] * v0;
      vec s1 = x.w[j] * before[at + 1] + x.b[j] * u1 + x.k[j] * v1;
      after[at] = s0;
      after[at + 1] = s1;
      if (!reads) continue;
      y0 += x.q[j] * s0;
      y1 += x.q[j] * s1;
    }
    if (!reads) continue;
    reads[p] = y0;
    reads[p + 1] = y1;
  }
}

EXPORT long forward_vectors(long n_keys, long n_values) {
  Rule r = rule_of(0, 0, 0, 0, 0, 0, 0, 0, n_keys, n_values);
  return state_vectors(&r) + token_vectors(&r) + r.columns;
}

EXPORT void delta_rule(const float *q, const float *k, const float *v, const float *a,
                       const float *b, const float *log_decay, const float *state, float *y,
                       float *final, float *starts, float *scratch, long rows, long length,
                       long heads, long n_keys, long n_values, long threads) {
  Rule whole = rule_of(q, k, v, a, b, log_decay, length, heads, n_keys, n_values), *r = &whole;
  long vectors = forward_vectors(n_keys, n_values), size = state_vectors(r);
#pragma omp parallel for collapse(2) num_threads(threads) schedule(static)
  for (long row = 0; row < rows; row++)
    for (long head = 0; head < heads; head++) {
      vec *s = (vec *)scratch + omp_get_thread_num() * vectors, *reads = s + size;
      Token x = token_in(reads + r->columns, r);
      long task = row * heads + head;
      gather(s, state + task * n_keys * n_values, r);
      for (long t = 0; t < length; t++) {
        long at = place(r, row, head, t);
        if (starts && t % CHUNK == 0)
          memcpy(starts + (task * r->chunks + t / CHUNK) * size * LANES, s, size * sizeof(vec));
        ask_for_token(r, at + AHEAD * heads);
        load_token(x, r, at);
        find(x, s, r);
        advance(x, s, s, reads, r);
        for (long p = 0; p < r->columns; p += LANES)
          store_some(y + at * n_values + p, sums_of_lanes(reads + p), n_values - p);
      }
      scatter(final + task * n_keys * n_values, s, r);
    }
}

/* What one thread needs: vectors of scratch memory, in this order. */
typedef struct {
  vec *states;    /* (CHUNK + 1, blocks, columns), the first before the chunk */
  vec *tokens;    /* (CHUNK, token_vectors) */
  vec *grad;      /* (blocks, columns): of the state */
  vec *grad_v;    /* (columns,), before sums over keys */
  vec *grad_u;    /* (columns,) */
  float *found;   /* (columns,): the gradient of u */
  float *grad_y;  /* (columns,) */
} Workspace;

EXPORT long backward_vectors(long n_keys, long n_values) {
  Rule r = rule_of(0, 0, 0, 0, 0, 0, 0, 0, n_keys, n_values);
  return (CHUNK + 2) * state_vectors(&r) + CHUNK * token_vectors(&r) + 2 * r.columns +
         2 * r.columns / LANES;
}

INLINE Workspace workspace(vec *scratch, const Rule *r) {
  Workspace w;
  w.states = scratch;
  w.tokens = w.states + (CHUNK + 1) * state_vectors(r);
  w.grad = w.tokens + CHUNK * token_vectors(r);
  w.grad_v = w.grad + state_vectors(r);
  w.grad_u = w.grad_v + r->columns;
  w.found = (float *)(w.grad_u + r->columns);
  w.grad_y = w.found + r->columns;
  return w;
}

/* Tokens of the chunk and the states after them, from the state that was kept. */
INLINE void compute_again(const Workspace *w, const float *start, long at, long tokens,
                          const Rule *r) {
  long size = state_vectors(r);
  memcpy(w->states, start, size * sizeof(vec));
  for (long i = 0; i < tokens; i++) {
    Token x = token_in(w->tokens + i * token_vectors(r), r);
    vec *before = w->states + i * size;
    ask_for_token(r, at + (i - CHUNK) * r->heads);
    load_token(x, r, at + i * r->heads);
    find(x, before, r);
    advance(x, before, before + size, 0, r);
  }
}

/* What y adds to the gradient of the state, and from that the gradients of v and u. */
INLINE void enter(const Workspace *w, Token x, float *grad_v, const Rule *r) {
  for (long p = 0; p < r->columns; p += 2) {
    vec dy0 = splat(w->grad_y[p]), dy1 = splat(w->grad_y[p + 1]);
    vec dv0 = {0}, dv1 = {0}, du0 = {0}, du1 = {0};
    for (long j = 0; j < r->blocks; j++) {
      vec *grad = w->grad + j * r->columns + p;
      vec grad0 = grad[0] + x.q[j] * dy0, grad1 = grad[1] + x.q[j] * dy1;
      grad[0] = grad0;
      grad[1] = grad1;
      dv0 += x.k[j] * grad0;
      dv1 += x.k[j] * grad1;
      du0 += x.b[j] * grad0;
      du1 += x.b[j] * grad1;
    }
    w->grad_v[p] = dv0;
    w->grad_v[p + 1] = dv1;
    w->grad_u[p] = du0;
    w->grad_u[p + 1] = du1;
  }
  for (long p = 0; p < r->columns; p += LANES) {
    store_some(grad_v + p, sums_of_lanes(w->grad_v + p), r->n_values - p);
    store(w->found + p, sums_of_lanes(w->grad_u + p));
  }
}

/* Gradients of LANES keys of one token. */
typedef struct {
  vec q, k, a, b, w;
} KeyGradients;

/* Sums over the columns, and the gradient of the state before. Downwards like the tokens: the
   processor fetches ahead what falls steadily. */
INLINE KeyGradients leave(const Workspace *w, Token x, const vec *before, long j, const Rule *r) {
  const vec *s = before + j * r->columns, *next = s + state_vectors(r);
  vec *grad = w->grad + j * r->columns, decay = x.w[j], a = x.a[j];
  KeyGradients d = {{0}};
  for (long p = r->columns - 1; p >= 0; p--) {
    vec g = grad[p], now = s[p];
    d.q += next[p] * w->grad_y[p];
    d.k += g * x.v[p];
    d.b += g * x.u[p];
    d.w += g * now;
    d.a += now * w->found[p];
    grad[p] = decay * g + a * w->found[p];
  }
  return d;
}

EXPORT void delta_rule_backward(const float *q, const float *k, const float *v, const float *a,
                                const float *b, const float *log_decay, const float *starts,
                                const float *grad_y, const float *grad_final, float *grad_q,
                                float *grad_k, float *grad_v, float *grad_a, float *grad_b,
                                float *grad_log_decay, float *grad_state, float *scratch, long rows,
                                long length, long heads, long n_keys, long n_values, long threads) {
  Rule whole = rule_of(q, k, v, a, b, log_decay, length, heads, n_keys, n_values), *r = &whole;
  long vectors = backward_vectors(n_keys, n_values), size = state_vectors(r);
#pragma omp parallel for collapse(2) num_threads(threads) schedule(static)
  for (long row = 0; row < rows; row++)
    for (long head = 0; head < heads; head++) {
      Workspace w = workspace((vec *)scratch + omp_get_thread_num() * vectors, r);
      long task = row * heads + head;
      gather(w.grad, grad_final + task * n_keys * n_values, r);
      for (long chunk = r->chunks - 1; chunk >= 0; chunk--) {
        long first = place(r, row, head, chunk * CHUNK);
        long tokens = smaller(CHUNK, length - chunk * CHUNK);
        compute_again(&w, starts + (task * r->chunks + chunk) * size * LANES, first, tokens, r);
        for (long i = tokens - 1; i >= 0; i--) {
          long at = first + i * heads;
          Token x = token_in(w.tokens + i * token_vectors(r), r);
          ask_for(grad_y, at - AHEAD * heads, n_values);
          load_columns(w.grad_y, grad_y + at * n_values, r);
          enter(&w, x, grad_v + at * n_values, r);
          vec grad_beta = {0}, grad_decay = {0}; /* of the gated rule, before sums over keys */
          for (long j = r->blocks - 1; j >= 0; j--) {
            long here = at * n_keys + j * LANES, count = smaller(LANES, n_keys - j * LANES);
            KeyGradients d = leave(&w, x, w.states + i * size, j, r);
            store_some(grad_q + here, d.q, count);
            if (a) {
              store_some(grad_k + here, d.k, count);
              store_some(grad_a + here, d.a, count);
              store_some(grad_b + here, d.b, count);
              store_some(grad_log_decay + here, d.w * x.w[j], count);
            } else {
              vec written = d.k + d.b;
              store_some(grad_k + here, b[at] * written - x.w[j] * d.a, count);
              grad_beta += load_some(k + here, count) * written;
              grad_decay += d.w * x.w[j] + d.a * x.a[j];
            }
          }
          if (a) continue;
          grad_b[at] = sum_lanes(grad_beta);
          grad_log_decay[at] = sum_lanes(grad_decay);
        }
      }
      scatter(grad_state + task * n_keys * n_values, w.grad, r);
    }
}
