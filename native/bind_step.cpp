// The step of a whole network for Python: sizes, types and symbols are checked here, and nowhere below.
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "border.hpp"
#include "kernels.hpp"
#include "processor.hpp"
#include "step.hpp"
#include "step_pack.hpp"

namespace unrolled {

namespace {

using namespace nb::literals;

constexpr int kMostUnits = 1 << 16, kMostLayers = 1 << 10, kMostSymbols = 1 << 22, kMostStreams = 1 << 12;
constexpr std::size_t kOwnWeights = std::size_t{7} << 18;  // bytes that stay in a core's second-level cache of 2 MiB
constexpr std::size_t kMostBytes = std::size_t{1} << 40;

void copy_padded(const float* from, long rows, long count, float* to, long stride) {
  for (long row = 0; row < rows; ++row) std::memcpy(to + row * stride, from + row * count, sizeof(float) * static_cast<std::size_t>(count));
}

// The weights of a network, packed. `fill_*` give it them, once each; then any number of streams may read them.
class StepWeights {
 public:
  StepWeights(int kind, int precision, int units, int layers, int symbols, bool residual, float epsilon) {
    require(kind >= kRNN && kind <= kLSTM, "kind must be 0 (RNN), 1 (GRU) or 2 (LSTM).");
    require(precision >= kInFloat32 && precision <= kInInt8, "precision must be 0 (float32), 1 (bfloat16) or 2 (int8).");
    require(units > 0 && units <= kMostUnits && layers > 0 && layers <= kMostLayers && symbols > 0 && symbols <= kMostSymbols,
            "A network has from one to 65,536 units, 1,024 layers and 4,194,304 symbols.");
    model_.kind = kind, model_.precision = precision, model_.units = units, model_.layers = layers;
    model_.symbols = symbols, model_.residual = residual, model_.epsilon = epsilon;
    require(static_cast<double>(symbols) * units * gates_of(kind) * 4 < static_cast<double>(kMostBytes), "This is too large.");
    lay_out(model_);
  }

  void fill_layer(int index, const Array& weight_h, const Maybe& weight_x, const Maybe& bias, const Maybe& bias_inside,
                  const Maybe& norm_weight, const Maybe& norm_bias) {
    require(index >= 0 && index < model_.layers, "There is no such layer.");
    StepLayer& own = model_.layer[static_cast<std::size_t>(index)];
    const long H = model_.units, G = gates_of(model_.kind);
    require(weight_x.has_value() == (index > 0) && bias.has_value() == (index > 0),
            "A layer has weight_x and bias, but the first: its are in the table.");
    require(norm_weight.has_value() == (index > 0 && model_.residual) && norm_bias.has_value() == norm_weight.has_value(),
            "A residual layer has a norm, but the first: its is in the table.");
    require(!bias_inside || model_.kind == kGRU, "Only a GRU has a bias inside its reset gate.");
    pack_gates(model_, own.h, floats(weight_h, "weight_h", {G * H, H}));
    if (weight_x) pack_gates(model_, own.x, floats(*weight_x, "weight_x", {G * H, H}));
    if (bias) order_gates(model_, floats(*bias, "bias", {G * H}), own.bias.as<float>());
    if (bias_inside) copy_padded(floats(*bias_inside, "bias_inside", {H}), 1, H, own.bias_inside.as<float>(), H);
    if (norm_weight) copy_padded(floats(*norm_weight, "norm_weight", {H}), 1, H, own.norm_weight.as<float>(), H);
    if (norm_bias) copy_padded(floats(*norm_bias, "norm_bias", {H}), 1, H, own.norm_bias.as<float>(), H);
  }

  void fill_ends(const Array& table, const Maybe& embedding, const Array& head, const Array& head_bias) {
    const long H = model_.units, G = gates_of(model_.kind), V = model_.symbols;
    const long width = static_cast<long>(model_.groups()) * kColumns;
    require(embedding.has_value() == model_.residual, "A residual network has an embedding beside the table, others none.");
    const float* from = floats(table, "table", {V, G * H});
    for (long symbol = 0; symbol < V; ++symbol)
      order_gates(model_, from + symbol * G * H, model_.table.as<float>() + symbol * G * width);
    if (embedding) copy_padded(floats(*embedding, "embedding", {V, H}), V, H, model_.embedding.as<float>(), width);
    pack_head(model_, floats(head, "head", {V, H}));
    copy_padded(floats(head_bias, "head_bias", {V}), 1, V, model_.head_bias.as<float>(), V);
  }

  std::size_t weight_bytes() const { return model_.weight_bytes(); }
  const StepModel& model() const { return model_; }

