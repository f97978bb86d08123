// What kernel.py passes: the shape of a span's blocks, their weights, and the sessions of a step.
#pragma once

#include <cstdint>

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

enum Activation : int32_t { kGatedSilu = 0, kGeluTanh = 1, kGelu = 2 };

using Shape = PlumisedShape;
using Layer = PlumisedLayer;
using Sequence = PlumisedSequence;

}  // namespace
