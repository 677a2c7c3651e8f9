// Python bindings: the decoder. Sizes, types and token ids are checked here, and nowhere below.
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "args/decoder_args.hpp"
#include "bindings/arguments.hpp"
#include "bindings/pack_decoder.hpp"
#include "isa/cpu_features.hpp"
#include "isa/kernel_table.hpp"

namespace unrolled {

namespace {

using namespace nb::literals;

constexpr int kMaxUnits = 1 << 16, kMaxLayers = 1 << 10, kMaxVocab = 1 << 22, kMaxStreams = 1 << 12;
constexpr std::size_t kPrivateWeightBytes = std::size_t{7}
                                            << 18;  // bytes that stay in a core's second-level cache of 2 MiB
constexpr std::size_t kMaxBytes = std::size_t{1} << 40;

void copy_padded(const float* from, long rows, long count, float* to, long stride) {
  for (long row = 0; row < rows; ++row)
    std::memcpy(to + row * stride, from + row * count, sizeof(float) * static_cast<std::size_t>(count));
}

// The weights of a network, packed. `fill_*` give it them, once each; then any number of streams may read them.
class DecoderWeights {
 public:
  DecoderWeights(int kind, int precision, int units, int layers, int vocab_size, bool residual, float epsilon) {
    require(kind >= kRNN && kind <= kLSTM, "kind must be 0 (RNN), 1 (GRU) or 2 (LSTM).");
    require(precision >= kInFloat32 && precision <= kInInt8,
            "precision must be 0 (float32), 1 (bfloat16) or 2 (int8).");
    require(units > 0 && units <= kMaxUnits && layers > 0 && layers <= kMaxLayers && vocab_size > 0 &&
                vocab_size <= kMaxVocab,
            "A network has from one to 65,536 units, 1,024 layers and 4,194,304 symbols.");
    model_.kind = kind, model_.precision = precision, model_.units = units, model_.layers = layers;
    model_.vocab_size = vocab_size, model_.residual = residual, model_.epsilon = epsilon;
    require(static_cast<double>(vocab_size) * units * gate_count(kind) * 4 < static_cast<double>(kMaxBytes),
            "This is too large.");
    allocate_weights(model_);
  }

  void set_layer(int index, const Array& weight_hh, const OptionalArray& weight_ih, const OptionalArray& bias,
                 const OptionalArray& bias_hn, const OptionalArray& norm_weight, const OptionalArray& norm_bias) {
    require(index >= 0 && index < model_.layers, "There is no such layer.");
    DecoderLayer& entry = model_.layer[static_cast<std::size_t>(index)];
    const long H = model_.units, G = gate_count(model_.kind);
    require(weight_ih.has_value() == (index > 0) && bias.has_value() == (index > 0),
            "A layer has weight_ih and bias, but the first: its are in the table.");
    require(
        norm_weight.has_value() == (index > 0 && model_.residual) && norm_bias.has_value() == norm_weight.has_value(),
        "A residual layer has a norm, but the first: its is in the table.");
    require(!bias_hn || model_.kind == kGRU, "Only a GRU has a bias inside its reset gate.");
    pack_gates(model_, entry.h, float_data(weight_hh, "weight_hh", {G * H, H}));
    if (weight_ih) pack_gates(model_, entry.x, float_data(*weight_ih, "weight_ih", {G * H, H}));
    if (bias) interleave_gates(model_, float_data(*bias, "bias", {G * H}), entry.bias.as<float>());
    if (bias_hn) copy_padded(float_data(*bias_hn, "bias_hn", {H}), 1, H, entry.bias_hn.as<float>(), H);
    if (norm_weight) copy_padded(float_data(*norm_weight, "norm_weight", {H}), 1, H, entry.norm_weight.as<float>(), H);
    if (norm_bias) copy_padded(float_data(*norm_bias, "norm_bias", {H}), 1, H, entry.norm_bias.as<float>(), H);
  }

