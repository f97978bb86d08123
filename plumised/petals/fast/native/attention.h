// What a block computes between its products: norms, rotations, and attention to the cache.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "formats.h"
#include "lanes.h"

namespace {

void normalise(const float *x, int size, const float *weight, const float *bias, float eps, float *to) {
  const int whole = size - size % kLanes;
  float mean = 0, square = 0;
  Floats sums = {};
  if (bias) {
    for (int i = 0; i < whole; i += kLanes) sums += load(x + i);
    mean = sum(sums);
    for (int i = whole; i < size; i++) mean += x[i];
    mean /= float(size);
    sums = Floats{};
  }
  for (int i = 0; i < whole; i += kLanes) sums += (load(x + i) - mean) * (load(x + i) - mean);
  square = sum(sums);
  for (int i = whole; i < size; i++) square += (x[i] - mean) * (x[i] - mean);
  const float scale = 1.0f / std::sqrt(square / float(size) + eps);
  for (int i = 0; i < size; i++) to[i] = (x[i] - mean) * scale * weight[i] + (bias ? bias[i] : 0.0f);
}

void rotate(const float *from, const float *cos, const float *sin, int dim, float *to) {
  const int half = dim / 2;
  for (int i = 0; i < half; i++) {
    to[i] = from[i] * cos[i] - from[i + half] * sin[i];
    to[i + half] = from[i + half] * cos[i + half] + from[i] * sin[i + half];
  }
}

// scores[g][t] = queries[g] . keys[:, t] for positions t < total; may fill more, up to the capacity.
template <int Count, typename T>
void score(const float *queries, int dim, const T *keys, int capacity, int total, float *scores, int stride) {
  constexpr int kTile = 2 * kLanes;
  int t = 0;
  for (; t < total && t + kTile <= capacity; t += kTile) {
    Floats sums[Count][2] = {};
    for (int i = 0; i < dim; i++) {
      const Floats first = load(keys + size_t(i) * capacity + t);
      const Floats second = load(keys + size_t(i) * capacity + t + kLanes);
      for (int g = 0; g < Count; g++) {
        sums[g][0] += queries[g * dim + i] * first;
        sums[g][1] += queries[g * dim + i] * second;
      }
    }
    for (int g = 0; g < Count; g++) {
      store(scores + g * stride + t, sums[g][0]);
      store(scores + g * stride + t + kLanes, sums[g][1]);
    }
  }
  for (; t < total; t++)
    for (int g = 0; g < Count; g++) {
      float total_score = 0;
      for (int i = 0; i < dim; i++) total_score += queries[g * dim + i] * widen(keys[size_t(i) * capacity + t]);
      scores[g * stride + t] = total_score;
    }
}

// mixed[g] = sum over t of weights[g][t] * values[t].
template <int Count, typename T>
void mix(const float *weights, int stride, const T *values, int dim, int total, float *mixed) {
  int i = 0;
  for (; i + 2 * kLanes <= dim; i += 2 * kLanes) {
    Floats sums[Count][2] = {};
    for (int t = 0; t < total; t++) {
      const Floats first = load(values + size_t(t) * dim + i), second = load(values + size_t(t) * dim + i + kLanes);
      for (int g = 0; g < Count; g++) {
        sums[g][0] += weights[g * stride + t] * first;
        sums[g][1] += weights[g * stride + t] * second;
      }
    }
    for (int g = 0; g < Count; g++) {
      store(mixed + g * dim + i, sums[g][0]);
      store(mixed + g * dim + i + kLanes, sums[g][1]);
    }
  }
  for (; i < dim; i++)
    for (int g = 0; g < Count; g++) {
      float total_value = 0;
      for (int t = 0; t < total; t++) total_value += weights[g * stride + t] * widen(values[size_t(t) * dim + i]);
      mixed[g * dim + i] = total_value;
    }
}

// In place, the first `total` of `padded` numbers, a multiple of kLanes; the rest is scratch.
void softmax(float *scores, int total, int padded) {
  for (int t = total; t < padded; t++) scores[t] = -INFINITY;
  Floats greatest = load(scores), sums = {};
  for (int t = kLanes; t < padded; t += kLanes) {
    const Floats v = load(scores + t);
    greatest = v > greatest ? v : greatest;
  }
  float most = greatest[0];
  for (int i = 1; i < kLanes; i++) most = std::max(most, greatest[i]);
  for (int t = 0; t < padded; t += kLanes) {
    const Floats e = exponential(load(scores + t) - most);
    sums += e;
    store(scores + t, e);
  }
  const float scale = 1.0f / sum(sums);
  for (int t = 0; t < total; t++) scores[t] *= scale;
}

}  // namespace
