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
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include <sched.h>

#include "attention.h"
#include "formats.h"
#include "lanes.h"
#include "matrix.h"
#include "span.h"

namespace {

constexpr int kQueries = 4;         // queries of a group that share one pass over its keys
constexpr int kChunkBytes = 65536;  // of weights that a thread takes at a time
constexpr int kChunkRows = 12;      // a chunk has a multiple of these: every block of rows fits

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
    using Combine = void (*)(const float *, int, const T *, int, int, float *, int, int);
    static constexpr Combine by_count[kQueries] = {combine<1, T>, combine<2, T>, combine<3, T>, combine<4, T>};
    const Combine combine_all = by_count[count - 1];
    combine_all(queries, dim, keys, capacity, dim, scores, stride_, total);
    for (int g = 0; g < count; g++) {
      float *row = scores + size_t(g) * stride_;
      if (slopes)
        for (int t = 0; t < total; t++) row[t] += slopes[g] * float(t);
      softmax(row, total, round_up(total, kLanes));
    }
    combine_all(scores, stride_, values, dim, total, mixed, dim, dim);
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
