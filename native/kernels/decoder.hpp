// Steps of a whole network, one token at a time (`step` in nn/cells/gated.py for every layer): see
// args/decoder_args.hpp for the layouts.
//
// Each thread has some units of every layer, with all their gates, and some tokens of the output layer. There is a
// barrier after each layer, after the output layer and after the draw. States are double-buffered: a step reads one
// half and writes the other, so no barrier is needed between reading and writing.
#pragma once

#include <type_traits>

#include "args/decoder_args.hpp"
#include "kernels/decoder_gemm.hpp"
#include "kernels/layer_norm.hpp"
#include "kernels/rnn_cell.hpp"
#include "kernels/sampling.hpp"

namespace unrolled {
namespace UNROLLED_ISA {

// With so many, threads take groups as they come; with fewer, each reads its own weights all the time, since they are
// near.
constexpr int kSharedRows = 16;
constexpr int kMaxSums = 512;  // sums of 16 columns that are made before cells take them: they stay near

// LayerNorm of `units` numbers; `weight` and `bias` are zero behind them, up to 16.
static inline void normalize(const float* x, const float* weight, const float* bias, float epsilon, int units,
                             float* to) {
  float moments[2];
  compute_moments(x, units, epsilon, moments);
  const Vec16 mean = set1(moments[0]), scale = set1(moments[1]);
  for (int k = 0; k < units; k += kLanes)
    store(to + k, fma((load(x + k) - mean) * scale, load(weight + k), load(bias + k)));
}

template <typename P, int kind>
class DecoderRun {
 public:
  DecoderRun(const StepCall& call, const ThreadContext& thread)
      : call_(call),
        model_(*call.model),
        state_(*call.state),
        thread_(thread),
        K_(model_.head.K),
        width_(model_.groups() * kTileColumns),
        setup_(call.rows) {
    static_range(model_.groups(), thread, first_, last_);
    static_range(model_.vocab_tiles(), thread, first_tile_, last_tile_);
    static_range(call.rows, thread, first_row_, last_row_);
    const size_t padded = (static_cast<size_t>(call.rows) + 15) / 16 * 16;
    row_capacity_ = static_cast<int>(call.rows == 1 ? 1 : padded);
    groups_per_chunk_ = std::max(1, kMaxSums / (row_capacity_ * gate_count(kind)));
    c_tile_ = static_cast<size_t>(row_capacity_) * kLanes;
    const size_t tiles = static_cast<size_t>(groups_per_chunk_) * gate_count(kind);
    sums_h_ = static_cast<float*>(thread_scratch(kScratchDecoderSums, 2 * tiles * c_tile_ * sizeof(float)));
    sums_x_ = sums_h_ + tiles * c_tile_;
    auto* normed = static_cast<char*>(thread_scratch(kScratchDecoderNormed, padded * (K_ * P::bytes + 4) + K_ * 4));
    norm_row_ = reinterpret_cast<float*>(normed);
    std::fill(norm_row_, norm_row_ + K_, 0.0f);
    normed += K_ * 4;
    normed_ = {normed, K_ * P::bytes, reinterpret_cast<float*>(normed + padded * K_ * P::bytes)};
    if (shares_rows()) normed_.data = state_.normed.as<char>() + call.first * K_ * P::bytes;
    if (shares_rows()) normed_.scales = state_.normed_scale.as<float>() + call.first;
    const size_t tokens = static_cast<size_t>(model_.vocab_tiles()) * kLanes;
    logits_ =
        static_cast<double*>(thread_scratch(kScratchDecoderSampling, tokens * (2 * sizeof(double) + sizeof(int32_t))));
  }

  void run() {
    load_state();
    for (int step = 0; step < call_.steps; ++step) {
      if (call_.input_ids == nullptr) sample_all(step);
      for (int layer = 0; layer < model_.layers; ++layer) run_layer(step, layer);
      if (call_.input_ids == nullptr || step == call_.steps - 1) head(step);
    }
  }

 private:
  // Whether threads normalize rows for each other, and take groups as they come.
  bool shares_rows() const { return call_.rows >= kSharedRows && thread_.size > 1; }

  Rows h_rows(int layer, int half) const {
    const size_t at = (static_cast<size_t>(half) * model_.layers + layer) * state_.padded + call_.first;
    return {state_.h_packed.as<char>() + at * K_ * P::bytes, K_ * P::bytes, state_.h_scale.as<float>() + call_.first};
  }
  float* state_row(const AlignedBuffer& of, int layer, int row) const {
    return of.as<float>() + (static_cast<size_t>(layer) * state_.padded + call_.first + row) * width_;
  }
  float* logits(int tile) const {
    return state_.logits.as<float>() + (static_cast<size_t>(tile) * state_.padded + call_.first) * kLanes;
  }
  int32_t* tokens() const { return state_.tokens.as<int32_t>() + call_.first; }

