// The portable step of some rows of a text model, and the draw (docs/portable.md). Its bits are those of the definition,
// runtime/portable.py, on every processor.
#pragma once

#include "kernels/portable_draw.hpp"
#include "kernels/portable_product.hpp"
#include "threads/parallel.hpp"

namespace unrolled {
namespace UNROLLED_ISA {

class PortableSteps {
 public:
  PortableSteps(const PortableCall& call, int first, int count)
      : call_(call),
        model_(*call.model),
        first_(first),
        rows_(count),
        units_(model_.units),
        width_(round_up_16(model_.max_columns()) + kPortablePadding),
        gate_width_(model_.gate_width()),
        vocab_width_(round_up_16(model_.vocab_size) + kPortablePadding),
        state_size_(rows_ * width_) {
    const std::size_t layers = model_.layers.size(), rows = static_cast<std::size_t>(rows_);
    const std::size_t width = static_cast<std::size_t>(width_), gate_width = static_cast<std::size_t>(gate_width_);
    const std::size_t vocab = static_cast<std::size_t>(vocab_width_);
    const std::size_t floats = rows * (width * (2 * layers + 3) + 2 * gate_width + vocab + kLanes);
    const std::size_t bytes = floats * 4 + rows * width * 2 + vocab * 12;
    auto* next = static_cast<char*>(thread_scratch(kScratchPortable, bytes));
    std::memset(next, 0, bytes);
    const auto take = [&next](auto*& part, std::size_t size) {
      part = reinterpret_cast<std::remove_reference_t<decltype(part)>>(next);
      next += size * sizeof(*part);
    };
    take(odds_, vocab);
    take(h_, layers * rows * width);
    take(c_, layers * rows * width);
    take(x_, rows * width);
    take(normed_, rows * width);
    take(reset_h_, rows * width);
    take(gates_, rows * gate_width);
    take(recurrent_, rows * gate_width);
    take(logits_, rows * vocab);
    take(scales_, rows * kLanes);
    take(order_, vocab);
    take(quantized_, rows * width);
  }

  void run() {
    copy_state(true);
    int tokens[kPortableMaxRows];
    for (int step = 0; step < call_.steps; ++step) {
      const std::size_t begin = static_cast<std::size_t>(step) * static_cast<std::size_t>(call_.rows);
      for (int row = 0; row < rows_; ++row) {
        const std::size_t index = begin + static_cast<std::size_t>(first_ + row);
        if (call_.ids == nullptr) {
          const uint64_t position = call_.position + static_cast<uint64_t>(step);
          tokens[row] = draw_token(logits_ + row * vocab_width_, model_.vocab_size, call_.filters,
                                   call_.seeds[first_ + row], position, odds_, order_);
          call_.sampled[index] = tokens[row];
        } else {
          tokens[row] = static_cast<int>(call_.ids[index]);
          if (call_.resets != nullptr && call_.resets[index] != 0) reset(row);
        }
      }
      take_step(tokens);
      if (call_.ids != nullptr)
        for (int row = 0; row < rows_; ++row) copy_logits(row, begin + static_cast<std::size_t>(first_ + row), false);
    }
    copy_state(false);
  }

 private:
  float* layer_h(std::size_t layer) const { return h_ + layer * static_cast<std::size_t>(state_size_); }
  float* layer_c(std::size_t layer) const { return c_ + layer * static_cast<std::size_t>(state_size_); }

  void copy_logits(int row, std::size_t index, bool copy_in) {
    const std::size_t count = static_cast<std::size_t>(model_.vocab_size);
    float *own = logits_ + row * vocab_width_, *other = call_.logits + index * count;
    std::memcpy(copy_in ? own : other, copy_in ? other : own, count * sizeof(float));
  }

  // The state, and the logits to draw from, in or out.
  void copy_state(bool copy_in) {
    const std::size_t count = static_cast<std::size_t>(units_);
    for (int row = 0; row < rows_; ++row) {
      for (std::size_t layer = 0; layer < model_.layers.size(); ++layer) {
        const std::size_t from = (layer * static_cast<std::size_t>(call_.rows) + static_cast<std::size_t>(first_ + row)) * count;
        float *h = layer_h(layer) + row * width_, *c = layer_c(layer) + row * width_;
        std::memcpy(copy_in ? h : call_.h + from, copy_in ? call_.h + from : h, count * sizeof(float));
        if (model_.kind == kPortableLSTM)
          std::memcpy(copy_in ? c : call_.c + from, copy_in ? call_.c + from : c, count * sizeof(float));
      }
      if (call_.ids == nullptr) copy_logits(row, static_cast<std::size_t>(first_ + row), copy_in);
    }
  }