  void set_table_and_head(const Array& table, const OptionalArray& embedding, const Array& head,
                          const Array& head_bias) {
    const long H = model_.units, G = gate_count(model_.kind), V = model_.vocab_size;
    const long width = static_cast<long>(model_.groups()) * kTileColumns;
    require(embedding.has_value() == model_.residual,
            "A residual network has an embedding as well as the table, others have none.");
    const float* from = float_data(table, "table", {V, G * H});
    for (long token = 0; token < V; ++token)
      interleave_gates(model_, from + token * G * H, model_.table.as<float>() + token * G * width);
    if (embedding) copy_padded(float_data(*embedding, "embedding", {V, H}), V, H, model_.embedding.as<float>(), width);
    pack_head(model_, float_data(head, "head", {V, H}));
    copy_padded(float_data(head_bias, "head_bias", {V}), 1, V, model_.head_bias.as<float>(), V);
  }

  std::size_t weight_bytes() const { return model_.weight_bytes(); }
  const DecoderModel& model() const { return model_; }

 private:
  DecoderModel model_;
};

// Streams that read and draw by the weights of a network, which must outlive them.
class Decoder {
 public:
  Decoder(const DecoderWeights& weights, int streams) : model_(weights.model()) {
    require(streams > 0 && streams <= kMaxStreams, "There are from one to 4,096 streams.");
    const std::size_t R = static_cast<std::size_t>((streams + kRowBlock - 1) / kRowBlock * kRowBlock);
    const std::size_t L = static_cast<std::size_t>(model_.layers),
                      W = static_cast<std::size_t>(model_.groups()) * kTileColumns;
    state_.streams = streams;
    state_.padded = static_cast<int>(R);
    state_.h = AlignedBuffer(L * R * W * 4);
    state_.c = AlignedBuffer(L * R * W * 4);
    state_.h_packed = AlignedBuffer(2 * L * R * static_cast<std::size_t>(padded_depth(model_)) * 4);
    state_.x = AlignedBuffer(2 * R * W * 4);
    state_.h_scale = AlignedBuffer(R * 4);
    state_.normed = AlignedBuffer(R * static_cast<std::size_t>(padded_depth(model_)) * 4);
    state_.normed_scale = AlignedBuffer(R * 4);
    state_.logits = AlignedBuffer(static_cast<std::size_t>(model_.vocab_tiles()) * kTileColumns * R * 4);
    state_.tokens = AlignedBuffer(R * 4);
    prefix_ = AlignedBuffer((2 * L * W + static_cast<std::size_t>(model_.vocab_tiles()) * kTileColumns) * 4);
    for (std::size_t row = 0; row < R; ++row) state_.h_scale.as<float>()[row] = 1.0f / kInt8Max;
  }

  // Read symbols (T, B): the first B streams go on, and logits tells what each expects after the last.
  void feed(const Array& ids, int threads) {
    const auto* input_ids = static_cast<const int64_t*>(checked_data(ids, "ids", DType::kInt64, {-1, -1}));
    StepCall call = make_call(ids, threads);
    call.input_ids = input_ids;
    for (std::size_t i = 0; i < ids.size(); ++i)
      require(input_ids[i] >= 0 && input_ids[i] < model_.vocab_size,
              "ids must be from 0 to the number of symbols less one.");
    run(call, threads);
  }

  // Draw symbols into `sampled` (T, B) by `uniforms` (T, B) in [0, 1), each read on by its stream. `filters` has the
  // temperature, top_k, top_p and min_p of each stream (B, 4), or of all (1, 4).
  void sample(const Array& uniforms_array, const Array& sampled, const Array& filters, int threads) {
    const auto* from = static_cast<const double*>(checked_data(uniforms_array, "uniforms", DType::kFloat64, {-1, -1}));
    StepCall call = make_call(uniforms_array, threads);
    call.uniforms = from;
    call.sampled = static_cast<int64_t*>(checked_data(sampled, "sampled", DType::kInt64, {call.steps, call.rows}));
    const std::vector<Filters> checked = checked_filters(filters, call.rows);
    call.filters = checked.data(), call.has_filters_per_stream = checked.size() > 1;
    for (std::size_t i = 0; i < uniforms_array.size(); ++i)
      require(from[i] >= 0 && from[i] < 1, "uniforms must be in [0, 1).");
    run(call, threads);
  }

