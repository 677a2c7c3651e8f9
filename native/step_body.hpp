// Steps of a whole network: see step.hpp for what is where.
//
// Each thread has some units of every layer, for all their gates, and some symbols of the head; the threads meet after each
// layer, after the head and after the draw. What a layer reads is written to the other half of a pair of buffers than the one
// that is being read, so that nobody need wait in between.
#pragma once

#include <type_traits>

#include "cell_body.hpp"
#include "draw_body.hpp"
#include "norm_body.hpp"
#include "step.hpp"
#include "step_product.hpp"

namespace unrolled {
namespace UNROLLED_SET {

enum Slot { kSumsSlot = 4, kNormedSlot = 5, kDrawSlot = 6 };  // of thread_memory; what layers keep there is not needed meanwhile

// With so many, threads take groups as they come; with fewer, each reads its own weights all the time, since they are near.
constexpr int kRowsToShare = 16;
constexpr int kSumsAtOnce = 512;  // sums of 16 columns that are made before cells take them: they stay near

// LayerNorm of `units` numbers; `weight` and `bias` are zero behind them, up to 16.
static inline void normalise(const float* x, const float* weight, const float* bias, float epsilon, int units, float* to) {
  float moments[2];
  moments_of(x, units, epsilon, moments);
  const Lanes middle = splat(moments[0]), scale = splat(moments[1]);
  for (int k = 0; k < units; k += kLanes)
    write(to + k, fma((read(x + k) - middle) * scale, read(weight + k), read(bias + k)));
}

template <typename P, int kind>
class Steps {
 public:
  Steps(const StepCall& call, const Place& place)
      : call_(call), model_(*call.model), state_(*call.state), place_(place), K_(model_.head.K),
        width_(model_.groups() * kColumns), setup_(call.rows) {
    share(model_.groups(), place, first_, last_);
    share(model_.symbol_tiles(), place, first_tile_, last_tile_);
    share(call.rows, place, first_row_, last_row_);
    const size_t padded = (static_cast<size_t>(call.rows) + 15) / 16 * 16;
    room_ = static_cast<int>(call.rows == 1 ? 1 : padded);
    at_once_ = std::max(1, kSumsAtOnce / (room_ * gates_of(kind)));
    c_tile_ = static_cast<size_t>(room_) * kLanes;
    const size_t tiles = static_cast<size_t>(at_once_) * gates_of(kind);
    sums_h_ = static_cast<float*>(thread_memory(kSumsSlot, 2 * tiles * c_tile_ * sizeof(float)));
    sums_x_ = sums_h_ + tiles * c_tile_;
    auto* normed = static_cast<char*>(thread_memory(kNormedSlot, padded * (K_ * P::bytes + 4) + K_ * 4));
    line_ = reinterpret_cast<float*>(normed);
    std::fill(line_, line_ + K_, 0.0f);
    normed += K_ * 4;
    normed_ = {normed, K_ * P::bytes, reinterpret_cast<float*>(normed + padded * K_ * P::bytes)};
    if (shared()) normed_.data = state_.normed.as<char>() + call.first * K_ * P::bytes;
    if (shared()) normed_.scales = state_.normed_scale.as<float>() + call.first;
    const size_t symbols = static_cast<size_t>(model_.symbol_tiles()) * kLanes;
    values_ = static_cast<double*>(thread_memory(kDrawSlot, symbols * (2 * sizeof(double) + sizeof(int32_t))));
  }

  void run() {
    take_up();
    for (int step = 0; step < call_.steps; ++step) {
      if (call_.given == nullptr) draw_all(step);
      for (int layer = 0; layer < model_.layers; ++layer) layer_step(step, layer);
      if (call_.given == nullptr || step == call_.steps - 1) head(step);
    }
  }

 private:
  // Whether threads normalise rows for each other, and take groups as they come.
  bool shared() const { return call_.rows >= kRowsToShare && place_.size > 1; }

  Rows h_rows(int layer, int half) const {
    const size_t at = (static_cast<size_t>(half) * model_.layers + layer) * state_.padded + call_.first;
    return {state_.read.as<char>() + at * K_ * P::bytes, K_ * P::bytes, state_.scale.as<float>() + call_.first};
  }
  float* in(const Memory& of, int layer, int row) const {
    return of.as<float>() + (static_cast<size_t>(layer) * state_.padded + call_.first + row) * width_;
  }
  float* logits(int tile) const {
    return state_.logits.as<float>() + (static_cast<size_t>(tile) * state_.padded + call_.first) * kLanes;
  }
  int32_t* symbols() const { return state_.symbol.as<int32_t>() + call_.first; }