  void reset(int row) {
    for (std::size_t layer = 0; layer < model_.layers.size(); ++layer) {
      std::fill_n(layer_h(layer) + row * width_, units_, 0.0f);
      std::fill_n(layer_c(layer) + row * width_, units_, 0.0f);
    }
  }

  void take_step(const int* tokens) {
    const float* gates[kPortableMaxRows];
    for (std::size_t layer = 0; layer < model_.layers.size(); ++layer) {
      const PortableLayer& weights = model_.layers[layer];
      if (layer == 0) {
        if (model_.residual)
          for (int row = 0; row < rows_; ++row) embed(tokens[row], x_ + row * width_);
        for (int row = 0; row < rows_; ++row) gates[row] = first_gates(tokens[row], row);
      } else {
        for (int row = 0; row < rows_; ++row) gates[row] = gates_ + row * gate_width_;
        input_gates(weights, 0, rows_);
      }
      float *h = layer_h(layer), *c = layer_c(layer);
      product(weights.recurrent, h, 0, rows_, recurrent_);
      if (weights.bias_hh.size() != 0) add_bias(weights.bias_hh.as<float>(), weights.recurrent.rows, 0, rows_, recurrent_);
      if (model_.kind == kPortableGRUResetBefore) reset_before(weights, h, gates);
      for (int row = 0; row < rows_; ++row)
        cell(gates[row], recurrent_ + row * gate_width_, h + row * width_, c + row * width_);
      for (const PortableClamp& clamp : model_.clamps)
        if (clamp.layer == static_cast<int>(layer))
          for (int row = 0; row < rows_; ++row) h[row * width_ + clamp.unit] = clamp.value;
      for (int row = 0; row < rows_; ++row)
        for (int k = 0; k < units_; k += kLanes) {
          float* x = x_ + row * width_ + k;
          const Vec16 y = load(h + row * width_ + k);
          store(x, model_.residual ? load(x) + y : y);
        }
    }
    multiply_rows(model_.head, x_, 0, rows_, logits_, vocab_width_);
    for (int row = 0; row < rows_; ++row)
      for (int k = 0; k < model_.vocab_size; k += kLanes) {
        float* logits = logits_ + row * vocab_width_ + k;
        store(logits, load(logits) + load(model_.head_bias.as<float>() + k));
      }
  }

  void embed(int token, float* x) const {
    const int size = model_.embedding_size;
    const int8_t* weight = model_.input.data() + static_cast<std::size_t>(token) * static_cast<std::size_t>(size);
    const float scale = model_.input_scale.as<float>()[token];
    for (int k = 0; k < size; ++k) x[k] = static_cast<float>(weight[k]) * scale;
  }

  // The products of the rows [first, first + count) of x, in `gates_`, with the bias added.
  void input_gates(const PortableLayer& weights, int first, int count) {
    const float* x = x_;
    if (weights.norm_weight.size() != 0) {
      for (int row = first; row < first + count; ++row)
        portable_layer_norm(x_ + row * width_, weights.norm_weight.as<float>(), weights.norm_bias.as<float>(), units_,
                            normed_ + row * width_);
      x = normed_;
    }
    product(weights.input, x, first, count, gates_);
    add_bias(weights.bias.as<float>(), model_.gate_columns(), first, count, gates_);
  }

  // The products of the first layer, from the table where it has them. `x_` of the row may be overwritten in a plain
  // network, which has no further use for it.
  const float* first_gates(int token, int row) {
    float* kept = model_.first_gates.size() == 0
                      ? nullptr
                      : model_.first_gates.as<float>() + static_cast<std::size_t>(token) * static_cast<std::size_t>(gate_width_);
    if (kept != nullptr && model_.has_first_gates[static_cast<std::size_t>(token)].load(std::memory_order_acquire))
      return kept;
    float* gates = gates_ + row * gate_width_;
    const PortableLayer& weights = model_.layers[0];
    if (model_.embedding_size == 0) {
      const int columns = model_.gate_columns();
      const int8_t* weight = model_.input.data() + static_cast<std::size_t>(token) * static_cast<std::size_t>(columns);
      for (int i = 0; i < columns; ++i)
        gates[i] = static_cast<float>(weight[i]) * model_.input_scale.as<float>()[i] + weights.bias.as<float>()[i];
    } else {
      if (!model_.residual) embed(token, x_ + row * width_);
      input_gates(weights, row, 1);
    }
    if (kept != nullptr) {
      const std::lock_guard<std::mutex> lock(model_.mutex);
      std::atomic<bool>& is_known = model_.has_first_gates[static_cast<std::size_t>(token)];
      if (!is_known.load(std::memory_order_relaxed)) {
        std::memcpy(kept, gates, static_cast<std::size_t>(model_.gate_columns()) * sizeof(float));
        is_known.store(true, std::memory_order_release);
      }
    }
    return gates;
  }

