// Python bindings: the portable step. Sizes, types and token ids are checked here, and nowhere below.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "args/portable_args.hpp"
#include "bindings/arguments.hpp"
#include "isa/cpu_features.hpp"
#include "threads/parallel.hpp"

namespace unrolled {

namespace {

using namespace nb::literals;

constexpr int kMaxUnits = 1 << 16, kMaxLayers = 1 << 10, kMaxVocab = 1 << 22;
constexpr int kMaxRounds = 16;
constexpr long kMaxRows = 1 << 20;
constexpr std::size_t kMaxTableBytes = std::size_t{32} << 20;  // of the products of the first layer

// A network in portable arithmetic. `set_*` give it its weights, once each; then any number of threads may run it.
class Portable {
 public:
  Portable(int kind, int units, int layers, int vocab_size, int embedding_size, bool residual) {
    require(kind >= kPortableRNN && kind <= kPortableSLSTM,
            "kind must be 0 (RNN), 1 (GRU), 2 (GRU with the reset before the product), 3 (LSTM), 4 (minGRU), 5 (minLSTM), "
            "6 (RG-LRU) or 7 (sLSTM).");
    require(units > 0 && units <= kMaxUnits && layers > 0 && layers <= kMaxLayers && vocab_size > 0 &&
                vocab_size <= kMaxVocab && embedding_size >= 0 && embedding_size <= kMaxVocab,
            "A network has from one to 65,536 units, 1,024 layers and 4,194,304 symbols.");
    require(!residual || embedding_size == units, "The embedding of a residual network has as many numbers as units.");
    model_.kind = kind, model_.units = units, model_.vocab_size = vocab_size;
    model_.embedding_size = embedding_size, model_.residual = residual;
    model_.layers.resize(static_cast<std::size_t>(layers));
    const std::size_t width = static_cast<std::size_t>(model_.gate_width()), symbols = static_cast<std::size_t>(vocab_size);
    if (symbols * width * sizeof(float) <= kMaxTableBytes) {
      model_.first_gates = AlignedBuffer(symbols * width * sizeof(float));
      model_.has_first_gates.reset(new std::atomic<bool>[symbols] {});
    }
  }

  void set_input(const Array& weight, const Array& scale) {
    const bool is_one_hot = model_.embedding_size == 0;
    const long columns = is_one_hot ? model_.gate_columns() : model_.embedding_size, V = model_.vocab_size;
    const long scales = is_one_hot ? columns : V;
    const auto* from = static_cast<const int8_t*>(checked_data(weight, "weight", DType::kInt8, {V, columns}));
    model_.input_scale = padded_floats(float_data(scale, "scale", {scales}), static_cast<int>(scales));
    model_.input.assign(from, from + V * columns);
  }

  void set_layer(int index, const OptionalArray& input, const OptionalArray& input_scale, const OptionalArray& recurrent,
                 const OptionalArray& recurrent_scale, const OptionalArray& recurrent_n, const OptionalArray& recurrent_n_scale,
                 const Array& bias, const OptionalArray& bias_hh, const OptionalArray& norm_weight,
                 const OptionalArray& norm_bias) {
    require(index >= 0 && index < static_cast<int>(model_.layers.size()), "There is no such layer.");
    const int H = model_.units, GH = model_.gate_columns();
    const bool is_first = index == 0, is_before = model_.kind == kPortableGRUResetBefore;
    require(input.has_value() == (!is_first || model_.embedding_size != 0) && input.has_value() == input_scale.has_value(),
            "A layer has a matrix for its input, but the first of one-hot inputs.");
    const bool has_recurrent = !portable_is_linear(model_.kind);
    require(recurrent.has_value() == has_recurrent && recurrent_scale.has_value() == has_recurrent,
            "A layer has a matrix for h, but one of a cell whose gates depend on the input only.");
    require(recurrent_n.has_value() == is_before && recurrent_n_scale.has_value() == is_before,
            "Only a GRU with the reset before the product has a matrix for n, and it must have one.");
    require(norm_weight.has_value() == model_.residual && norm_bias.has_value() == model_.residual,
            "The layers of a residual network have a norm, others none.");
    PortableLayer& layer = model_.layers[static_cast<std::size_t>(index)];
    if (input) layer.input = tiles(*input, *input_scale, "input", GH, is_first ? model_.embedding_size : H);
    if (recurrent) layer.recurrent = tiles(*recurrent, *recurrent_scale, "recurrent", is_before ? 2 * H : GH, H);
    if (recurrent_n) layer.recurrent_n = tiles(*recurrent_n, *recurrent_n_scale, "recurrent_n", H, H);
    layer.bias = padded_floats(float_data(bias, "bias", {GH}), GH);
    if (bias_hh) layer.bias_hh = padded_floats(float_data(*bias_hh, "bias_hh", {GH}), GH);
    if (norm_weight) layer.norm_weight = padded_floats(float_data(*norm_weight, "norm_weight", {H}), H);
    if (norm_bias) layer.norm_bias = padded_floats(float_data(*norm_bias, "norm_bias", {H}), H);
  }