  // The state comes in float32, whatever the instruction set reads; it is also kept so.
  void load_state() {
    for (int layer = 0; layer < model_.layers; ++layer) {
      const Rows rows = h_rows(layer, 1);
      for (int row = 0; row < call_.rows; ++row)
        for (int group = first_; group < last_; ++group)
          P::store_values(rows, row, group * kLanes, load(state_row(state_.h, layer, row) + group * kLanes));
      if (thread_.index == 0) clear_padding(rows), clear_padding(h_rows(layer, 0));
    }
    thread_.barrier.wait();
  }

  // Weights are zero there, but zero times what is no number is none.
  void clear_padding(const Rows& rows) {
    for (int row = 0; row < call_.rows; ++row)
      for (int k = width_; k < K_; k += kLanes) P::store_values(rows, row, k, set1(0.0f));
  }

  void sample_all(int step) {
    const size_t at = static_cast<size_t>(step) * call_.stride + call_.first;
    const int count = model_.vocab_size;
    double* probs = logits_ + model_.vocab_tiles() * kLanes;
    for (int row = first_row_; row < last_row_; ++row) {
      for (int tile = 0; tile < model_.vocab_tiles(); ++tile)
        for (int i = 0; i < kLanes; ++i) logits_[tile * kLanes + i] = logits(tile)[row * kLanes + i];
      const Filters& filters = call_.filters[call_.has_filters_per_stream ? call_.first + row : 0];
      const int sampled =
          sample_token(logits_, count, call_.uniforms[at + row], filters, probs, reinterpret_cast<int32_t*>(probs + count));
      tokens()[row] = sampled;
      call_.sampled[at + row] = sampled;
    }
    thread_.barrier.wait();
  }

  int token(int step, int row) const {
    if (call_.input_ids == nullptr) return tokens()[row];
    return static_cast<int>(call_.input_ids[static_cast<size_t>(step) * call_.stride + call_.first + row]);
  }

  // What runs past layer `layer`, normalized by its norm; by none for the head. All threads must come.
  Rows normalized(int layer) {
    const int first = shares_rows() ? first_row_ : 0, last = shares_rows() ? last_row_ : call_.rows;
    for (int row = first; row < last; ++row) {
      const float* x = state_row(state_.x, layer & 1, row);
      if (layer < model_.layers) {
        const DecoderLayer& weights = model_.layer[layer];
        normalize(x, weights.norm_weight.as<float>(), weights.norm_bias.as<float>(), model_.epsilon, model_.units,
                  norm_row_);
      } else if (width_ < K_) {
        std::copy(x, x + width_, norm_row_);
      }
      P::store_row(normed_, row, layer == model_.layers && width_ == K_ ? x : norm_row_, K_);
    }
    if (shares_rows()) thread_.barrier.wait();
    return normed_;
  }

  void run_layer(int step, int layer) {
    const DecoderLayer& weights = model_.layer[layer];
    const int half = (step + 1) & 1;  // what was written at the step before
    const Rows previous = h_rows(layer, half);
    const Rows residual = layer == 0 ? Rows{} : model_.residual ? normalized(layer) : h_rows(layer - 1, half ^ 1);
    constexpr int G = gate_count(kind);
    const auto groups = [&](int first, int last) {
      P::multiply(previous, call_.rows, weights.h, first * G, (last - first) * G, sums_h_, c_tile_);
      if (layer > 0) P::multiply(residual, call_.rows, weights.x, first * G, (last - first) * G, sums_x_, c_tile_);
      for (int group = first; group < last; ++group) cells(step, layer, group, (group - first) * G);
    };
    if (shares_rows()) {
      const int total_groups = model_.groups(), chunk_groups = groups_per_chunk_;
      return parallel_for(thread_, (total_groups + chunk_groups - 1) / chunk_groups, [&](int chunk) {
        groups(chunk * chunk_groups, std::min(chunk * chunk_groups + chunk_groups, total_groups));
      });
    }
    for (int group = first_; group < last_; group += groups_per_chunk_)
      groups(group, std::min(group + groups_per_chunk_, last_));
    thread_.barrier.wait();
  }

  void cells(int step, int layer, int group, int tile) {
    if (layer == 0)
      return model_.residual ? cells_of<true, true>(step, 0, group, tile) : cells_of<true, false>(step, 0, group, tile);
    return model_.residual ? cells_of<false, true>(step, layer, group, tile)
                           : cells_of<false, false>(step, layer, group, tile);
  }

