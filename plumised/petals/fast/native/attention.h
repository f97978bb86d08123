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

// to[g][x] = sum over k < count of factors[g][k] * rows[k][x] for x < columns; may fill more, up to the width of a row.
// So queries times keys give scores, and these times values the result: keys lie by dimension, values by position.
template <int Count, typename T>
void combine(const float *factors, int factors_stride, const T *rows, int width, int count, float *to, int stride,
             int columns) {
  constexpr int kTile = 2 * kLanes;
  int x = 0;
  for (; x < columns && x + kTile <= width; x += kTile) {
    Floats sums[Count][2] = {};
    for (int k = 0; k < count; k++) {
      const Floats first = load(rows + size_t(k) * width + x), second = load(rows + size_t(k) * width + x + kLanes);
      for (int g = 0; g < Count; g++) {
        sums[g][0] += factors[g * factors_stride + k] * first;
        sums[g][1] += factors[g * factors_stride + k] * second;
      }
    }
    for (int g = 0; g < Count; g++) {
      store(to + g * stride + x, sums[g][0]);
      store(to + g * stride + x + kLanes, sums[g][1]);
    }
  }
  for (; x < columns; x++)
    for (int g = 0; g < Count; g++) {
      float total = 0;
      for (int k = 0; k < count; k++) total += factors[g * factors_stride + k] * widen(rows[size_t(k) * width + x]);
      to[g * stride + x] = total;
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
