/* Vectors of floats as wide as the processor's registers, by GCC's and clang's vector extensions.

   Nothing here names an instruction: the compiler's own macros say how wide a register is. */

#ifndef SEQBENCH_SIMD_H
#define SEQBENCH_SIMD_H

#include <stdint.h>
#include <string.h>
#if defined(__AVX__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
#define LANES (VECTOR_BYTES / 4)

typedef float vec __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t ivec __attribute__((vector_size(VECTOR_BYTES)));
typedef uint64_t pairs __attribute__((vector_size(VECTOR_BYTES)));

#define INLINE static inline __attribute__((always_inline))
#define EXPORT __attribute__((visibility("default")))
#define LOG2_E 1.44269504088896340736f

/* Make the compiler hold a vector in a register from here on. */
#if defined(__x86_64__)
#define KEEP_IN_REGISTER(v) __asm__("" : "+v"(v))
#elif defined(__aarch64__)
#define KEEP_IN_REGISTER(v) __asm__("" : "+w"(v))
#else
#define KEEP_IN_REGISTER(v)
#endif

INLINE vec splat(float x) { return x - (vec){0}; }

INLINE vec load(const float *from) {
  vec v;
  memcpy(&v, from, sizeof v);
  return v;
}

INLINE void store(float *to, vec v) { memcpy(to, &v, sizeof v); }

/* The first `count` lanes; the others are 0. */
INLINE vec load_some(const float *from, long count) {
  vec v = {0};
  if (count >= LANES) return load(from);
  memcpy(&v, from, count * sizeof(float));
  return v;
}

INLINE void store_some(float *to, vec v, long count) {
  if (count >= LANES)
    store(to, v);
  else
    memcpy(to, &v, count * sizeof(float));
}

INLINE vec select_vec(ivec where, vec yes, vec no) {
  return (vec)(((ivec)yes & where) | ((ivec)no & ~where));
}

/* Of complex numbers, (real, imaginary) in each pair of lanes of a little-endian processor: both
   lanes the real part, both the imaginary part, and the parts swapped. */
INLINE vec real_parts(vec z) {
  pairs low = (pairs)z & 0xffffffffu;
  return (vec)(low | low << 32);
}

INLINE vec imaginary_parts(vec z) {
  pairs high = (pairs)z >> 32;
  return (vec)(high | high << 32);
}

INLINE vec swap_parts(vec z) { return (vec)((pairs)z >> 32 | (pairs)z << 32); }

/* The other sign for the real part of each pair, or for the imaginary part. */
INLINE vec flip_signs(vec z, int imaginary) {
  uint64_t sign = imaginary ? 0x8000000000000000u : 0x80000000u;
  return (vec)((pairs)z ^ (sign - (pairs){0}));
}

/* The larger or smaller of the lanes; NaN in x stays: x86 gives the second operand then. */
#if defined(__AVX512F__)
INLINE vec at_least(vec x, vec low) { return (vec)_mm512_max_ps((__m512)low, (__m512)x); }
INLINE vec at_most(vec x, vec high) { return (vec)_mm512_min_ps((__m512)high, (__m512)x); }
#elif defined(__AVX__)
INLINE vec at_least(vec x, vec low) { return (vec)_mm256_max_ps((__m256)low, (__m256)x); }
INLINE vec at_most(vec x, vec high) { return (vec)_mm256_min_ps((__m256)high, (__m256)x); }
#else
INLINE vec at_least(vec x, vec low) { return select_vec(x < low, low, x); }
INLINE vec at_most(vec x, vec high) { return select_vec(x > high, high, x); }
#endif

INLINE vec maximum(vec x, vec y) { return select_vec(x > y, x, y); }

INLINE float sum_lanes(vec v) {
  float sum = 0;
  for (int lane = 0; lane < LANES; lane++) sum += v[lane];
  return sum;
}

#if defined(__AVX__)
/* Lanes 0 to 3 and 4 to 7 of the result are those sums of the halves: they are added at last. */
INLINE __m256 sums_of_eight(const __m256 *v) {
  __m256 low = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
  __m256 high = _mm256_hadd_ps(_mm256_hadd_ps(v[4], v[5]), _mm256_hadd_ps(v[6], v[7]));
  return _mm256_permute2f128_ps(low, high, 0x20) + _mm256_permute2f128_ps(low, high, 0x31);
}
#endif

/* Lane i of the result is the sum of the lanes of v[i], for LANES vectors. */
#if defined(__AVX512F__)
INLINE vec sums_of_lanes(const vec *v) {
  __m256 halves[LANES];
  for (int i = 0; i < LANES; i++) {
    __m256 high = (__m256)_mm512_extractf64x4_pd((__m512d)v[i], 1);
    halves[i] = _mm512_castps512_ps256((__m512)v[i]) + high;
  }
  __m512d low = _mm512_castpd256_pd512((__m256d)sums_of_eight(halves));
  return (vec)_mm512_insertf64x4(low, (__m256d)sums_of_eight(halves + 8), 1);
}
#elif defined(__AVX__)
INLINE vec sums_of_lanes(const vec *v) { return (vec)sums_of_eight((const __m256 *)v); }
#else
INLINE vec sums_of_lanes(const vec *v) {
  vec sums;
  for (int i = 0; i < LANES; i++) sums[i] = sum_lanes(v[i]);
  return sums;
}
#endif

/* 2^x, relative error 1e-7: a polynomial of x - round(x), and round(x) added to its exponent.

   Below 2^-126 it stays at that, from 2^128 on it is infinite, 2^0 is exactly 1, NaN stays NaN. */
INLINE vec exp2_vec(vec x) {
  const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to a whole number */
  x = at_most(at_least(x, splat(-126.0f)), splat(128.0f));
  vec shifted = x + magic;
  vec rest = x - (shifted - magic); /* within +-1/2 */
  /* Interpolates (2^rest - 1) / rest at Chebyshev's points: within 1e-8, without rounding. */
  vec p = splat(1.54614478e-4f);
  p = p * rest + 1.33908668e-3f;
  p = p * rest + 9.61805694e-3f;
  p = p * rest + 5.55035695e-2f;
  p = p * rest + 2.40226507e-1f;
  p = p * rest + 6.93147182e-1f;
  p = p * rest + 1.0f;
  return (vec)((ivec)p + ((ivec)shifted << 23));
}

INLINE vec exp_vec(vec x) { return exp2_vec(x * LOG2_E); }

INLINE vec sigmoid_vec(vec x) { return 1.0f / (1.0f + exp2_vec(x * -LOG2_E)); }

/* From exp(-2 |x|), which cannot overflow; absolute error 1e-7. */
INLINE vec tanh_vec(vec x) {
  ivec sign = (ivec)x & (int32_t)0x80000000;
  vec magnitude = (vec)((ivec)x ^ sign);
  vec e = exp2_vec(magnitude * (-2.0f * LOG2_E));
  return (vec)((ivec)((1.0f - e) / (1.0f + e)) | sign);
}

INLINE long smaller(long x, long y) { return x < y ? x : y; }

INLINE long divided_up(long x, long y) { return (x + y - 1) / y; }

#endif
