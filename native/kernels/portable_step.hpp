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
        state_size_(rows_ * width_),
        others_(portable_others(model_.kind)) {
    const std::size_t layers = model_.layers.size(), rows = static_cast<std::size_t>(rows_);
    const std::size_t width = static_cast<std::size_t>(width_), gate_width = static_cast<std::size_t>(gate_width_);
    const std::size_t vocab = static_cast<std::size_t>(vocab_width_);
    const std::size_t others = static_cast<std::size_t>(others_);
    const std::size_t floats = rows * (width * ((1 + others) * layers + 4) + 2 * gate_width + vocab + kLanes);
    const std::size_t bytes = floats * 4 + rows * width * 2 + vocab * 12;
    auto* next = static_cast<char*>(thread_scratch(kScratchPortable, bytes));
    std::memset(next, 0, bytes);
    const auto take = [&next](auto*& part, std::size_t size) {
      part = reinterpret_cast<std::remove_reference_t<decltype(part)>>(next);
      next += size * sizeof(*part);
    };
    take(odds_, vocab);
    take(h_, layers * rows * width);
    take(c_, others * layers * rows * width);
    take(x_, rows * width);
    take(normed_, rows * width);
    take(read_h_, rows * width);
    take(factors_, rows * width);
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
  float* layer_other(std::size_t layer, int part) const {
    return c_ + (static_cast<std::size_t>(part) * model_.layers.size() + layer) * static_cast<std::size_t>(state_size_);
  }

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
        const std::size_t rows = static_cast<std::size_t>(call_.rows), index = static_cast<std::size_t>(first_ + row);
        const auto copy = [&](float* own, float* state) {
          std::memcpy(copy_in ? own : state, copy_in ? state : own, count * sizeof(float));
        };
        copy(layer_h(layer) + row * width_, call_.h + (layer * rows + index) * count);
        for (int part = 0; part < others_; ++part) {
          const std::size_t place = static_cast<std::size_t>(part) * model_.layers.size() + layer;
          copy(layer_other(layer, part) + row * width_, call_.c + (place * rows + index) * count);
        }
      }
      if (call_.ids == nullptr) copy_logits(row, static_cast<std::size_t>(first_ + row), copy_in);
    }
  }

  void reset(int row) {
    for (std::size_t layer = 0; layer < model_.layers.size(); ++layer) {
      std::fill_n(layer_h(layer) + row * width_, units_, 0.0f);
      for (int part = 0; part < others_; ++part) std::fill_n(layer_other(layer, part) + row * width_, units_, 0.0f);
    }
  }

  void take_step(const int* tokens) {
    const float* gates[kPortableMaxRows];
    for (std::size_t layer = 0; layer < model_.layers.size(); ++layer) {
      const PortableLayer& weights = model_.layers[layer];
      const bool is_mogrifier = !weights.rounds.empty();
      float *h = layer_h(layer), *read = is_mogrifier ? read_h_ : h;
      if (layer == 0 && (model_.residual || is_mogrifier))
        for (int row = 0; row < rows_; ++row) embed(tokens[row], x_ + row * width_);
      if (is_mogrifier) mogrify(weights, h);
      if (layer == 0 && !is_mogrifier) {
        for (int row = 0; row < rows_; ++row) gates[row] = first_gates(tokens[row], row);
      } else {
        for (int row = 0; row < rows_; ++row) gates[row] = gates_ + row * gate_width_;
        input_gates(weights, 0, rows_);
      }
      if (!portable_is_linear(model_.kind)) product(weights.recurrent, read, 0, rows_, recurrent_);
      if (weights.bias_hh.size() != 0) add_bias(weights.bias_hh.as<float>(), weights.recurrent.rows, 0, rows_, recurrent_);
      if (model_.kind == kPortableGRUResetBefore) reset_before(weights, h, gates);
      for (int row = 0; row < rows_; ++row) next_state(weights, layer, row, gates[row]);
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
    if (!weights.rounds.empty()) {
      x = normed_;
    } else if (weights.norm_weight.size() != 0) {
      for (int row = first; row < first + count; ++row) norm(weights, row);
      x = normed_;
    }
    product(weights.input, x, first, count, gates_);
    add_bias(weights.bias.as<float>(), model_.gate_columns(), first, count, gates_);
  }

  void norm(const PortableLayer& weights, int row) {
    portable_layer_norm(x_ + row * width_, weights.norm_weight.as<float>(), weights.norm_bias.as<float>(), units_,
                        normed_ + row * width_);
  }

  // The rounds of a Mogrifier: input and h, in `normed_` and `read_h_`, each in turn times a factor from the other.
  void mogrify(const PortableLayer& weights, const float* h) {
    const std::size_t bytes = static_cast<std::size_t>(width_) * sizeof(float);
    for (int row = 0; row < rows_; ++row) {
      if (weights.norm_weight.size() != 0) norm(weights, row);
      else std::memcpy(normed_ + row * width_, x_ + row * width_, bytes);
      std::memcpy(read_h_ + row * width_, h + row * width_, bytes);
    }
    for (std::size_t round = 0; round < weights.rounds.size(); ++round) {
      const bool is_input = round % 2 == 0;
      float* to = is_input ? normed_ : read_h_;
      multiply_rows(weights.rounds[round], is_input ? read_h_ : normed_, 0, rows_, factors_, width_);
      for (int row = 0; row < rows_; ++row)
        for (int k = 0; k < weights.rounds[round].rows; k += kLanes) {
          float* value = to + row * width_ + k;
          store(value, (portable_tanh(set1(0.5f) * load(factors_ + row * width_ + k)) + set1(1.0f)) * load(value));
        }
    }
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
        store(read_h_ + row * width_ + k, r * load(h + row * width_ + k));
      }
    // The products are written in tiles of 16, so that they need a place of their own before they come behind r and z.
    float* products = normed_;
    multiply_rows(weights.recurrent_n, read_h_, 0, rows_, products, width_);
    for (int row = 0; row < rows_; ++row) {
      float* out = recurrent_ + row * gate_width_ + 2 * units_;
      for (int k = 0; k < units_; ++k) {
        const float value = products[row * width_ + k];
        out[k] = weights.bias_hh.size() == 0 ? value : value + weights.bias_hh.as<float>()[2 * units_ + k];
      }
    }
  }

  void next_state(const PortableLayer& weights, std::size_t layer, int row, const float* x) const {
    float* h = layer_h(layer) + row * width_;
    const float* r = recurrent_ + row * gate_width_;
    if (portable_is_linear(model_.kind)) return linear_cell(weights, x, h);
    float* parts[3];
    for (int part = 0; part < others_; ++part) parts[part] = layer_other(layer, part) + row * width_;
    if (model_.kind == kPortableSLSTM) return slstm_cell(x, r, h, parts);
    cell(x, r, h, others_ == 0 ? nullptr : parts[0]);
  }

  // The next h of a cell whose gates depend on the input only.
  void linear_cell(const PortableLayer& weights, const float* x, float* h) const {
    const int H = units_;
    for (int k = 0; k < H; k += kLanes) {
      const Vec16 a = load(x + k), b = load(x + H + k);
      if (model_.kind == kPortableRGLRU) {
        const Vec16 log_a = portable_sigmoid(a) * load(weights.decay.as<float>() + k);
        const Vec16 written = portable_sigmoid(b) * load(x + 2 * H + k);
        store_partial(h + k, portable_exp(log_a) * load(h + k) + portable_root(log_a + log_a) * written, lanes_from(k, H));
        continue;
      }
      const bool is_gru = model_.kind == kPortableMinGRU;
      const Vec16 share = portable_sigmoid(is_gru ? a : portable_log_sigmoid(a) - portable_log_sigmoid(b));
      store_partial(h + k, one_minus(share) * load(h + k) + share * (is_gru ? b : load(x + 2 * H + k)), lanes_from(k, H));
    }
  }

  // The next h, c, n and m of an sLSTM.
  void slstm_cell(const float* x, const float* r, float* h, float* const* parts) const {
    const int H = units_;
    float *c = parts[0], *n = parts[1], *m = parts[2];
    for (int k = 0; k < H; k += kLanes) {
      const int lanes = lanes_from(k, H);
      const auto sum = [&](int gate) { return load(x + gate * H + k) + load(r + gate * H + k); };
      const Vec16 input = sum(0), g = portable_tanh(sum(2)), o = portable_sigmoid(sum(3)), old_n = load(n + k);
      Vec16 kept = portable_log_sigmoid(sum(1)) + load(m + k), largest, next_h;
      UNROLLED_FOR_EACH_VEC {
        kept.vec[i] = old_n.vec[i] == set1_vec(0.0f) ? input.vec[i] : kept.vec[i];
        largest.vec[i] = kept.vec[i] > input.vec[i] ? kept.vec[i] : input.vec[i];
      }
      const Vec16 i_gate = portable_exp(input - largest), f_gate = portable_exp(kept - largest);
      const Vec16 next_c = f_gate * load(c + k) + i_gate * g, next_n = f_gate * old_n + i_gate, read = o * next_c;
      UNROLLED_FOR_EACH_VEC next_h.vec[i] = read.vec[i] / next_n.vec[i];
      store_partial(c + k, next_c, lanes);
      store_partial(n + k, next_n, lanes);
      store_partial(m + k, largest, lanes);
      store_partial(h + k, next_h, lanes);
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
  const int first_, rows_, units_, width_, gate_width_, vocab_width_, state_size_, others_;
  int64_t* odds_;
  float *h_, *c_, *x_, *normed_, *read_h_, *factors_, *gates_, *recurrent_, *logits_, *scales_;
  int32_t* order_;
  int16_t* quantized_;
};

static inline void portable_run(const PortableCall& call, int first, int count) {
  PortableSteps(call, first, count).run();
}

}  // namespace UNROLLED_ISA
}  // namespace unrolled