  // The cells of 16 units, for all rows, two at a time.
  template <bool first, bool residual>
  void cells_of(int step, int layer, int group, int tile) {
    constexpr int G = gate_count(kind);
    const DecoderLayer& weights = model_.layer[layer];
    const int unit = group * kLanes;
    const Rows to = h_rows(layer, step & 1);
    float *h = state_row(state_.h, layer, 0) + unit, *c = state_row(state_.c, layer, 0) + unit;
    const float* residual_in = first ? model_.embedding.as<float>() + unit : state_row(state_.x, layer & 1, 0) + unit;
    float* residual_out = state_row(state_.x, (layer + 1) & 1, 0) + unit;
    const float *sums_h = sums_h_ + tile * c_tile_, *sums_x = sums_x_ + tile * c_tile_;
    const float* table = model_.table.as<float>() + static_cast<size_t>(group) * G * kLanes;
    const size_t width = width_, symbol_width = width * G, c_tile = c_tile_;
    const int rows = call_.rows;
    Vec16 bias[G], bias_hn = set1(0.0f);
    for (int g = 0; g < G; ++g)
      bias[g] = first ? set1(0.0f) : load(weights.bias.as<float>() + (group * G + g) * kLanes);
    if (kind == kGRU) bias_hn = load(weights.bias_hn.as<float>() + unit);
    const auto run_rows = [&](auto count, int row) UNROLLED_LAMBDA {
      constexpr int R = decltype(count)::value;
      Cells<kind, P::exact, R> cells;
      size_t id[R] = {};
      for (int r = 0; r < R; ++r) {
        const size_t at = static_cast<size_t>(row + r);
        if (first) id[r] = static_cast<size_t>(token(step, row + r));
        cells.previous[r] = load((kind == kLSTM ? c : h) + at * width);
        for (int g = 0; g < G; ++g) {
          const Vec16 from_h = load(sums_h + g * c_tile + at * kLanes);
          const Vec16 from_x = first ? load(table + id[r] * symbol_width + g * kLanes)
                                     : load(sums_x + g * c_tile + at * kLanes) + bias[g];
          if (kind == kGRU && g == 2) cells.inner[r] = from_h + bias_hn;
          cells.gates[r][g] = kind == kGRU && g == 2 ? from_x : from_x + from_h;
        }
      }
      cells.run([](int, int, std::initializer_list<Vec16>) {});
      for (int r = 0; r < R; ++r) {
        const size_t at = static_cast<size_t>(row + r);
        if (kind == kLSTM) store(c + at * width, cells.after[r]);
        store(h + at * width, cells.h[r]);
        P::store_values(to, row + r, unit, cells.h[r]);
        if (residual) store(residual_out + at * width, load(residual_in + (first ? id[r] : at) * width) + cells.h[r]);
      }
    };
    int row = 0;
    for (; row + 2 <= rows; row += 2) run_rows(std::integral_constant<int, 2>(), row);
    if (row < rows) run_rows(std::integral_constant<int, 1>(), row);
  }

  void head(int step) {
    const int layers = model_.layers;
    const Rows residual = model_.residual ? normalized(layers) : h_rows(layers - 1, step & 1);
    if (first_tile_ < last_tile_) {
      P::multiply(residual, call_.rows, model_.head, first_tile_, last_tile_ - first_tile_, logits(first_tile_),
                  static_cast<size_t>(state_.padded) * kLanes);
      for (int tile = first_tile_; tile < last_tile_; ++tile) {
        const Vec16 bias = load(model_.head_bias.as<float>() + tile * kLanes);
        for (int row = 0; row < call_.rows; ++row)
          store(logits(tile) + row * kLanes, load(logits(tile) + row * kLanes) + bias);
      }
    }
    thread_.barrier.wait();
  }

  const StepCall& call_;
  const DecoderModel& model_;
  const DecoderState& state_;
  const ThreadContext& thread_;
  const int K_, width_;
  typename P::Setup setup_;
  int first_, last_, first_tile_, last_tile_, first_row_, last_row_, row_capacity_, groups_per_chunk_;
  size_t c_tile_;
  float *sums_h_, *sums_x_, *norm_row_;
  Rows normed_;
  double* logits_;
};

template <typename P>
static void decoder_step_in(const StepCall& call, const ThreadContext& thread) {
  switch (call.model->kind) {
    case kRNN:
      return DecoderRun<P, kRNN>(call, thread).run();
    case kGRU:
      return DecoderRun<P, kGRU>(call, thread).run();
    default:
      return DecoderRun<P, kLSTM>(call, thread).run();
  }
}

static void decoder_step(const StepCall& call, const ThreadContext& thread) {
  switch (call.model->precision) {
    case kInFloat32:
      return decoder_step_in<InFloat32>(call, thread);
    case kInBfloat16:
      return decoder_step_in<InBfloat16>(call, thread);
    default:
      return decoder_step_in<InInt8>(call, thread);
  }
}

}  // namespace UNROLLED_ISA
}  // namespace unrolled
