// The layer's kernels for Python: shapes are checked here, and nowhere below.
#include "border.hpp"
#include "kernels.hpp"
#include "processor.hpp"

namespace unrolled {

namespace {

using namespace nb::literals;

// By rows where each thread has a tile of them and its cache holds all weights beside what passes through it: 512 KiB, of 2 MiB
// that a core of a server has and 1 MiB or less elsewhere.
int parts_of(int kind, long rows, long units, int threads, bool narrow) {
  const long bytes = gates_of(kind) * static_cast<long>(rounded_up(units, 32)) * rounded_up(units, 32) * (narrow ? 2 : 4);
  return threads > 1 && rounded_up(rows, 16) / 16 >= threads && bytes <= 1L << 19 ? threads : 1;
}

LayerShape shape_of(int kind, long steps, long rows, long units, int threads, int parts = 1) {
  require(kind >= kRNN && kind <= kLSTM, "kind must be 0 (RNN), 1 (GRU) or 2 (LSTM).");
  require(steps >= 1 && steps < kLargest && rows >= 1 && rows < kLargest && units >= 1 && units < kLargest,
          "A layer needs at least one step, one row and one unit, and fewer than a million of each.");
  check_threads(threads);
  require(parts >= 1 && parts <= rounded_up(rows, 16) / 16, "parts must be from 1 to a sixteenth of the rows.");
  return {kind, static_cast<int>(steps), static_cast<int>(rows), static_cast<int>(units), rounded_up(units, 32), threads, parts};
}

Number saved_type_of(const Array& array) { return is(array, Number::kBfloat16) ? Number::kHalf : Number::kFloat32; }

void check_ids(const int64_t* ids, size_t count, long symbols) {
  for (size_t i = 0; i < count; ++i)
    require(ids[i] >= 0 && ids[i] < symbols, "ids must be rows of the table.");
}

void pack_forward(int kind, const Array& weight, const Array& to, long units, int threads) {
    const LayerShape shape = shape_of(kind, 1, 1, units, threads);
  const int gates = gates_of(kind);
  const auto* from = static_cast<const float*>(numbers(weight, "weight", Number::kFloat32, {gates * units, -1}));
  const int depth = static_cast<int>(weight.shape(1)), padded = rounded_up(depth, 32);
  void* into = numbers(to, "to", type_of(to), {static_cast<long>(shape.groups()) * gates, padded, 16});
  const LayerKernels& use = kernels_for(to);
  nb::gil_scoped_release release;
  use.pack_forward(shape, from, depth, padded, into);
}

void pack_backward(int kind, const Array& weight, const Array& to, long units, bool of_state, int threads) {
    const LayerShape shape = shape_of(kind, 1, 1, units, threads);
  const long gates = gates_of(kind);
  const auto* from = static_cast<const float*>(numbers(weight, "weight", Number::kFloat32, {gates * units, -1}));
  const long columns = static_cast<long>(weight.shape(1));
  require(columns >= 1 && columns < kLargest, "weight must have columns, fewer than a million.");
  void* into = numbers(to, "to", type_of(to), {rounded_up(columns, 32) / 16, gates * shape.padded_units, 16});
  const LayerKernels& use = kernels_for(to);
  nb::gil_scoped_release release;
  use.pack_backward(shape, from, static_cast<int>(columns), of_state, into);
}

void layer_forward(int kind, int threads, int parts, const Maybe& xs, const Maybe& weight_x, const Maybe& ids, const Maybe& table,
                   const Array& weight_h, const Array& bias, const Maybe& resets, const Array& h_first,
                   const Maybe& c_first, const Maybe& mask, const Maybe& below, const Array& hs, const Maybe& saved,
                   const Array& ys, const Array& h_last, const Maybe& c_last) {
  require(ys.ndim() == 3 && hs.ndim() == 3, "ys and hs must have three axes.");
  const long steps = ys.shape(0), rows = ys.shape(1), units = ys.shape(2);
  const LayerShape s = shape_of(kind, steps, rows, units, threads, parts);
  const Number type = type_of(hs);
  const long gates = gates_of(kind), tiles = s.groups() * gates;
  LayerForward a{};
  a.shape = s;
  require(xs.has_value() != ids.has_value() && xs.has_value() == weight_x.has_value() && ids.has_value() == table.has_value(),
          "A layer reads either xs, with weight_x, or ids of a table.");
  if (xs) {
    a.xs = numbers(xs, "xs", type, {steps, rows, -1});
    a.stride_x = xs->shape(2);
    a.weight_x = numbers(weight_x, "weight_x", type, {tiles, -1, 16});
    require(weight_x->shape(1) % 32 == 0 && weight_x->shape(1) <= a.stride_x, "weight_x must be as deep as xs is wide.");
    a.padded_inputs = static_cast<int>(weight_x->shape(1));
  } else {
    a.ids = static_cast<const int64_t*>(numbers(ids, "ids", Number::kInt64, {steps, rows}));
    a.table = static_cast<const float*>(numbers(table, "table", Number::kFloat32, {-1, gates, s.padded_units}));
    check_ids(a.ids, static_cast<size_t>(steps) * rows, static_cast<long>(table->shape(0)));
  }
  a.weight_h = numbers(weight_h, "weight_h", type, {tiles, s.padded_units, 16});
  a.bias = static_cast<const float*>(numbers(bias, "bias", Number::kFloat32, {gates + (kind == kGRU), s.padded_units}));
  a.resets = static_cast<const uint8_t*>(numbers(resets, "resets", Number::kByte, {steps, rows}));
  a.h_first = static_cast<const float*>(numbers(h_first, "h_first", Number::kFloat32, {rows, units}));
  a.h_last = static_cast<float*>(numbers(h_last, "h_last", Number::kFloat32, {rows, units}));
  require((kind == kLSTM) == c_first.has_value() && (kind == kLSTM) == c_last.has_value(), "An LSTM, and only that, has a c.");
  a.c_first = static_cast<const float*>(numbers(c_first, "c_first", Number::kFloat32, {rows, units}));
  a.c_last = static_cast<float*>(numbers(c_last, "c_last", Number::kFloat32, {rows, units}));
  a.mask = static_cast<const float*>(numbers(mask, "mask", Number::kFloat32, {rows, units}));
  const long below_rows = ids ? static_cast<long>(table->shape(0)) : steps * rows;
  a.below = static_cast<const float*>(numbers(below, "below", Number::kFloat32, {below_rows, units}));
  a.hs = numbers(hs, "hs", type, {steps + 1, rows, -1});
  a.stride_h = hs.shape(2);
  require(a.stride_h >= static_cast<size_t>(s.padded_units), "hs must have room for the padded units.");
  a.saved = numbers(saved, "saved", saved_type_of(hs), {steps, s.groups(), rows, slots_of(kind), 16});
  a.ys = static_cast<float*>(numbers(ys, "ys", Number::kFloat32, {steps, rows, units}));
  const LayerKernels& use = kernels_for(hs);
  nb::gil_scoped_release release;
  use.forward(a);
}

void layer_backward(int kind, int threads, const Array& weight_back, const Maybe& resets, const Array& saved,
                    const Maybe& mask, const Array& dys, const Array& dh_last, const Maybe& dc_last, const Maybe& ids,
                    const Maybe& dtable, const Maybe& dbelow, const Array& dgates, const Array& dbias,
                    const Array& dh_first, const Maybe& dc_first) {
  require(dys.ndim() == 3 && dgates.ndim() == 3 && dbias.ndim() == 3, "dys, dgates and dbias must have three axes.");
  const long steps = dys.shape(0), rows = dys.shape(1), units = dys.shape(2), parts = dbias.shape(0);
  require(parts <= 1024, "dbias has too many parts.");
  const LayerShape s = shape_of(kind, steps, rows, units, threads, static_cast<int>(parts));
  const Number type = type_of(dgates);
  const long gates = gates_of(kind), blocks = blocks_of(kind);
  LayerBackward a{};
  a.shape = s;
  a.weight_back = numbers(weight_back, "weight_back", type, {s.groups(), gates * s.padded_units, 16});
  a.resets = static_cast<const uint8_t*>(numbers(resets, "resets", Number::kByte, {steps, rows}));
  a.saved = numbers(saved, "saved", saved_type_of(dgates), {steps, s.groups(), rows, slots_of(kind), 16});
  a.mask = static_cast<const float*>(numbers(mask, "mask", Number::kFloat32, {rows, units}));
  a.dys = static_cast<const float*>(numbers(dys, "dys", Number::kFloat32, {steps, rows, units}));
  a.dh_last = static_cast<const float*>(numbers(dh_last, "dh_last", Number::kFloat32, {rows, units}));
  a.dh_first = static_cast<float*>(numbers(dh_first, "dh_first", Number::kFloat32, {rows, units}));
  require((kind == kLSTM) == dc_first.has_value() && (kind == kLSTM) == dc_last.has_value(), "An LSTM, and only that, has a c.");
  a.dc_last = static_cast<const float*>(numbers(dc_last, "dc_last", Number::kFloat32, {rows, units}));
  a.dc_first = static_cast<float*>(numbers(dc_first, "dc_first", Number::kFloat32, {rows, units}));
  require(ids.has_value() == dtable.has_value(), "ids and dtable go together.");
  require(ids.has_value() || !dbelow.has_value(), "dbelow needs ids.");
  if (ids) {
    a.ids = static_cast<const int64_t*>(numbers(ids, "ids", Number::kInt64, {steps, rows}));
    a.dtable = static_cast<float*>(numbers(dtable, "dtable", Number::kFloat32, {parts, -1, gates, s.padded_units}));
    a.symbols = dtable->shape(1);
    check_ids(a.ids, static_cast<size_t>(steps) * rows, static_cast<long>(a.symbols));
    const long symbols = static_cast<long>(a.symbols);
    a.dbelow = static_cast<float*>(numbers(dbelow, "dbelow", Number::kFloat32, {parts, symbols, s.padded_units}));
  }
  a.dgates = numbers(dgates, "dgates", type, {steps, rows, -1});
  a.stride_g = dgates.shape(2);
  require(a.stride_g >= static_cast<size_t>(blocks) * s.padded_units, "dgates must have room for all gates.");
  a.dbias = static_cast<float*>(numbers(dbias, "dbias", Number::kFloat32, {parts, blocks, s.padded_units}));
  const LayerKernels& use = kernels_for(dgates);
  nb::gil_scoped_release release;
  use.backward(a);
}

void input_products(int kind, int threads, const Array& xs, const Array& weight_x, const Array& table) {
  require(table.ndim() == 3 && xs.ndim() == 2, "table must have three axes, and xs two.");
  require(kind >= kRNN && kind <= kLSTM && table.shape(2) % 32 == 0, "kind or table are not right.");
  InputProducts a{};
  a.shape = shape_of(kind, 1, static_cast<long>(table.shape(0)), static_cast<long>(table.shape(2)), threads);
  const long gates = gates_of(kind);
  a.xs = numbers(xs, "xs", type_of(xs), {a.shape.rows, -1});
  a.stride_x = xs.shape(1);
  a.weight_x = numbers(weight_x, "weight_x", type_of(xs), {a.shape.groups() * gates, -1, 16});
  require(weight_x.shape(1) % 32 == 0 && weight_x.shape(1) <= a.stride_x, "weight_x must be as deep as xs is wide.");
  a.padded_inputs = static_cast<int>(weight_x.shape(1));
  a.table = static_cast<float*>(numbers(table, "table", Number::kFloat32, {a.shape.rows, gates, a.shape.padded_units}));
  const LayerKernels& use = kernels_for(xs);
  nb::gil_scoped_release release;
  use.input_products(a);
}

// Whether there are kernels for the products of the way back in this type; torch's do as well otherwise.
bool has_gradients(bool narrow) { return (narrow ? kernels().bfloat16 : kernels().float32).weight_gradients != nullptr; }

const LayerKernels& gradients_for(const Array& dgates) {
  require(has_gradients(is(dgates, Number::kBfloat16)), "This processor has no such kernel: use torch's products.");
  return kernels_for(dgates);
}

Source source_of(const Array& values, const Array& gradient, const char* name, Number type, long rows, int first, int last) {
  const auto* from = numbers(values, name, type, {-1, -1, -1});
  require(static_cast<long>(values.shape(0) * values.shape(1)) >= rows, "A source must have as many rows as dgates.");
  auto* into = static_cast<float*>(numbers(gradient, "gradient", Number::kFloat32, {last - first, -1}));
  const std::size_t width = gradient.shape(1);
  require(width % 32 == 0 && width > 0 && width <= values.shape(2), "A gradient must be as wide as its source, to 32.");
  return {from, values.shape(2), width, first, last, into};
}

void weight_gradients(int kind, int threads, long padded_units, const Array& dgates, const Array& hs, const Array& dweight_h,
                      const Maybe& xs, const Maybe& dweight_x) {
  const LayerKernels& use = gradients_for(dgates);
  const Number type = type_of(dgates);
  require(kind >= kRNN && kind <= kLSTM && threads >= 1 && threads <= 1024, "kind or threads are not right.");
  require(padded_units > 0 && padded_units % 32 == 0 && padded_units < kLargest, "padded_units must be a multiple of 32.");
  const int units = static_cast<int>(padded_units), gates = gates_of(kind), blocks = blocks_of(kind);
  WeightGradients a{};
  a.threads = threads;
  a.dgates = numbers(dgates, "dgates", type, {-1, -1, -1});
  a.rows = dgates.shape(0) * dgates.shape(1);
  a.stride_g = dgates.shape(2);
  require(a.stride_g >= static_cast<std::size_t>(blocks) * units, "dgates must have room for all gates.");
  const long rows = static_cast<long>(a.rows);
  a.source[a.sources++] = source_of(hs, dweight_h, "hs", type, rows, 0, gates * units);
  require(xs.has_value() == dweight_x.has_value(), "xs and dweight_x go together.");
  if (xs) a.source[a.sources++] = source_of(*xs, *dweight_x, "xs", type, rows, (blocks - gates) * units, blocks * units);
  nb::gil_scoped_release release;
  use.weight_gradients(a);
}

void input_gradients(int kind, int threads, const Array& dgates, const Array& weight_back, const Array& dinputs) {
  const LayerKernels& use = gradients_for(dgates);
  const Number type = type_of(dgates);
  require(kind >= kRNN && kind <= kLSTM && threads >= 1 && threads <= 1024, "kind or threads are not right.");
  InputGradients a{};
  a.threads = threads;
  a.dgates = numbers(dgates, "dgates", type, {-1, -1, -1});
  a.rows = dgates.shape(0) * dgates.shape(1);
  a.stride_g = dgates.shape(2);
  a.weight_back = numbers(weight_back, "weight_back", type, {-1, -1, 16});
  a.deep = static_cast<int>(weight_back.shape(1));
  a.first = a.deep / gates_of(kind) * (blocks_of(kind) - gates_of(kind));
  a.width = weight_back.shape(0) * 16;
  require(a.deep % 32 == 0 && weight_back.shape(0) % 2 == 0, "Widths must be padded.");
  require(static_cast<std::size_t>(a.first + a.deep) <= a.stride_g, "weight_back must be as deep as dgates.");
  a.dinputs = static_cast<float*>(
      numbers(dinputs, "dinputs", Number::kFloat32,
              {static_cast<long>(dgates.shape(0)), static_cast<long>(dgates.shape(1)), static_cast<long>(a.width)}));
  nb::gil_scoped_release release;
  use.input_gradients(a);
}

}  // namespace

void bind_layer(nb::module_& module) {
  module.def("layer_parts", parts_of, "kind"_a, "rows"_a, "units"_a, "threads"_a, "narrow"_a);
  module.def("pack_forward", pack_forward, "kind"_a, "weight"_a.noconvert(), "to"_a.noconvert(), "units"_a, "threads"_a);
  module.def("pack_backward", pack_backward, "kind"_a, "weight"_a.noconvert(), "to"_a.noconvert(), "units"_a, "of_state"_a,
             "threads"_a);
  module.def("input_products", input_products, "kind"_a, "threads"_a, "xs"_a.noconvert(), "weight_x"_a.noconvert(),
             "table"_a.noconvert());
  module.def("has_gradients", has_gradients, "narrow"_a);
  module.def("weight_gradients", weight_gradients, "kind"_a, "threads"_a, "padded_units"_a, "dgates"_a.noconvert(),
             "hs"_a.noconvert(), "dweight_h"_a.noconvert(), "xs"_a.noconvert().none(), "dweight_x"_a.noconvert().none());
  module.def("input_gradients", input_gradients, "kind"_a, "threads"_a, "dgates"_a.noconvert(), "weight_back"_a.noconvert(),
             "dinputs"_a.noconvert());
  module.def("layer_forward", layer_forward, "kind"_a, "threads"_a, "parts"_a, "xs"_a.noconvert().none(), "weight_x"_a.noconvert().none(),
             "ids"_a.noconvert().none(), "table"_a.noconvert().none(), "weight_h"_a.noconvert(), "bias"_a.noconvert(),
             "resets"_a.noconvert().none(), "h_first"_a.noconvert(), "c_first"_a.noconvert().none(),
             "mask"_a.noconvert().none(), "below"_a.noconvert().none(), "hs"_a.noconvert(),
             "saved"_a.noconvert().none(), "ys"_a.noconvert(), "h_last"_a.noconvert(), "c_last"_a.noconvert().none());
  module.def("layer_backward", layer_backward, "kind"_a, "threads"_a, "weight_back"_a.noconvert(),
             "resets"_a.noconvert().none(), "saved"_a.noconvert(), "mask"_a.noconvert().none(), "dys"_a.noconvert(), "dh_last"_a.noconvert(),
             "dc_last"_a.noconvert().none(), "ids"_a.noconvert().none(), "dtable"_a.noconvert().none(),
             "dbelow"_a.noconvert().none(), "dgates"_a.noconvert(), "dbias"_a.noconvert(),
             "dh_first"_a.noconvert(), "dc_first"_a.noconvert().none());
}

}  // namespace unrolled