  void logits(const Array& to) {
    const long rows = check_rows(to, 2);
    auto* out = static_cast<float*>(checked_data(to, "logits", DType::kFloat32, {rows, model_.vocab_size}));
    std::lock_guard<std::mutex> lock(mutex_);
    for (long row = 0; row < rows; ++row)
      for (int token = 0; token < model_.vocab_size; ++token) out[row * model_.vocab_size + token] = *logit(row, token);
  }

  // What a layer remembers: `h`, and an LSTM's `c`, (B, H) each, copied out or in.
  void state(int layer, const Array& h, const OptionalArray& c, bool copy_in) {
    require(layer >= 0 && layer < model_.layers, "There is no such layer.");
    const long rows = check_rows(h, 2), H = model_.units;
    require(c.has_value() == (model_.kind == kLSTM), "An LSTM has h and c, others h only.");
    auto* own_h = static_cast<float*>(checked_data(h, "h", DType::kFloat32, {rows, H}));
    auto* own_c = static_cast<float*>(checked_data(c, "c", DType::kFloat32, {rows, H}));
    std::lock_guard<std::mutex> lock(mutex_);
    for (long row = 0; row < rows; ++row) {
      copy(state_row(state_.h, layer, row), own_h + row * H, copy_in);
      if (own_c != nullptr) copy(state_row(state_.c, layer, row), own_c + row * H, copy_in);
    }
  }

  // Remember where the first stream is, for `restore_prefix`.
  void save_prefix() {
    std::lock_guard<std::mutex> lock(mutex_);
    for_each_state_part(0, [](float* entry, float* prefix, std::size_t bytes) { std::memcpy(prefix, entry, bytes); });
  }

  // The first stream begins from zero.
  void reset() {
    std::lock_guard<std::mutex> lock(mutex_);
    for_each_state_part(0, [](float* entry, float*, std::size_t bytes) { std::memset(entry, 0, bytes); });
  }

  // Every stream goes on from the mark; from zero, if there is none.
  void restore_prefix() {
    std::lock_guard<std::mutex> lock(mutex_);
    for (long row = 0; row < state_.streams; ++row)
      for_each_state_part(row,
                          [](float* entry, float* prefix, std::size_t bytes) { std::memcpy(entry, prefix, bytes); });
  }

