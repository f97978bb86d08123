// One short step through a span of transformer blocks: what eager.py computes, for a few rows, by a team of threads.
//
// A step of one token reads every weight once, so it lasts as long as memory takes to deliver them. Everything here
// serves that: one team works through the whole span in phases, and rows of weights are handed out in chunks. A phase
// ends when its chunks are done, not when all threads have come: one whose core is busy elsewhere is waited for only
// where it holds a chunk. Waiting threads spin briefly and then yield, because that one may need their core.
//
// Built once for each instruction set that kernel.py chooses from; the vector types are GCC's and fit any.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include <immintrin.h>
#include <sched.h>

namespace {

#ifdef __AVX512F__
constexpr int kLanes = 16;
#else
constexpr int kLanes = 8;
#endif
constexpr int kQueries = 4;       // queries of a group that share one pass over its keys
constexpr int kChunkBytes = 65536;  // of weights that a thread takes at a time
constexpr int kChunkRows = 12;    // a chunk has a multiple of these: every block of rows fits
constexpr int kGroup = 64;        // inputs whose quantized weights share a scale

typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef uint32_t Words __attribute__((vector_size(kLanes * 4)));
typedef uint16_t Halves __attribute__((vector_size(kLanes * 2)));

struct Bfloat16 {
  uint16_t bits;
};

struct Float16 {
  uint16_t bits;
};

Floats load(const float *from) {
  Floats v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

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

void store(float *to, Floats v) { std::memcpy(to, &v, sizeof v); }

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

typedef float Eight __attribute__((vector_size(32)));
typedef float Four __attribute__((vector_size(16)));

float sum(Eight v) {
  const Four four = __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
  const Four two = four + __builtin_shufflevector(four, four, 2, 3, 2, 3);
  return two[0] + two[1];
}

#ifdef __AVX512F__
float sum(Floats v) {
  return sum(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
             __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
}

Floats add_halves(Floats a, Floats b) {
  return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
         __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
}

// The sums of four vectors, each added up in the order in which one alone is.
Four sum(Floats a, Floats b, Floats c, Floats d) {
  const Floats ab = add_halves(a, b), cd = add_halves(c, d);
  const Floats four =
      __builtin_shufflevector(ab, cd, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
      __builtin_shufflevector(ab, cd, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  const Floats two =
      four + __builtin_shufflevector(four, four, 2, 3, 2, 3, 6, 7, 6, 7, 10, 11, 10, 11, 14, 15, 14, 15);
  return Four{two[0] + two[1], two[4] + two[5], two[8] + two[9], two[12] + two[13]};
}
#else
Four sum(Floats a, Floats b, Floats c, Floats d) { return Four{sum(a), sum(b), sum(c), sum(d)}; }
#endif

// e^v within 2 ulp between the smallest normal number and the largest; 0 below. Coefficients of Cephes' expf.
Floats exponential(Floats v) {
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

enum Activation : int32_t { kGatedSilu = 0, kGeluTanh = 1, kGelu = 2 };

Floats silu(Floats v) { return v / (1.0f + exponential(-v)); }

Floats gelu_tanh(Floats v) {
  const Floats u = 0.79788456f * v * (1.0f + 0.044715f * v * v);
  return v * (1.0f - 1.0f / (exponential(2.0f * u) + 1.0f));
}

float gelu(float v) { return 0.5f * v * (1.0f + std::erf(v * 0.70710678f)); }

}  // namespace

extern "C" {

enum PlumisedType : int32_t { kFloat32 = 0, kBfloat16 = 1, kFloat16 = 2, kInt8 = 3, kNf4 = 4 };

struct PlumisedShape {
  int32_t hidden, heads, kv_heads, head_dim, inner;
  int32_t grouped, activation, parallel;
  int32_t cache;  // a type
  float attention_eps, mlp_eps;
  const float *cos, *sin;  // [position, head_dim]; null with slopes
  const float *slopes;     // [heads]
};

// Weights [outputs, inputs], quantized ones with scales [outputs, inputs / 64]; norms and biases float; a null bias of a
// norm: RMS.
struct PlumisedLayer {
  const float *attention_norm, *attention_norm_bias, *mlp_norm, *mlp_norm_bias;
  const void *qkv, *out, *up, *down;
  const float *qkv_scales, *out_scales, *up_scales, *down_scales;
  const float *qkv_bias, *out_bias, *up_bias, *down_bias;
  int32_t weights;  // their type
};

// One session: its rows of the step stand one after another, at positions from prefix on.
struct PlumisedSequence {
  int32_t length, prefix, capacity;
  void *const *keys;    // of each layer, [kv_heads, head_dim, capacity], float32 or bfloat16
  void *const *values;  // of each layer, [kv_heads, capacity, head_dim], of the same type
};

}  // extern "C"

namespace {

using Shape = PlumisedShape;
using Layer = PlumisedLayer;
using Sequence = PlumisedSequence;

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

// Memory on boundaries of cache lines: a vector across two of them takes two loads.
template <typename T>
struct Aligned {
  using value_type = T;
  T *allocate(size_t count) { return static_cast<T *>(::operator new(count * sizeof(T), std::align_val_t(64))); }
  void deallocate(T *at, size_t) { ::operator delete(at, std::align_val_t(64)); }
  bool operator==(const Aligned &) const = default;
};
using Buffer = std::vector<float, Aligned<float>>;

int round_up(int n, int step) { return (n + step - 1) / step * step; }

// One step, as the team is given it. Threads read it only while they hold a chunk of it.
struct Step {
  const Shape *shape;
  const Layer *const *layers;
  int layer_count;
  const Sequence *sequences;
  int sequence_count;
  int rows;
  float *x;             // [rows, hidden]
  uint32_t first_phase;  // of all phases that the team has ever had
};

// A phase, its chunks, and how many of them are taken; in one word, so that a claim is one atomic addition.
struct Ticket {
  uint32_t phase, chunks, taken;

  static Ticket of(uint64_t word) {
    return {uint32_t(word >> 32), uint32_t(word >> 16 & 0xffff), uint32_t(word & 0xffff)};
  }
  uint64_t word() const { return uint64_t(phase) << 32 | uint64_t(chunks) << 16 | taken; }
};

class Team {
 public:
  explicit Team(int size) : own_(size) {
    for (int index = 1; index < size; index++) threads_.emplace_back([this, index] { work(index); });
  }

  ~Team() {
    stopped_ = true;
    wake();
    for (auto &thread : threads_) thread.join();
  }

  void run(const Step &step) {
    // Nobody holds a chunk between two steps, so nobody reads what is written here.
    prepare(step);
    const uint32_t first = Ticket::of(ticket_).phase + 1;
    step_ = step;
    step_.first_phase = first;
    const uint32_t last = first + uint32_t(step.layer_count * stages());
    ticket_.store(Ticket{first, chunks(0), 0}.word(), std::memory_order_release);
    wake();
    while (Ticket::of(ticket_.load(std::memory_order_acquire)).phase != last) help(own_[0]);
  }

 private:
  struct Own {
    Buffer attention_input, mlp_input, results, gates, queries, scores, mixed;
    uint32_t attention_phase = 0, mlp_phase = 0;  // for which the inputs were made
  };

  static constexpr int kSpins = 300;

  void wake() {
    epoch_.fetch_add(1, std::memory_order_release);
    epoch_.notify_all();
  }

  void work(int index) {
    while (true) {
      const unsigned seen = epoch_.load(std::memory_order_acquire);
      if (stopped_) return;
      if (help(own_[index])) epoch_.wait(seen, std::memory_order_acquire);
    }
  }

  // Take chunks of the phase and wait for the next; true where no step is under way.
  bool help(Own &own) {
    while (true) {
      const Ticket ticket = Ticket::of(ticket_.fetch_add(1, std::memory_order_acq_rel));
      if (ticket.taken < ticket.chunks) {
        compute(own, ticket.phase, int(ticket.taken));
        finish(ticket);
        continue;
      }
      if (!ticket.chunks) return true;
      for (int turn = 0; Ticket::of(ticket_.load(std::memory_order_acquire)).phase == ticket.phase; turn++) {
        if (turn < kSpins)
          __builtin_ia32_pause();
        else
          sched_yield();
      }
      return false;
    }
  }

  // A chunk is done; who does the last one of a phase begins the next.
  void finish(Ticket ticket) {
    // All is read before the chunk counts as done: then the step may end, and the next be written.
    const uint32_t next = ticket.phase + 1 - step_.first_phase;
    const bool over = next == uint32_t(step_.layer_count * stages());
    const uint32_t next_chunks = over ? 0 : chunks(int(next));
    if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 != ticket.chunks) return;
    done_.store(0, std::memory_order_relaxed);
    ticket_.store(Ticket{ticket.phase + 1, next_chunks, 0}.word(), std::memory_order_release);
  }

  // Memory that the step needs, before any thread begins.
  void prepare(const Step &step) {
    const Shape &s = *step.shape;
    int longest = 0;
    for (int i = 0; i < step.sequence_count; i++)
      longest = std::max(longest, step.sequences[i].prefix + step.sequences[i].length);
    stride_ = round_up(longest, 2 * kLanes);
    const int group = s.heads / s.kv_heads, rows = step.rows;
    const int heads = s.heads * s.head_dim, all = heads + 2 * s.kv_heads * s.head_dim;
    size_t item = 1;
    for (int i = 0; i < step.layer_count; i++) item = std::max(item, size_of(step.layers[i]->weights));
    // A ticket counts to 65535; a phase has fewer chunks, and threads that came too late, than half of that.
    const int most = std::max({s.hidden, all, s.inner}), least = std::max(kChunkRows, round_up(most / 8192, kChunkRows));
    const auto chunk = [&](int inputs) {
      return std::max(least, int(kChunkBytes / (item * inputs)) / kChunkRows * kChunkRows);
    };
    hidden_chunk_ = chunk(s.hidden), heads_chunk_ = chunk(heads), inner_chunk_ = chunk(s.inner);
    const size_t longest_chunk =
        round_up(std::max({hidden_chunk_, heads_chunk_, inner_chunk_}), kLanes) * size_t(rows);
    fit(qkv_, size_t(rows) * all), fit(mixed_, size_t(rows) * heads), fit(inner_, size_t(rows) * s.inner);
    for (Own &own : own_) {
      fit(own.attention_input, size_t(rows) * s.hidden), fit(own.mlp_input, size_t(rows) * s.hidden);
      fit(own.results, longest_chunk), fit(own.gates, longest_chunk);
      fit(own.queries, size_t(group) * s.head_dim), fit(own.mixed, size_t(group) * s.head_dim);
      fit(own.scores, size_t(kQueries) * stride_);
    }
  }

  // A quantized row is worth more chunks than its bytes: it takes longer to unpack.
  static size_t size_of(int32_t type) { return type == kFloat32 ? 4 : type == kInt8 || type == kNf4 ? 1 : 2; }

  static void fit(Buffer &buffer, size_t size) {
    if (buffer.size() < size) buffer.resize(size);
  }

  // The phases of a layer: queries, keys and values; attention; its projection; into the MLP; out of it. In parallel
  // blocks the MLP goes along with the projections of the attention.
  int stages() const { return step_.shape->parallel ? 3 : 5; }

  uint32_t chunks(int phase) const {
    const Shape &s = *step_.shape;
    switch (phase % stages()) {
      case 0: return uint32_t(qkv_chunks() + (s.parallel ? up_chunks() : 0));
      case 1: return uint32_t(step_.sequence_count * s.kv_heads);
      case 2: return uint32_t(count(s.hidden, out_chunk()));
      case 3: return uint32_t(up_chunks());
      default: return uint32_t(count(s.hidden, inner_chunk_));
    }
  }

  static int count(int rows, int chunk) { return (rows + chunk - 1) / chunk; }
  int all() const { return (step_.shape->heads + 2 * step_.shape->kv_heads) * step_.shape->head_dim; }
  int qkv_chunks() const { return count(all(), hidden_chunk_); }
  int up_chunks() const { return count(step_.shape->inner, hidden_chunk_); }
  int out_chunk() const { return step_.shape->parallel ? std::min(heads_chunk_, inner_chunk_) : heads_chunk_; }

  void compute(Own &own, uint32_t phase, int chunk) {
    const Shape &s = *step_.shape;
    const int since = int(phase - step_.first_phase), index = since / stages();
    const Layer &layer = *step_.layers[index];
    switch (since % stages()) {
      case 0:
        if (chunk >= qkv_chunks()) {
          need_mlp_input(own, layer, phase);
          return project_up(own, layer, chunk - qkv_chunks());
        }
        need_attention_input(own, layer, phase);
        return project_qkv(own, layer, chunk * hidden_chunk_, std::min(all(), (chunk + 1) * hidden_chunk_));
      case 1:
        return s.cache == kBfloat16 ? attend<Bfloat16>(own, index, chunk) : attend<float>(own, index, chunk);
      case 2: {
        const int begin = chunk * out_chunk(), end = std::min(s.hidden, begin + out_chunk());
        add(own, {layer.weights, layer.out, layer.out_scales, s.heads * s.head_dim}, layer.out_bias, mixed_, begin, end);
        if (s.parallel)
          add(own, {layer.weights, layer.down, layer.down_scales, s.inner}, layer.down_bias, inner_, begin, end);
        return;
      }
      case 3:
        need_mlp_input(own, layer, phase);
        return project_up(own, layer, chunk);
      default: {
        const int begin = chunk * inner_chunk_, end = std::min(s.hidden, begin + inner_chunk_);
        add(own, {layer.weights, layer.down, layer.down_scales, s.inner}, layer.down_bias, inner_, begin, end);
      }
    }
  }

  // Every thread normalises the hidden states for itself: it costs less than another phase.
  void need_attention_input(Own &own, const Layer &layer, uint32_t phase) {
    if (own.attention_phase == phase) return;
    own.attention_phase = phase;
    normalise_rows(layer.attention_norm, layer.attention_norm_bias, step_.shape->attention_eps, own.attention_input);
  }

  void need_mlp_input(Own &own, const Layer &layer, uint32_t phase) {
    if (own.mlp_phase == phase) return;
    own.mlp_phase = phase;
    normalise_rows(layer.mlp_norm, layer.mlp_norm_bias, step_.shape->mlp_eps, own.mlp_input);
  }

  void normalise_rows(const float *weight, const float *bias, float eps, Buffer &to) {
    const int hidden = step_.shape->hidden;
    for (int m = 0; m < step_.rows; m++)
      normalise(step_.x + size_t(m) * hidden, hidden, weight, bias, eps, to.data() + size_t(m) * hidden);
  }

  void project_qkv(Own &own, const Layer &layer, int begin, int end) {
    const Shape &s = *step_.shape;
    const int all = (s.heads + 2 * s.kv_heads) * s.head_dim;
    multiply(step_.rows, {layer.weights, layer.qkv, layer.qkv_scales, s.hidden}, own.attention_input.data(), begin, end,
             qkv_.data() + begin, all);
    if (!layer.qkv_bias) return;
    for (int m = 0; m < step_.rows; m++)
      for (int r = begin; r < end; r++) qkv_[size_t(m) * all + r] += layer.qkv_bias[r];
  }

  void project_up(Own &own, const Layer &layer, int chunk) {
    const Shape &s = *step_.shape;
    const int begin = chunk * hidden_chunk_, end = std::min(s.inner, begin + hidden_chunk_);
    const int count = end - begin, stride = round_up(hidden_chunk_, kLanes);
    const bool gated = s.activation == kGatedSilu;
    float *first = own.gates.data(), *second = own.results.data();
    const Matrix up{layer.weights, layer.up, layer.up_scales, s.hidden};
    multiply(step_.rows, up, own.mlp_input.data(), begin, end, first, stride);
    if (gated) multiply(step_.rows, up, own.mlp_input.data(), s.inner + begin, s.inner + end, second, stride);
    for (int m = 0; m < step_.rows; m++, first += stride, second += stride) {
      if (layer.up_bias)
        for (int r = 0; r < count; r++) first[r] += layer.up_bias[begin + r];
      if (layer.up_bias && gated)
        for (int r = 0; r < count; r++) second[r] += layer.up_bias[s.inner + begin + r];
      if (s.activation == kGelu)
        for (int r = 0; r < count; r++) first[r] = gelu(first[r]);
      else if (gated)
        for (int r = 0; r < count; r += kLanes) store(first + r, silu(load(first + r)) * load(second + r));
      else
        for (int r = 0; r < count; r += kLanes) store(first + r, gelu_tanh(load(first + r)));
      std::copy(first, first + count, inner_.begin() + ptrdiff_t(m) * s.inner + begin);
    }
  }

  // Add a projection of `from`, [rows, inputs of the matrix], to the hidden states.
  void add(Own &own, const Matrix &matrix, const float *bias, const Buffer &from, int begin, int end) {
    const int stride = end - begin;
    multiply(step_.rows, matrix, from.data(), begin, end, own.results.data(), stride);
    for (int m = 0; m < step_.rows; m++) {
      float *x = step_.x + size_t(m) * step_.shape->hidden;
      for (int r = begin; r < end; r++) x[r] += own.results[size_t(m) * stride + r - begin] + (bias ? bias[r] : 0.0f);
    }
  }

  // One key-value head of one sequence: keys and values of its rows into the cache, then their queries.
  template <typename T>
  void attend(Own &own, int layer, int unit) {
    const Shape &s = *step_.shape;
    const int which = unit / s.kv_heads, head = unit % s.kv_heads;
    const Sequence &sequence = step_.sequences[which];
    int row = 0;
    for (int i = 0; i < which; i++) row += step_.sequences[i].length;
    const int dim = s.head_dim, capacity = sequence.capacity, group = s.heads / s.kv_heads;
    const int all = (s.heads + 2 * s.kv_heads) * dim;
    const int query_at = (s.grouped ? head * (group + 2) : head * group) * dim;
    const int key_at = (s.grouped ? head * (group + 2) + group : s.heads + head) * dim;
    const int value_at = (s.grouped ? head * (group + 2) + group + 1 : s.heads + s.kv_heads + head) * dim;
    T *keys = static_cast<T *>(sequence.keys[layer]) + size_t(head) * dim * capacity;
    T *values = static_cast<T *>(sequence.values[layer]) + size_t(head) * dim * capacity;
    for (int m = 0; m < sequence.length; m++) {
      const float *qkv = qkv_.data() + size_t(row + m) * all;
      const int position = sequence.prefix + m;
      const float *key = qkv + key_at;
      if (s.cos) {
        rotate(key, s.cos + size_t(position) * dim, s.sin + size_t(position) * dim, dim, own.mixed.data());
        key = own.mixed.data();
      }
      for (int i = 0; i < dim; i++) narrow(key[i], keys + size_t(i) * capacity + position);
      for (int i = 0; i < dim; i++) narrow(qkv[value_at + i], values + size_t(position) * dim + i);
    }
    for (int m = 0; m < sequence.length; m++) {
      const float *queries = qkv_.data() + size_t(row + m) * all + query_at;
      const int position = sequence.prefix + m;
      const float scale = 1.0f / std::sqrt(float(dim));
      for (int g = 0; g < group; g++) {
        float *query = own.queries.data() + g * dim;
        if (s.cos)
          rotate(queries + g * dim, s.cos + size_t(position) * dim, s.sin + size_t(position) * dim, dim, query);
        else
          std::copy(queries + g * dim, queries + (g + 1) * dim, query);
        for (int i = 0; i < dim; i++) query[i] *= scale;
      }
      float *mixed = mixed_.data() + (size_t(row + m) * s.heads + size_t(head) * group) * dim;
      for (int g = 0; g < group; g += kQueries) {
        const float *slopes = s.slopes ? s.slopes + head * group + g : nullptr;
        const int count = std::min(kQueries, group - g);
        attend_some<T>(count, own, own.queries.data() + g * dim, keys, values, capacity, position + 1, slopes,
                       mixed + g * dim);
      }
    }
  }

  template <typename T>
  void attend_some(int count, Own &own, const float *queries, const T *keys, const T *values, int capacity, int total,
                   const float *slopes, float *mixed) {
    const int dim = step_.shape->head_dim;
    float *scores = own.scores.data();
    using Score = void (*)(const float *, int, const T *, int, int, float *, int);
    using Mix = void (*)(const float *, int, const T *, int, int, float *);
    static constexpr Score score_by[kQueries] = {score<1, T>, score<2, T>, score<3, T>, score<4, T>};
    static constexpr Mix mix_by[kQueries] = {mix<1, T>, mix<2, T>, mix<3, T>, mix<4, T>};
    score_by[count - 1](queries, dim, keys, capacity, total, scores, stride_);
    for (int g = 0; g < count; g++) {
      float *row = scores + size_t(g) * stride_;
      if (slopes)
        for (int t = 0; t < total; t++) row[t] += slopes[g] * float(t);
      softmax(row, total, round_up(total, kLanes));
    }
    mix_by[count - 1](scores, stride_, values, dim, total, mixed);
  }

  std::vector<Own> own_;
  Buffer qkv_, mixed_, inner_;
  int stride_ = 0, hidden_chunk_ = 0, heads_chunk_ = 0, inner_chunk_ = 0;
  Step step_{};
  std::atomic<bool> stopped_{false};
  alignas(64) std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<uint32_t> done_{0};
  alignas(64) std::atomic<unsigned> epoch_{0};
  std::vector<std::thread> threads_;
};

}  // namespace

extern "C" {

// A team of this many threads, the caller of plumised_step among them; null where the system refuses one.
void *plumised_team_new(int32_t threads) {
  try {
    return new Team(threads);
  } catch (...) {
    return nullptr;
  }
}

void plumised_team_delete(void *team) { delete static_cast<Team *>(team); }

// One step, x [rows, hidden] in place; 0, or 1 where memory is short (nothing is changed then). One call at a time.
int32_t plumised_step(void *team, const PlumisedShape *shape, const PlumisedLayer *const *layers, int32_t layer_count,
                      const PlumisedSequence *sequences, int32_t sequence_count, float *x) {
  int rows = 0;
  for (int i = 0; i < sequence_count; i++) rows += sequences[i].length;
  try {
    static_cast<Team *>(team)->run({shape, layers, layer_count, sequences, sequence_count, rows, x, 0});
    return 0;
  } catch (...) {
    return 1;
  }
}

}  // extern "C"