  // The state comes in float32, whatever the instruction set reads; it is also kept so.
  void take_up() {
    for (int layer = 0; layer < model_.layers; ++layer) {
      const Rows rows = h_rows(layer, 1);
      for (int row = 0; row < call_.rows; ++row)
        for (int group = first_; group < last_; ++group)
          P::put(rows, row, group * kLanes, read(in(state_.h, layer, row) + group * kLanes));
      if (place_.index == 0) clear_padding(rows), clear_padding(h_rows(layer, 0));
    }
    place_.barrier.wait();
  }

  // Weights are zero there, but zero times what is no number is none.
  void clear_padding(const Rows& rows) {
    for (int row = 0; row < call_.rows; ++row)
      for (int k = width_; k < K_; k += kLanes) P::put(rows, row, k, splat(0.0f));
  }

  void draw_all(int step) {
    const size_t at = static_cast<size_t>(step) * call_.stride + call_.first;
    const int count = model_.symbols;
    double* chances = values_ + model_.symbol_tiles() * kLanes;
    for (int row = first_row_; row < last_row_; ++row) {
      for (int tile = 0; tile < model_.symbol_tiles(); ++tile)
        for (int i = 0; i < kLanes; ++i) values_[tile * kLanes + i] = logits(tile)[row * kLanes + i];
      const int drawn = draw(values_, count, call_.numbers[at + row], call_.filters, chances,
                             reinterpret_cast<int32_t*>(chances + count));
      symbols()[row] = drawn;
      call_.drawn[at + row] = drawn;
    }
    place_.barrier.wait();
  }

  int symbol(int step, int row) const {
    if (call_.given == nullptr) return symbols()[row];
    return static_cast<int>(call_.given[static_cast<size_t>(step) * call_.stride + call_.first + row]);
  }

  // What runs past layer `layer`, normalised by its norm; by none for the head. All threads must come.
  Rows normalised(int layer) {
    const int first = shared() ? first_row_ : 0, last = shared() ? last_row_ : call_.rows;
    for (int row = first; row < last; ++row) {
      const float* x = in(state_.x, layer & 1, row);
      if (layer < model_.layers) {
        const StepLayer& own = model_.layer[layer];
        normalise(x, own.norm_weight.as<float>(), own.norm_bias.as<float>(), model_.epsilon, model_.units, line_);
      } else if (width_ < K_) {
        std::copy(x, x + width_, line_);
      }
      P::put_row(normed_, row, layer == model_.layers && width_ == K_ ? x : line_, K_);
    }
    if (shared()) place_.barrier.wait();
    return normed_;
  }

  void layer_step(int step, int layer) {
    const StepLayer& own = model_.layer[layer];
    const int half = (step + 1) & 1;  // what was written at the step before
    const Rows before = h_rows(layer, half);
    const Rows below = layer == 0 ? Rows{} : model_.residual ? normalised(layer) : h_rows(layer - 1, half ^ 1);
    constexpr int G = gates_of(kind);
    const auto groups = [&](int first, int last) {
      P::multiply(before, call_.rows, own.h, first * G, (last - first) * G, sums_h_, c_tile_);
      if (layer > 0) P::multiply(below, call_.rows, own.x, first * G, (last - first) * G, sums_x_, c_tile_);
      for (int group = first; group < last; ++group) cells(step, layer, group, (group - first) * G);
    };
    if (shared()) {
      const int all = model_.groups(), at_once = at_once_;
      return each(place_, (all + at_once - 1) / at_once,
                  [&](int piece) { groups(piece * at_once, std::min(piece * at_once + at_once, all)); });
    }
    for (int group = first_; group < last_; group += at_once_) groups(group, std::min(group + at_once_, last_));
    place_.barrier.wait();
  }

  void cells(int step, int layer, int group, int tile) {
    if (layer == 0) return model_.residual ? cells_of<true, true>(step, 0, group, tile) : cells_of<true, false>(step, 0, group, tile);
    return model_.residual ? cells_of<false, true>(step, layer, group, tile) : cells_of<false, false>(step, layer, group, tile);
  }