  // A round of a Mogrifier, each after the one before it.
  void set_round(int index, int round, const Array& weight, const Array& scale) {
    require(index >= 0 && index < static_cast<int>(model_.layers.size()), "There is no such layer.");
    PortableLayer& layer = model_.layers[static_cast<std::size_t>(index)];
    require(round == static_cast<int>(layer.rounds.size()) && round < kMaxRounds, "Rounds are given in their order.");
    require(model_.kind == kPortableGRU || model_.kind == kPortableLSTM, "A Mogrifier is a GRU or an LSTM.");
    const int H = model_.units, E = index == 0 ? model_.embedding_size : H;
    require(E > 0, "A Mogrifier reads vectors: one-hot inputs are rows of an identity matrix.");
    layer.rounds.push_back(tiles(weight, scale, "weight", round % 2 == 0 ? E : H, round % 2 == 0 ? H : E));
  }

  // The decay of an RG-LRU (H).
  void set_decay(int index, const Array& decay) {
    require(index >= 0 && index < static_cast<int>(model_.layers.size()), "There is no such layer.");
    require(model_.kind == kPortableRGLRU, "Only an RG-LRU has a decay.");
    model_.layers[static_cast<std::size_t>(index)].decay = padded_floats(float_data(decay, "decay", {model_.units}), model_.units);
  }

  void set_head(const Array& weight, const Array& scale, const Array& bias) {
    const int V = model_.vocab_size;
    model_.head = tiles(weight, scale, "head", V, model_.units);
    model_.head_bias = padded_floats(float_data(bias, "bias", {V}), V);
  }

  void clamp(int layer, int unit, float value) {
    require(layer >= 0 && layer < static_cast<int>(model_.layers.size()) && unit >= 0 && unit < model_.units,
            "There is no such unit to clamp.");
    model_.clamps.push_back({layer, unit, value});
  }

  // Read ids (T, B): write the logits (T, B, V), and replace the states (L, B, H) by the next ones.
  void read(const Array& ids, const OptionalArray& resets, const Array& h, const OptionalArray& c, const Array& logits,
            int threads) {
    const auto* from = static_cast<const int64_t*>(checked_data(ids, "ids", DType::kInt64, {-1, -1}));
    PortableCall call = make_call(static_cast<long>(ids.shape(0)), static_cast<long>(ids.shape(1)), h, c);
    for (std::size_t i = 0; i < ids.size(); ++i)
      require(from[i] >= 0 && from[i] < model_.vocab_size, "ids must be from 0 to the number of symbols less one.");
    call.ids = from;
    call.resets = static_cast<const uint8_t*>(checked_data(resets, "resets", DType::kByte, {call.steps, call.rows}));
    call.logits = static_cast<float*>(
        checked_data(logits, "logits", DType::kFloat32, {call.steps, call.rows, model_.vocab_size}));
    run(call, threads);
  }

  // Draw symbols into `sampled` (T, B) from the logits (B, V), each read on; replace logits and states by the next ones.
  void sample(const Array& seeds, uint64_t position, const Array& h, const OptionalArray& c, const Array& logits,
              const Array& sampled, double temperature, int64_t top_k, double top_p, double min_p, int threads) {
    auto* to = static_cast<int64_t*>(checked_data(sampled, "sampled", DType::kInt64, {-1, -1}));
    PortableCall call = make_call(static_cast<long>(sampled.shape(0)), static_cast<long>(sampled.shape(1)), h, c);
    require(temperature >= 0 && top_k >= 0 && top_p > 0 && min_p >= 0 && min_p <= 1,
            "temperature, top_k, top_p or min_p is out of range.");
    call.sampled = to;
    call.seeds = static_cast<const uint64_t*>(checked_data(seeds, "seeds", DType::kInt64, {call.rows}));
    call.position = position;
    call.logits = static_cast<float*>(checked_data(logits, "logits", DType::kFloat32, {call.rows, model_.vocab_size}));
    call.filters = {temperature, top_p, min_p, top_k};
    run(call, threads);
  }