 private:
  StepModel model_;
};

// Streams that read and draw by the weights of a network, which must outlive them.
class Stepper {
 public:
  Stepper(const StepWeights& weights, int streams) : model_(weights.model()) {
    require(streams > 0 && streams <= kMostStreams, "There are from one to 4,096 streams.");
    const std::size_t R = static_cast<std::size_t>((streams + kRowBlock - 1) / kRowBlock * kRowBlock);
    const std::size_t L = static_cast<std::size_t>(model_.layers), W = static_cast<std::size_t>(model_.groups()) * kColumns;
    state_.streams = streams;
    state_.padded = static_cast<int>(R);
    state_.h = Memory(L * R * W * 4);
    state_.c = Memory(L * R * W * 4);
    state_.read = Memory(2 * L * R * static_cast<std::size_t>(depth(model_)) * 4);
    state_.x = Memory(2 * R * W * 4);
    state_.scale = Memory(R * 4);
    state_.normed = Memory(R * static_cast<std::size_t>(depth(model_)) * 4);
    state_.normed_scale = Memory(R * 4);
    state_.logits = Memory(static_cast<std::size_t>(model_.symbol_tiles()) * kColumns * R * 4);
    state_.symbol = Memory(R * 4);
    mark_ = Memory((2 * L * W + static_cast<std::size_t>(model_.symbol_tiles()) * kColumns) * 4);
    for (std::size_t row = 0; row < R; ++row) state_.scale.as<float>()[row] = 1.0f / kMostWhole;
  }

  // Read symbols (T, B): the first B streams go on, and logits tells what each expects after the last.
  void read(const Array& ids, int threads) {
    const auto* given = static_cast<const int64_t*>(numbers(ids, "ids", Number::kInt64, {-1, -1}));
    StepCall call = call_for(ids, threads);
    call.given = given;
    for (std::size_t i = 0; i < ids.size(); ++i)
      require(given[i] >= 0 && given[i] < model_.symbols, "ids must be from 0 to the number of symbols less one.");
    run(call, threads);
  }

  // Draw symbols into `drawn` (T, B) by `numbers` (T, B) in [0, 1), each read on by its stream.
  void draw(const Array& by, const Array& drawn, double temperature, int64_t top_k, double top_p, double min_p, int threads) {
    const auto* from = static_cast<const double*>(numbers(by, "numbers", Number::kFloat64, {-1, -1}));
    StepCall call = call_for(by, threads);
    call.numbers = from;
    call.drawn = static_cast<int64_t*>(numbers(drawn, "drawn", Number::kInt64, {call.steps, call.rows}));
    require(temperature >= 0 && top_k >= 0 && top_p > 0 && min_p >= 0, "temperature, top_k, top_p or min_p is out of range.");
    for (std::size_t i = 0; i < by.size(); ++i) require(from[i] >= 0 && from[i] < 1, "numbers must be in [0, 1).");
    call.filters = {temperature, top_p, min_p, top_k};
    run(call, threads);
  }

  void logits(const Array& to) {
    const long rows = check_rows(to, 2);
    auto* out = static_cast<float*>(numbers(to, "logits", Number::kFloat32, {rows, model_.symbols}));
    std::lock_guard<std::mutex> lock(busy_);
    for (long row = 0; row < rows; ++row)
      for (int symbol = 0; symbol < model_.symbols; ++symbol)
        out[row * model_.symbols + symbol] = *logit(row, symbol);
  }

  // What a layer remembers: `h`, and an LSTM's `c`, (B, H) each, copied out or in.
  void state(int layer, const Array& h, const Maybe& c, bool in) {
    require(layer >= 0 && layer < model_.layers, "There is no such layer.");
    const long rows = check_rows(h, 2), H = model_.units;
    require(c.has_value() == (model_.kind == kLSTM), "An LSTM has h and c, others h only.");
    auto* own_h = static_cast<float*>(numbers(h, "h", Number::kFloat32, {rows, H}));
    auto* own_c = static_cast<float*>(numbers(c, "c", Number::kFloat32, {rows, H}));
    std::lock_guard<std::mutex> lock(busy_);
    for (long row = 0; row < rows; ++row) {
      copy(place(state_.h, layer, row), own_h + row * H, in);
      if (own_c != nullptr) copy(place(state_.c, layer, row), own_c + row * H, in);
    }
  }

  // Remember where the first stream is, for `restart`.
  void mark() {
    std::lock_guard<std::mutex> lock(busy_);
    each_part(0, [](float* own, float* marked, std::size_t bytes) { std::memcpy(marked, own, bytes); });
  }

  // The first stream begins from zero.
  void clear() {
    std::lock_guard<std::mutex> lock(busy_);
    each_part(0, [](float* own, float*, std::size_t bytes) { std::memset(own, 0, bytes); });
  }

  // Every stream goes on from the mark; from zero, if there is none.
  void restart() {
    std::lock_guard<std::mutex> lock(busy_);
    for (long row = 0; row < state_.streams; ++row)
      each_part(row, [](float* own, float* marked, std::size_t bytes) { std::memcpy(own, marked, bytes); });
  }