 private:
  // Calls `visit` with all that a stream has, and with its place in the mark.
  template <typename Visit>
  void for_each_state_part(long row, Visit&& visit) {
    const int width = model_.groups() * kTileColumns;
    float* prefix = prefix_.as<float>();
    for (int layer = 0; layer < model_.layers; ++layer) {
      visit(state_row(state_.h, layer, row), prefix, sizeof(float) * static_cast<std::size_t>(width));
      visit(state_row(state_.c, layer, row), prefix + width, sizeof(float) * static_cast<std::size_t>(width));
      prefix += 2 * width;
    }
    for (int tile = 0; tile < model_.vocab_tiles(); ++tile, prefix += kTileColumns)
      visit(logit(row, tile * kTileColumns), prefix, sizeof(float) * kTileColumns);
  }
  float* state_row(const AlignedBuffer& buffer, int layer, long row) const {
    return buffer.as<float>() + (static_cast<long>(layer) * state_.padded + row) * model_.groups() * kTileColumns;
  }
  float* logit(long row, int token) const {
    return state_.logits.as<float>() + (static_cast<long>(token / kTileColumns) * state_.padded + row) * kTileColumns +
           token % kTileColumns;
  }
  void copy(float* entry, float* other, bool copy_in) const {
    std::memcpy(copy_in ? entry : other, copy_in ? other : entry,
                sizeof(float) * static_cast<std::size_t>(model_.units));
  }
  long check_rows(const Array& array, std::size_t axes) const {
    require(array.ndim() == axes && array.shape(0) >= 1 && array.shape(0) <= static_cast<std::size_t>(state_.streams),
            "The rows of an array must be streams, and at least one.");
    return static_cast<long>(array.shape(0));
  }
  std::vector<Filters> checked_filters(const Array& array, long rows) const {
    require(array.ndim() == 2 && (array.shape(0) == 1 || array.shape(0) == static_cast<std::size_t>(rows)),
            "filters must have one row, or one for each stream.");
    const long count = static_cast<long>(array.shape(0));
    const auto* from = static_cast<const double*>(checked_data(array, "filters", DType::kFloat64, {count, 4}));
    std::vector<Filters> filters;
    for (const double* row = from; row < from + 4 * count; row += 4) {
      require(row[0] >= 0 && row[1] >= 0 && row[2] > 0 && row[3] >= 0, "temperature, top_k, top_p or min_p is out of range.");
      const double top_k = std::min(row[1], static_cast<double>(model_.vocab_size));  // as many as there are: all
      filters.push_back({row[0], row[2], row[3], static_cast<int64_t>(top_k)});
    }
    return filters;
  }
  StepCall make_call(const Array& array, int threads) const {
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
    std::lock_guard<std::mutex> lock(mutex_);
    // Threads divide the units of each layer; or the streams, without barriers, where all weights fit each core's
    // cache.
    const bool by_streams = threads > 1 && call.rows >= 2 * kRowBlock && model_.weight_bytes() <= kPrivateWeightBytes;
    parallel_region(threads, [&](const ThreadContext& state_row) {
      if (!by_streams) return step(call, state_row);
      int first, last;
      static_range((call.rows + kRowBlock - 1) / kRowBlock, state_row, first, last);
      StepCall entry = call;
      entry.first = first * kRowBlock;
      entry.rows = std::min(last * kRowBlock, call.rows) - entry.first;
      const SingleThread alone;
      if (entry.rows > 0) step(entry, alone.context);
    });
  }

  const DecoderModel& model_;
  DecoderState state_;
  AlignedBuffer prefix_;  // of the first stream: h and c of each layer, logits
  std::mutex mutex_;
};

}  // namespace

void bind_step(nb::module_& module) {
  nb::class_<DecoderWeights>(module, "DecoderWeights")
      .def(nb::init<int, int, int, int, int, bool, float>(), "kind"_a, "precision"_a, "units"_a, "layers"_a,
           "vocab_size"_a, "residual"_a, "epsilon"_a)
      .def("set_layer", &DecoderWeights::set_layer, "index"_a, "weight_hh"_a, "weight_ih"_a.none(), "bias"_a.none(),
           "bias_hn"_a.none(), "norm_weight"_a.none(), "norm_bias"_a.none())
      .def("set_table_and_head", &DecoderWeights::set_table_and_head, "table"_a, "embedding"_a.none(), "head"_a,
           "head_bias"_a)
      .def_prop_ro("weight_bytes", &DecoderWeights::weight_bytes);
  nb::class_<Decoder>(module, "Decoder")
      .def(nb::init<const DecoderWeights&, int>(), "weights"_a, "streams"_a, nb::keep_alive<1, 2>())
      .def("feed", &Decoder::feed, "ids"_a, "threads"_a)
      .def("sample", &Decoder::sample, "uniforms"_a, "sampled"_a, "filters"_a, "threads"_a)
      .def("logits", &Decoder::logits, "to"_a)
      .def("state", &Decoder::state, "layer"_a, "h"_a, "c"_a.none(), "copy_in"_a)
      .def("save_prefix", &Decoder::save_prefix)
      .def("reset", &Decoder::reset)
      .def("restore_prefix", &Decoder::restore_prefix);
}

}  // namespace unrolled
