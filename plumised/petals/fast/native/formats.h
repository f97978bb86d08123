// The types of numbers that weights and caches are kept in.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include <immintrin.h>

#include "lanes.h"

namespace {

typedef uint32_t Words __attribute__((vector_size(kLanes * 4)));
typedef uint16_t Halves __attribute__((vector_size(kLanes * 2)));

struct Bfloat16 {
  uint16_t bits;
};

struct Float16 {
  uint16_t bits;
};

Floats load(const Bfloat16 *from) {
  Halves h;
  std::memcpy(&h, from, sizeof h);
  return (Floats)(__builtin_convertvector(h, Words) << 16);
}

Floats load(const Float16 *from) {
#ifdef __AVX512F__
  // Without a mask GCC 12 warns of its own header.
  return (Floats)_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from)));
#else
  return (Floats)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from)));
#endif
}

// Numbers of 8 bits, in the order of the inputs.
struct Int8 {
  int8_t code;
};

Floats load(const Int8 *from) {
#ifdef __AVX512F__
  return (Floats)_mm512_maskz_cvtepi32_ps(
      0xffff, _mm512_maskz_cvtepi8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i *>(from))));
#else
  return (Floats)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(from))));
#endif
}

// Numbers of 4 bits, two in a byte: of 32 inputs in 16 bytes, the first 16 are in the lower halves.
struct Nf4 {
  uint8_t codes;
};

// What they stand for: QLoRA's NormalFloat (arXiv:2305.14314, appendix E).
alignas(64) constexpr float kNormalFloat[16] = {
    -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f,
    -0.18477343022823334f, -0.09105003625154495f, 0.0f, 0.07958029955625534f, 0.16093020141124725f,
    0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f,
    1.0f};

// Of the inputs from `k` on, a multiple of the lanes.
Floats load(const Nf4 *row, int k) {
  const int at = k % 32;
  const Nf4 *from = row + k / 32 * 16 + at % 16;
#ifdef __AVX512F__
  __m512i codes = _mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i *>(from)));
  if (at >= 16) codes = _mm512_maskz_srli_epi32(0xffff, codes, 4);
  return (Floats)_mm512_maskz_permutexvar_ps(0xffff, codes, _mm512_load_ps(kNormalFloat));
#else
  __m256i codes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(from)));
  if (at >= 16) codes = _mm256_srli_epi32(codes, 4);
  const __m256 lower = _mm256_permutevar8x32_ps(_mm256_load_ps(kNormalFloat), codes);
  const __m256 upper = _mm256_permutevar8x32_ps(_mm256_load_ps(kNormalFloat + 8), codes);
  return (Floats)_mm256_blendv_ps(lower, upper, _mm256_castsi256_ps(_mm256_slli_epi32(codes, 28)));
#endif
}

float widen(float v) { return v; }

float widen(Bfloat16 v) {
  const uint32_t word = uint32_t(v.bits) << 16;
  float result;
  std::memcpy(&result, &word, sizeof result);
  return result;
}

float widen(Float16 v) { return _cvtsh_ss(v.bits); }

void narrow(float v, float *to) { *to = v; }

// To the nearest, ties to even, as torch rounds.
void narrow(float v, Bfloat16 *to) {
  uint32_t word;
  std::memcpy(&word, &v, sizeof word);
  to->bits = std::isnan(v) ? 0x7fc0 : uint16_t((word + 0x7fff + (word >> 16 & 1)) >> 16);
}

}  // namespace