 private:
  // Calls `visit` with all that a stream has, and with its place in the mark.
  template <typename Visit>
  void each_part(long row, Visit&& visit) {
    const int width = model_.groups() * kColumns;
    float* marked = mark_.as<float>();
    for (int layer = 0; layer < model_.layers; ++layer) {
      visit(place(state_.h, layer, row), marked, sizeof(float) * static_cast<std::size_t>(width));
      visit(place(state_.c, layer, row), marked + width, sizeof(float) * static_cast<std::size_t>(width));
      marked += 2 * width;
    }
    for (int tile = 0; tile < model_.symbol_tiles(); ++tile, marked += kColumns)
      visit(logit(row, tile * kColumns), marked, sizeof(float) * kColumns);
  }
  float* place(const Memory& of, int layer, long row) const {
    return of.as<float>() + (static_cast<long>(layer) * state_.padded + row) * model_.groups() * kColumns;
  }
  float* logit(long row, int symbol) const {
    return state_.logits.as<float>() + (static_cast<long>(symbol / kColumns) * state_.padded + row) * kColumns + symbol % kColumns;
  }
  void copy(float* own, float* other, bool in) const {
    std::memcpy(in ? own : other, in ? other : own, sizeof(float) * static_cast<std::size_t>(model_.units));
  }
  long check_rows(const Array& array, std::size_t axes) const {
    require(array.ndim() == axes && array.shape(0) >= 1 && array.shape(0) <= static_cast<std::size_t>(state_.streams),
            "The rows of an array must be streams, and at least one.");
    return static_cast<long>(array.shape(0));
  }
  StepCall call_for(const Array& array, int threads) const {
    check_threads(threads);
    require(array.shape(1) >= 1 && array.shape(1) <= static_cast<std::size_t>(state_.streams),
            "The second axis of an array must be streams, and at least one.");
    require(array.shape(0) < (std::size_t{1} << 30), "These are too many steps for one call.");
    StepCall call{};
    call.model = &model_, call.state = &state_;
    call.steps = static_cast<int>(array.shape(0));
    call.rows = call.stride = static_cast<int>(array.shape(1));
    return call;
  }

  void run(const StepCall& call, int threads) {
    const auto step = kernels().step;
    nb::gil_scoped_release release;
    std::lock_guard<std::mutex> lock(busy_);
    // Threads share the units of each layer; or the streams, and then they never meet, where each can have all weights near.
    const bool by_streams = threads > 1 && call.rows >= 2 * kRowBlock && model_.weight_bytes() <= kOwnWeights;
    together(threads, [&](const Place& place) {
      if (!by_streams) return step(call, place);
      int first, last;
      share((call.rows + kRowBlock - 1) / kRowBlock, place, first, last);
      StepCall own = call;
      own.first = first * kRowBlock;
      own.rows = std::min(last * kRowBlock, call.rows) - own.first;
      const Alone alone;
      if (own.rows > 0) step(own, alone.place);
    });
  }

  const StepModel& model_;
  StepState state_;
  Memory mark_;  // of the first stream: h and c of each layer, logits
  std::mutex busy_;
};

}  // namespace

void bind_step(nb::module_& module) {
  nb::class_<StepWeights>(module, "StepWeights")
      .def(nb::init<int, int, int, int, int, bool, float>(), "kind"_a, "precision"_a, "units"_a, "layers"_a, "symbols"_a,
           "residual"_a, "epsilon"_a)
      .def("fill_layer", &StepWeights::fill_layer, "index"_a, "weight_h"_a, "weight_x"_a.none(), "bias"_a.none(),
           "bias_inside"_a.none(), "norm_weight"_a.none(), "norm_bias"_a.none())
      .def("fill_ends", &StepWeights::fill_ends, "table"_a, "embedding"_a.none(), "head"_a, "head_bias"_a)
      .def_prop_ro("weight_bytes", &StepWeights::weight_bytes);
  nb::class_<Stepper>(module, "Stepper")
      .def(nb::init<const StepWeights&, int>(), "weights"_a, "streams"_a, nb::keep_alive<1, 2>())
      .def("read", &Stepper::read, "ids"_a, "threads"_a)
      .def("draw", &Stepper::draw, "numbers"_a, "drawn"_a, "temperature"_a, "top_k"_a, "top_p"_a, "min_p"_a, "threads"_a)
      .def("logits", &Stepper::logits, "to"_a)
      .def("state", &Stepper::state, "layer"_a, "h"_a, "c"_a.none(), "into"_a)
      .def("mark", &Stepper::mark)
      .def("clear", &Stepper::clear)
      .def("restart", &Stepper::restart);
}

}  // namespace unrolled
