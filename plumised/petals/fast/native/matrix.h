// Products of weights in any format with a few inputs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>

#include "formats.h"
#include "lanes.h"
#include "span.h"

namespace {

constexpr int kGroup = 64;  // inputs whose quantized weights share a scale

// A matrix of weights in one of the types.
struct Matrix {
  int32_t type;
  const void *weights;
  const float *scales;
  int inputs;
};

// How its rows are read.
template <typename T>
struct Rows {
  explicit Rows(const Matrix &m) : weights(static_cast<const T *>(m.weights)), inputs(m.inputs) {}
  Floats at(int row, int k) const { return load(weights + size_t(row) * inputs + k); }
  const void *address(int row, int k) const { return weights + size_t(row) * inputs + k; }
  float one(int row, int k) const { return widen(weights[size_t(row) * inputs + k]); }

  const T *weights;
  int inputs;
};

// Quantized ones have no part of a group at the end.
template <>
struct Rows<Int8> {
  explicit Rows(const Matrix &m)
      : weights(static_cast<const Int8 *>(m.weights)), scales(m.scales), inputs(m.inputs) {}
  Floats at(int row, int k) const {
    return load(weights + size_t(row) * inputs + k) * scales[(size_t(row) * inputs + k) / kGroup];
  }
  const void *address(int row, int k) const { return weights + size_t(row) * inputs + k; }
  float one(int, int) const { return 0; }

  const Int8 *weights;
  const float *scales;
  int inputs;
};

template <>
struct Rows<Nf4> {
  explicit Rows(const Matrix &m) : weights(static_cast<const Nf4 *>(m.weights)), scales(m.scales), inputs(m.inputs) {}
  Floats at(int row, int k) const {
    return load(weights + size_t(row) * (inputs / 2), k) * scales[(size_t(row) * inputs + k) / kGroup];
  }
  const void *address(int row, int k) const { return weights + (size_t(row) * inputs + k) / 2; }
  float one(int, int) const { return 0; }

  const Nf4 *weights;
  const float *scales;
  int inputs;
};

// Weights that fill a cache line, or make up a group, are multiplied together.
template <typename T>
constexpr int kParts = std::min<int>(64 / sizeof(T), kGroup) / kLanes;
template <typename T>
constexpr int kStep = kParts<T> * kLanes;

// y[m][r - begin] = weights[r] . x[m] for rows begin <= r < end and `Count` inputs x. Products are added up in
// the same order whatever the type of the weights is. `Last`: nobody reads these weights again before the next step.
template <int Count, bool Last, typename T>
void multiply(const Matrix &matrix, const float *x, int begin, int end, float *y, int stride) {
  const Rows<T> weights(matrix);
  const int inputs = matrix.inputs;
  // As many sums as there are registers for, beside the weights.
#ifdef __AVX512F__
  constexpr int kBlock = Count <= 6 ? 4 : 3;
#else
  constexpr int kBlock = Count <= 2 ? 4 : 2;
#endif
  const int steps = inputs - inputs % kStep<T>, whole = inputs - inputs % kLanes;
  const auto rows = [&]<int Block>(int r) {
    Floats sums[Block][Count] = {};
    const auto add = [&](int k) __attribute__((always_inline)) {
      Floats row[Block];
      for (int b = 0; b < Block; b++) row[b] = weights.at(r + b, k);
      for (int m = 0; m < Count; m++) {
        Floats v = load(x + size_t(m) * inputs + k);
        // GCC would load it for each row of weights anew, and loads are what several inputs wait for.
        asm("" : "+v"(v));
        for (int b = 0; b < Block; b++) sums[b][m] += row[b] * v;
      }
    };
    for (int k = 0; k < steps; k += kStep<T>) {
      // The processor fetches ahead along one row at a time; with several inputs it does not keep pace. What is used
      // once need not push out of the caches what serves the step before and after this.
      for (int b = 0; b < Block; b++) __builtin_prefetch(weights.address(r + b + Block, k), 0, Last ? 0 : 3);
#pragma GCC unroll 8
      for (int p = 0; p < kParts<T>; p++) add(k + p * kLanes);
    }
    for (int k = steps; k < whole; k += kLanes) add(k);
    // One at a time these sums would take longer than the products of short rows.
    float totals[Count][4];
#pragma GCC unroll 8
    for (int m = 0; m < Count; m++) {
      if constexpr (Block == 1) {
        totals[m][0] = sum(sums[0][m]);
      } else {
        const auto &last = sums[Block - 1][m];
        const Four four = sum(sums[0][m], sums[1][m], Block > 2 ? sums[2][m] : last, last);
        std::memcpy(totals[m], &four, sizeof four);
      }
    }
    for (int m = 0; m < Count; m++)
      for (int b = 0; b < Block; b++) {
        for (int k = whole; k < inputs; k++)
          totals[m][b] = std::fma(weights.one(r + b, k), x[size_t(m) * inputs + k], totals[m][b]);
        y[m * stride + r + b - begin] = totals[m][b];
      }
  };
  int r = begin;
  for (; r + kBlock <= end; r += kBlock) rows.template operator()<kBlock>(r);
  for (; r < end; r++) rows.template operator()<1>(r);
}

// The same for any count of inputs.
template <typename T>
void multiply(int count, const Matrix &matrix, const float *x, int begin, int end, float *y, int stride) {
  using Multiply = void (*)(const Matrix &, const float *, int, int, float *, int);
  static constexpr Multiply last_by_count[] = {
      multiply<1, true, T>, multiply<2, true, T>, multiply<3, true, T>, multiply<4, true, T>,
#ifdef __AVX512F__
      multiply<5, true, T>, multiply<6, true, T>, multiply<7, true, T>, multiply<8, true, T>,
#endif
  };
  // The weights of a chunk are read from memory once, and from the cache for the inputs that follow.
  constexpr int kMost = std::size(last_by_count);
  int m = 0;
  for (; m + kMost < count; m += kMost)
    multiply<kMost, false, T>(matrix, x + size_t(m) * matrix.inputs, begin, end, y + size_t(m) * stride, stride);
  last_by_count[count - m - 1](matrix, x + size_t(m) * matrix.inputs, begin, end, y + size_t(m) * stride, stride);
}

// The same for weights of a type that is known when the step comes.
void multiply(int count, const Matrix &matrix, const float *x, int begin, int end, float *y, int stride) {
  switch (matrix.type) {
    case kFloat32: return multiply<float>(count, matrix, x, begin, end, y, stride);
    case kBfloat16: return multiply<Bfloat16>(count, matrix, x, begin, end, y, stride);
    case kFloat16: return multiply<Float16>(count, matrix, x, begin, end, y, stride);
    case kInt8: return multiply<Int8>(count, matrix, x, begin, end, y, stride);
    case kNf4: return multiply<Nf4>(count, matrix, x, begin, end, y, stride);
  }
}

}  // namespace
