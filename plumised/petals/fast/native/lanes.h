// Vectors as wide as the registers of the instruction set, and the functions that take them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

#ifdef __AVX512F__
constexpr int kLanes = 16;
#else
constexpr int kLanes = 8;
#endif

typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4)));

inline Floats load(const float *from) {
  Floats v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

inline void store(float *to, Floats v) { std::memcpy(to, &v, sizeof v); }

typedef float Eight __attribute__((vector_size(32)));
typedef float Four __attribute__((vector_size(16)));

inline float sum(Eight v) {
  const Four four = __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
  const Four two = four + __builtin_shufflevector(four, four, 2, 3, 2, 3);
  return two[0] + two[1];
}

#ifdef __AVX512F__
inline float sum(Floats v) {
  return sum(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
             __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
}

inline Floats add_halves(Floats a, Floats b) {
  return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
         __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
}

// The sums of four vectors, each added up in the order in which one alone is.
inline Four sum(Floats a, Floats b, Floats c, Floats d) {
  const Floats ab = add_halves(a, b), cd = add_halves(c, d);
  const Floats four =
      __builtin_shufflevector(ab, cd, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
      __builtin_shufflevector(ab, cd, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  const Floats two =
      four + __builtin_shufflevector(four, four, 2, 3, 2, 3, 6, 7, 6, 7, 10, 11, 10, 11, 14, 15, 14, 15);
  return Four{two[0] + two[1], two[4] + two[5], two[8] + two[9], two[12] + two[13]};
}
#else
inline Four sum(Floats a, Floats b, Floats c, Floats d) { return Four{sum(a), sum(b), sum(c), sum(d)}; }
#endif

// e^v within 2 ulp between the smallest normal number and the largest; 0 below. Coefficients of Cephes' expf.
inline Floats exponential(Floats v) {
  const Floats rounder = Floats{} + 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const Ints vanishes = v < -87.3f;
  v = v > 88.3f ? Floats{} + 88.3f : v;
  v = v < -87.3f ? Floats{} - 87.3f : v;
  const Floats power = (v * 1.44269504f + rounder) - rounder;
  const Floats r = (v - power * 0.693359375f) + power * 2.12194440e-4f;
  Floats p = Floats{} + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const Ints scale = (__builtin_convertvector(power, Ints) + 127) << 23;
  return vanishes ? Floats{} : p * (Floats)scale;
}

inline Floats silu(Floats v) { return v / (1.0f + exponential(-v)); }

inline Floats gelu_tanh(Floats v) {
  const Floats u = 0.79788456f * v * (1.0f + 0.044715f * v * v);
  return v * (1.0f - 1.0f / (exponential(2.0f * u) + 1.0f));
}

inline float gelu(float v) { return 0.5f * v * (1.0f + std::erf(v * 0.70710678f)); }

}  // namespace
