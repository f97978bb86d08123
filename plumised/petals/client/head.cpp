// Scores of int8 weights against float inputs: what head.py takes to find the few rows that can have the largest logit.
//
// Memory decides how long this takes, so every weight is read once for up to eight inputs. Built once for each
// instruction set, as the kernel of the blocks is.

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

#ifdef __AVX512F__
constexpr int kLanes = 16;
#else
constexpr int kLanes = 8;
#endif
constexpr int kGroup = 64;  // inputs that share a scale
constexpr int kInputs = 8;  // most inputs at once
constexpr int kVectors = kGroup / kLanes;

typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4)));

Floats load(const float *from) {
  Floats v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

// A group as floats, in the order of the inputs. Word l holds the weights of inputs l, 16 + l, 32 + l and 48 + l, so that
// shifts unpack it: GCC 12 converts vectors of bytes one by one.
void unpack(const int8_t *from, Floats *to) {
  constexpr int kWords = 16 / kLanes;
  for (int half = 0; half < kWords; half++) {
    Ints words;
    std::memcpy(&words, from + half * sizeof words, sizeof words);
    for (int k = 0; k < 4; k++)
      to[k * kWords + half] = __builtin_convertvector((words << (24 - 8 * k)) >> 24, Floats);
  }
}

float sum(Floats v) {
  float lanes[kLanes];
  std::memcpy(lanes, &v, sizeof v);
  for (int half = kLanes / 2; half; half /= 2)
    for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
  return lanes[0];
}

template <int Count>
void scores(const int8_t *weights, const float *scales, int64_t width, const float *x, int64_t height,
            float *out) {
  const int64_t groups = width / kGroup;
  for (int64_t r = 0; r < height; r++) {
    const int8_t *w = weights + r * width;
    const float *s = scales + r * groups;
    Floats sums[Count] = {};
    for (int64_t g = 0; g < groups; g++, w += kGroup) {
      Floats row[kVectors];
      unpack(w, row);
      for (int m = 0; m < Count; m++) {
        const float *v = x + m * width + g * kGroup;
        Floats part = row[0] * load(v);
        for (int i = 1; i < kVectors; i++) part += row[i] * load(v + i * kLanes);
        sums[m] += part * s[g];
      }
    }
    for (int m = 0; m < Count; m++) out[m * height + r] = sum(sums[m]);
  }
}

}  // namespace

extern "C" {

// out[m][r] = sum over groups g of scales[r][g] * (weights[r][g] . x[m][g]), for 1 <= count <= 8 inputs. Weights
// [height, width], each group in the order of `unpack`; scales [height, width / 64]; x [count, width]; out
// [count, height]; width a multiple of 64.
void plumised_scores(const int8_t *weights, const float *scales, int64_t width, const float *x, int32_t count,
                     int64_t height, float *out) {
  switch (count) {
    case 1: return scores<1>(weights, scales, width, x, height, out);
    case 2: return scores<2>(weights, scales, width, x, height, out);
    case 3: return scores<3>(weights, scales, width, x, height, out);
    case 4: return scores<4>(weights, scales, width, x, height, out);
    case 5: return scores<5>(weights, scales, width, x, height, out);
    case 6: return scores<6>(weights, scales, width, x, height, out);
    case 7: return scores<7>(weights, scales, width, x, height, out);
    case kInputs: return scores<kInputs>(weights, scales, width, x, height, out);
  }
}

}  // extern "C"