  // The cells of 16 units, for all rows, two at a time.
  template <bool first, bool residual>
  void cells_of(int step, int layer, int group, int tile) {
    constexpr int G = gates_of(kind);
    const StepLayer& own = model_.layer[layer];
    const int unit = group * kLanes;
    const Rows to = h_rows(layer, step & 1);
    float *h = in(state_.h, layer, 0) + unit, *c = in(state_.c, layer, 0) + unit;
    const float* past = first ? model_.embedding.as<float>() + unit : in(state_.x, layer & 1, 0) + unit;
    float* on = in(state_.x, (layer + 1) & 1, 0) + unit;
    const float *sums_h = sums_h_ + tile * c_tile_, *sums_x = sums_x_ + tile * c_tile_;
    const float* table = model_.table.as<float>() + static_cast<size_t>(group) * G * kLanes;
    const size_t width = width_, symbol_width = width * G, c_tile = c_tile_;
    const int rows = call_.rows;
    Lanes bias[G], inside = splat(0.0f);
    for (int g = 0; g < G; ++g) bias[g] = first ? splat(0.0f) : read(own.bias.as<float>() + (group * G + g) * kLanes);
    if (kind == kGRU) inside = read(own.bias_inside.as<float>() + unit);
    const auto some = [&](auto count, int row) UNROLLED_LAMBDA {
      constexpr int R = decltype(count)::value;
      Cells<kind, P::exact, R> cells;
      size_t id[R] = {};
      for (int r = 0; r < R; ++r) {
        const size_t at = static_cast<size_t>(row + r);
        if (first) id[r] = static_cast<size_t>(symbol(step, row + r));
        cells.before[r] = read((kind == kLSTM ? c : h) + at * width);
        for (int g = 0; g < G; ++g) {
          const Lanes from_h = read(sums_h + g * c_tile + at * kLanes);
          const Lanes from_x = first ? read(table + id[r] * symbol_width + g * kLanes)
                                     : read(sums_x + g * c_tile + at * kLanes) + bias[g];
          if (kind == kGRU && g == 2) cells.inner[r] = from_h + inside;
          cells.gates[r][g] = kind == kGRU && g == 2 ? from_x : from_x + from_h;
        }
      }
      cells.run([](int, int, std::initializer_list<Lanes>) {});
      for (int r = 0; r < R; ++r) {
        const size_t at = static_cast<size_t>(row + r);
        if (kind == kLSTM) write(c + at * width, cells.after[r]);
        write(h + at * width, cells.h[r]);
        P::put(to, row + r, unit, cells.h[r]);
        if (residual) write(on + at * width, read(past + (first ? id[r] : at) * width) + cells.h[r]);
      }
    };
    int row = 0;
    for (; row + 2 <= rows; row += 2) some(std::integral_constant<int, 2>(), row);
    if (row < rows) some(std::integral_constant<int, 1>(), row);
  }

  void head(int step) {
    const int layers = model_.layers;
    const Rows below = model_.residual ? normalised(layers) : h_rows(layers - 1, step & 1);
    if (first_tile_ < last_tile_) {
      P::multiply(below, call_.rows, model_.head, first_tile_, last_tile_ - first_tile_, logits(first_tile_),
                  static_cast<size_t>(state_.padded) * kLanes);
      for (int tile = first_tile_; tile < last_tile_; ++tile) {
        const Lanes bias = read(model_.head_bias.as<float>() + tile * kLanes);
        for (int row = 0; row < call_.rows; ++row) write(logits(tile) + row * kLanes, read(logits(tile) + row * kLanes) + bias);
      }
    }
    place_.barrier.wait();
  }

  const StepCall& call_;
  const StepModel& model_;
  const StepState& state_;
  const Place& place_;
  const int K_, width_;
  typename P::Setup setup_;
  int first_, last_, first_tile_, last_tile_, first_row_, last_row_, room_, at_once_;
  size_t c_tile_;
  float *sums_h_, *sums_x_, *line_;
  Rows normed_;
  double* values_;
};

template <typename P>
static void step_in(const StepCall& call, const Place& place) {
  switch (call.model->kind) {
    case kRNN: return Steps<P, kRNN>(call, place).run();
    case kGRU: return Steps<P, kGRU>(call, place).run();
    default: return Steps<P, kLSTM>(call, place).run();
  }
}

static void step_run(const StepCall& call, const Place& place) {
  switch (call.model->precision) {
    case kInFloat32: return step_in<InFloat32>(call, place);
    case kInBfloat16: return step_in<InBfloat16>(call, place);
    default: return step_in<InInt8>(call, place);
  }
}

}  // namespace UNROLLED_SET
}  // namespace unrolled
