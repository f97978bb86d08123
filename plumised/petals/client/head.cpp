// Scores of int8 weights against float inputs: what head.py takes to find the few rows that can have the largest logit.
//
// Memory decides how long this takes, so every weight is read once for up to eight inputs, by several threads. Built
// once for each instruction set, as the kernel of the blocks is.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <thread>
#include <vector>

#include "../fast/native/lanes.h"

namespace {

constexpr int kGroup = 64;  // inputs that share a scale
constexpr int kInputs = 8;  // most inputs at once
constexpr int kVectors = kGroup / kLanes;
constexpr int kAhead = 4096;  // bytes of weights that are fetched before they are used

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

// What plumised_scores is asked for.
struct Scores {
  const int8_t *weights;
  const float *scales;
  int64_t width;
  const float *x;
  int64_t height;
  float *out;
};

template <int Count>
void compute(const Scores &all, int64_t begin, int64_t end) {
  const int64_t groups = all.width / kGroup;
  for (int64_t r = begin; r < end; r++) {
    const int8_t *w = all.weights + r * all.width;
    const float *s = all.scales + r * groups;
    Floats sums[Count] = {};
    for (int64_t g = 0; g < groups; g++, w += kGroup) {
      // Used once in a step: it need not push everything else out of the caches.
      __builtin_prefetch(w + kAhead, 0, 0);
      Floats row[kVectors];
      unpack(w, row);
      for (int m = 0; m < Count; m++) {
        const float *v = all.x + m * all.width + g * kGroup;
        Floats part = row[0] * load(v);
        for (int i = 1; i < kVectors; i++) part += row[i] * load(v + i * kLanes);
        sums[m] += part * s[g];
      }
    }
    for (int m = 0; m < Count; m++) all.out[m * all.height + r] = sum(sums[m]);
  }
}

}  // namespace

extern "C" {

// out[m][r] = sum over groups g of scales[r][g] * (weights[r][g] . x[m][g]), for 1 <= count <= 8 inputs. Weights
// [height, width], each group in the order of `unpack`; scales [height, width / 64]; x [count, width]; out
// [count, height]; width a multiple of 64. The caller's thread is one of `threads`, or of fewer where the system gives
// none.
void plumised_scores(const int8_t *weights, const float *scales, int64_t width, const float *x, int32_t count,
                     int64_t height, float *out, int32_t threads) {
  using Compute = void (*)(const Scores &, int64_t, int64_t);
  static constexpr Compute by_count[kInputs] = {compute<1>, compute<2>, compute<3>, compute<4>,
                                                compute<5>, compute<6>, compute<7>, compute<8>};
  const Scores all{weights, scales, width, x, height, out};
  const Compute some = by_count[count - 1];
  const int64_t part = (height + threads - 1) / threads;
  std::vector<std::thread> others;
  int64_t begin = 0;
  try {
    others.reserve(size_t(threads));
    for (; begin + part < height; begin += part)
      others.emplace_back([=] { some(all, begin, begin + part); });
  } catch (const std::exception &) {
  }
  some(all, begin, height);
  for (auto &other : others) other.join();
}

}  // extern "C"