  void product(const Int8Tiles& matrix, const float* x, int first, int count, float* out) {
    multiply_rows(matrix, x, first, count, out, gate_width_);
  }

  void multiply_rows(const Int8Tiles& matrix, const float* x, int first, int count, float* out, int out_stride) {
    for (int row = first; row < first + count; ++row)
      scales_[row] = quantize(x + row * width_, matrix.columns, quantized_ + row * width_);
    multiply(matrix, quantized_ + first * width_, width_, scales_ + first, count, out + first * out_stride, out_stride);
  }

  void add_bias(const float* bias, int columns, int first, int count, float* gates) const {
    for (int row = first; row < first + count; ++row)
      for (int k = 0; k < columns; k += kLanes) {
        float* out = gates + row * gate_width_ + k;
        store(out, load(out) + load(bias + k));
      }
  }

  // A GRU with the reset before the product: replaces the recurrent products of n, which `recurrent` does not have.
  void reset_before(const PortableLayer& weights, const float* h, const float* const* gates) {
    for (int row = 0; row < rows_; ++row)
      for (int k = 0; k < units_; k += kLanes) {
        const Vec16 r = portable_sigmoid(load(gates[row] + k) + load(recurrent_ + row * gate_width_ + k));
        store(reset_h_ + row * width_ + k, r * load(h + row * width_ + k));
      }
    // The products are written in tiles of 16, so that they need a place of their own before they come behind r and z.
    float* products = normed_;
    multiply_rows(weights.recurrent_n, reset_h_, 0, rows_, products, width_);
    for (int row = 0; row < rows_; ++row) {
      float* out = recurrent_ + row * gate_width_ + 2 * units_;
      for (int k = 0; k < units_; ++k) {
        const float value = products[row * width_ + k];
        out[k] = weights.bias_hh.size() == 0 ? value : value + weights.bias_hh.as<float>()[2 * units_ + k];
      }
    }
  }

  // The next state, given the products of input and state. What is beyond the units is not used.
  void cell(const float* x, const float* r, float* h, float* c) const {
    const int H = units_;
    for (int k = 0; k < H; k += kLanes) {
      const int lanes = lanes_from(k, H);
      const auto sum = [&](int gate) { return load(x + gate * H + k) + load(r + gate * H + k); };
      if (model_.kind == kPortableRNN) {
        store_partial(h + k, portable_tanh(sum(0)), lanes);
      } else if (model_.kind == kPortableLSTM) {
        const Vec16 kept = portable_sigmoid(sum(1)) * load(c + k);
        const Vec16 next = kept + portable_sigmoid(sum(0)) * portable_tanh(sum(2));
        store_partial(c + k, next, lanes);
        store_partial(h + k, portable_sigmoid(sum(3)) * portable_tanh(next), lanes);
      } else {
        const Vec16 z = portable_sigmoid(sum(1));
        const Vec16 n = model_.kind == kPortableGRUResetBefore
                            ? portable_tanh(sum(2))
                            : portable_tanh(load(x + 2 * H + k) + portable_sigmoid(sum(0)) * load(r + 2 * H + k));
        store_partial(h + k, one_minus(z) * n + z * load(h + k), lanes);
      }
    }
  }

  const PortableCall& call_;
  PortableModel& model_;
  const int first_, rows_, units_, width_, gate_width_, vocab_width_, state_size_;
  int64_t* odds_;
  float *h_, *c_, *x_, *normed_, *reset_h_, *gates_, *recurrent_, *logits_, *scales_;
  int32_t* order_;
  int16_t* quantized_;
};

static inline void portable_run(const PortableCall& call, int first, int count) {
  PortableSteps(call, first, count).run();
}

}  // namespace UNROLLED_ISA
}  // namespace unrolled