 private:
  static Int8Tiles tiles(const Array& weight, const Array& scale, const char* name, int rows, int columns) {
    const auto* from = static_cast<const int8_t*>(checked_data(weight, name, DType::kInt8, {rows, columns}));
    return pack_int8_tiles(from, float_data(scale, "scale", {rows}), rows, columns);
  }

  PortableCall make_call(long steps, long rows, const Array& h, const OptionalArray& c) {
    require(model_.head.rows > 0 && model_.input_scale.size() > 0 &&
                std::all_of(model_.layers.begin(), model_.layers.end(), [this](const auto& layer) {
                  return layer.bias.size() > 0 && layer.rounds.size() == model_.layers[0].rounds.size() &&
                         (model_.kind != kPortableRGLRU || layer.decay.size() > 0);
                }),
            "The network does not have all of its weights yet.");
    require(rows >= 1 && rows <= kMaxRows && steps < (1L << 30), "There are from one to 1,048,576 rows.");
    const int others = portable_others(model_.kind);
    require(c.has_value() == (others > 0), "An LSTM has h and c, an sLSTM h, c, n and m, others h only.");
    const auto layers = static_cast<long>(model_.layers.size());
    PortableCall call{};
    call.model = &model_, call.steps = static_cast<int>(steps), call.rows = static_cast<int>(rows);
    call.h = static_cast<float*>(checked_data(h, "h", DType::kFloat32, {layers, rows, model_.units}));
    call.c = static_cast<float*>(checked_data(c, "c", DType::kFloat32, {layers * std::max(others, 1), rows, model_.units}));
    return call;
  }

  static void run(const PortableCall& call, int threads) {
    check_threads(threads);
    const PortableRun take_rows = portable_run();
    // Rows do not depend on one another: a thread takes as many at once as share one reading of the weights.
    const int share = (call.rows + threads - 1) / threads, size = std::min(share, kPortableMaxRows);
    const int pieces = (call.rows + size - 1) / size;
    nb::gil_scoped_release release;
    parallel_region(std::min(threads, pieces), [&](const ThreadContext& thread) {
      parallel_for(thread, pieces, [&](int piece) {
        const int first = piece * size;
        take_rows(call, first, std::min(size, call.rows - first));
      });
    });
  }

  PortableModel model_;
};

}  // namespace

void bind_portable(nb::module_& module) {
  nb::class_<Portable>(module, "Portable")
      .def(nb::init<int, int, int, int, int, bool>(), "kind"_a, "units"_a, "layers"_a, "vocab_size"_a,
           "embedding_size"_a, "residual"_a)
      .def("set_input", &Portable::set_input, "weight"_a, "scale"_a)
      .def("set_layer", &Portable::set_layer, "index"_a, "input"_a.none(), "input_scale"_a.none(), "recurrent"_a.none(),
           "recurrent_scale"_a.none(), "recurrent_n"_a.none(), "recurrent_n_scale"_a.none(), "bias"_a, "bias_hh"_a.none(),
           "norm_weight"_a.none(), "norm_bias"_a.none())
      .def("set_round", &Portable::set_round, "index"_a, "round"_a, "weight"_a, "scale"_a)
      .def("set_decay", &Portable::set_decay, "index"_a, "decay"_a)
      .def("set_head", &Portable::set_head, "weight"_a, "scale"_a, "bias"_a)
      .def("clamp", &Portable::clamp, "layer"_a, "unit"_a, "value"_a)
      .def("read", &Portable::read, "ids"_a, "resets"_a.none(), "h"_a, "c"_a.none(), "logits"_a, "threads"_a)
      .def("sample", &Portable::sample, "seeds"_a, "position"_a, "h"_a, "c"_a.none(), "logits"_a, "sampled"_a,
           "temperature"_a, "top_k"_a, "top_p"_a, "min_p"_a, "threads"_a);
}

}  // namespace unrolled
