// The layer's kernels for Python: shapes are checked here, and nowhere below.
#include "bindings/arguments.hpp"
#include "isa/cpu_features.hpp"
#include "isa/kernel_table.hpp"

namespace unrolled {

namespace {

using namespace nb::literals;

// The number of row slices: one for each thread where every thread has a part of the batch and the weights fit its
// cache (512 KiB of the 1 to 2 MiB that a core has), otherwise one, and the threads divide the units.
int row_slice_count(int kind, long rows, long units, int threads, bool bfloat16) {
  const long bytes =
      gate_count(kind) * static_cast<long>(round_up(units, 32)) * round_up(units, 32) * (bfloat16 ? 2 : 4);
  return threads > 1 && batch_parts(static_cast<int>(rows)).count >= threads && bytes <= 1L << 19 ? threads : 1;
}

LayerShape make_shape(int kind, long steps, long rows, long units, int threads, int row_slices = 1) {
  require(kind >= kRNN && kind <= kLSTM, "kind must be 0 (RNN), 1 (GRU) or 2 (LSTM).");
  require(steps >= 1 && steps < kMaxSize && rows >= 1 && rows < kMaxSize && units >= 1 && units < kMaxSize,
          "A layer needs at least one step, one row and one unit, and fewer than a million of each.");
  check_threads(threads);
  require(row_slices >= 1 && row_slices <= batch_parts(static_cast<int>(rows)).count,
          "row_slices must be from 1 to the number of parts of the batch.");
  return {
      kind,      static_cast<int>(steps), static_cast<int>(rows), static_cast<int>(units), round_up(units, 32), threads,
      row_slices};
}

DType saved_dtype(const Array& array) { return has_dtype(array, DType::kBfloat16) ? DType::kHalf : DType::kFloat32; }

void check_ids(const int64_t* ids, size_t count, long vocab_size) {
  for (size_t i = 0; i < count; ++i) require(ids[i] >= 0 && ids[i] < vocab_size, "ids must be rows of the table.");
}

void pack_forward(int kind, const Array& weight, const Array& to, long units, int threads) {
  const LayerShape shape = make_shape(kind, 1, 1, units, threads);
  const int gates = gate_count(kind);
  const auto* from = static_cast<const float*>(checked_data(weight, "weight", DType::kFloat32, {gates * units, -1}));
  const int depth = static_cast<int>(weight.shape(1)), padded = round_up(depth, 32);
  void* packed = checked_data(to, "packed", kernel_dtype(to), {static_cast<long>(shape.groups()) * gates, padded, 16});
  const LayerKernels& kernel_table = layer_kernels_for(to);
  nb::gil_scoped_release release;
  kernel_table.pack_forward(shape, from, depth, padded, packed);
}

void pack_backward(int kind, const Array& weight, const Array& to, long units, bool is_hidden, int threads) {
  const LayerShape shape = make_shape(kind, 1, 1, units, threads);
  const long gates = gate_count(kind);
  const auto* from = static_cast<const float*>(checked_data(weight, "weight", DType::kFloat32, {gates * units, -1}));
  const long columns = static_cast<long>(weight.shape(1));
  require(columns >= 1 && columns < kMaxSize, "weight must have columns, fewer than a million.");
  void* packed =
      checked_data(to, "packed", kernel_dtype(to), {round_up(columns, 32) / 16, gates * shape.padded_units, 16});
  const LayerKernels& kernel_table = layer_kernels_for(to);
  nb::gil_scoped_release release;
  kernel_table.pack_backward(shape, from, static_cast<int>(columns), is_hidden, packed);
}

void layer_forward(int kind, int threads, int row_slices, const OptionalArray& xs, const OptionalArray& weight_ih,
                   const OptionalArray& ids, const OptionalArray& table, const Array& weight_hh, const Array& bias,
                   const OptionalArray& resets, const Array& h_0, const OptionalArray& c_0,
                   const OptionalArray& dropout_mask, const OptionalArray& residual, const Array& hs,
                   const OptionalArray& saved_activations, const Array& ys, const Array& h_n,
                   const OptionalArray& c_n) {
  require(ys.ndim() == 3 && hs.ndim() == 3, "ys and hs must have three axes.");
  const long steps = ys.shape(0), rows = ys.shape(1), units = ys.shape(2);
  const LayerShape s = make_shape(kind, steps, rows, units, threads, row_slices);
  const DType type = kernel_dtype(hs);
  const long gates = gate_count(kind), tiles = s.groups() * gates;
  LayerForward a{};
  a.shape = s;
  require(xs.has_value() != ids.has_value() && xs.has_value() == weight_ih.has_value() &&
              ids.has_value() == table.has_value(),
          "A layer reads either xs, with weight_ih, or ids of a table.");
  if (xs) {
    a.xs = checked_data(xs, "xs", type, {steps, rows, -1});
    a.xs_stride = xs->shape(2);
    a.weight_ih = checked_data(weight_ih, "weight_ih", type, {tiles, -1, 16});
    require(weight_ih->shape(1) % 32 == 0 && weight_ih->shape(1) <= a.xs_stride,
            "weight_ih must be as deep as xs is wide.");
    a.padded_inputs = static_cast<int>(weight_ih->shape(1));
  } else {
    a.ids = static_cast<const int64_t*>(checked_data(ids, "ids", DType::kInt64, {steps, rows}));
    a.table = static_cast<const float*>(checked_data(table, "table", DType::kFloat32, {-1, gates, s.padded_units}));
    check_ids(a.ids, static_cast<size_t>(steps) * rows, static_cast<long>(table->shape(0)));
  }
  a.weight_hh = checked_data(weight_hh, "weight_hh", type, {tiles, s.padded_units, 16});
  a.bias =
      static_cast<const float*>(checked_data(bias, "bias", DType::kFloat32, {gates + (kind == kGRU), s.padded_units}));
  a.resets = static_cast<const uint8_t*>(checked_data(resets, "resets", DType::kByte, {steps, rows}));
  a.h_0 = static_cast<const float*>(checked_data(h_0, "h_0", DType::kFloat32, {rows, units}));
  a.h_n = static_cast<float*>(checked_data(h_n, "h_n", DType::kFloat32, {rows, units}));
  require((kind == kLSTM) == c_0.has_value() && (kind == kLSTM) == c_n.has_value(), "An LSTM, and only that, has a c.");
  a.c_0 = static_cast<const float*>(checked_data(c_0, "c_0", DType::kFloat32, {rows, units}));
  a.c_n = static_cast<float*>(checked_data(c_n, "c_n", DType::kFloat32, {rows, units}));
  a.dropout_mask =
      static_cast<const float*>(checked_data(dropout_mask, "dropout_mask", DType::kFloat32, {rows, units}));
  const long below_rows = ids ? static_cast<long>(table->shape(0)) : steps * rows;
  a.residual = static_cast<const float*>(checked_data(residual, "residual", DType::kFloat32, {below_rows, units}));
  a.hs = checked_data(hs, "hs", type, {steps + 1, rows, -1});
  a.hs_stride = hs.shape(2);
  require(a.hs_stride >= static_cast<size_t>(s.padded_units), "hs must have room for the padded units.");
  a.saved_activations = checked_data(saved_activations, "saved_activations", saved_dtype(hs),
                                     {steps, s.groups(), rows, saved_count(kind), 16});
  a.ys = static_cast<float*>(checked_data(ys, "ys", DType::kFloat32, {steps, rows, units}));
  const LayerKernels& kernel_table = layer_kernels_for(hs);
  nb::gil_scoped_release release;
  kernel_table.forward(a);
}

void layer_backward(int kind, int threads, int row_slices, const Array& weight_transposed, const OptionalArray& resets,
                    const Array& saved_activations, const OptionalArray& dropout_mask, const Array& dys,
                    const Array& dh_n, const OptionalArray& dc_n, const OptionalArray& ids, const OptionalArray& dtable,
                    const OptionalArray& dresidual, const Array& dgates, const Array& dbias, const Array& dh_0,
                    const OptionalArray& dc_0) {
  require(dys.ndim() == 3 && dgates.ndim() == 3 && dbias.ndim() == 3, "dys, dgates and dbias must have three axes.");
  const long steps = dys.shape(0), rows = dys.shape(1), units = dys.shape(2);
  const LayerShape s = make_shape(kind, steps, rows, units, threads, row_slices);
  const long parts = s.parts().count;
  const DType type = kernel_dtype(dgates);
  const long gates = gate_count(kind), blocks = grad_block_count(kind);
  LayerBackward a{};
  a.shape = s;
  a.weight_transposed =
      checked_data(weight_transposed, "weight_transposed", type, {s.groups(), gates * s.padded_units, 16});
  a.resets = static_cast<const uint8_t*>(checked_data(resets, "resets", DType::kByte, {steps, rows}));
  a.saved_activations = checked_data(saved_activations, "saved_activations", saved_dtype(dgates),
                                     {steps, s.groups(), rows, saved_count(kind), 16});
  a.dropout_mask =
      static_cast<const float*>(checked_data(dropout_mask, "dropout_mask", DType::kFloat32, {rows, units}));
  a.dys = static_cast<const float*>(checked_data(dys, "dys", DType::kFloat32, {steps, rows, units}));
  a.dh_n = static_cast<const float*>(checked_data(dh_n, "dh_n", DType::kFloat32, {rows, units}));
  a.dh_0 = static_cast<float*>(checked_data(dh_0, "dh_0", DType::kFloat32, {rows, units}));
  require((kind == kLSTM) == dc_0.has_value() && (kind == kLSTM) == dc_n.has_value(),
          "An LSTM, and only that, has a c.");
  a.dc_n = static_cast<const float*>(checked_data(dc_n, "dc_n", DType::kFloat32, {rows, units}));
  a.dc_0 = static_cast<float*>(checked_data(dc_0, "dc_0", DType::kFloat32, {rows, units}));
  require(ids.has_value() == dtable.has_value(), "ids and dtable go together.");
  require(ids.has_value() || !dresidual.has_value(), "dresidual needs ids.");
  if (ids) {
    a.ids = static_cast<const int64_t*>(checked_data(ids, "ids", DType::kInt64, {steps, rows}));
    a.dtable = static_cast<float*>(checked_data(dtable, "dtable", DType::kFloat32, {parts, -1, gates, s.padded_units}));
    a.vocab_size = dtable->shape(1);
    check_ids(a.ids, static_cast<size_t>(steps) * rows, static_cast<long>(a.vocab_size));
    const long vocab_size = static_cast<long>(a.vocab_size);
    a.dresidual =
        static_cast<float*>(checked_data(dresidual, "dresidual", DType::kFloat32, {parts, vocab_size, s.padded_units}));
  }
  a.dgates = checked_data(dgates, "dgates", type, {steps, rows, -1});
  a.dgates_stride = dgates.shape(2);
  require(a.dgates_stride >= static_cast<size_t>(blocks) * s.padded_units, "dgates must have room for all gates.");
  a.dbias = static_cast<float*>(checked_data(dbias, "dbias", DType::kFloat32, {parts, blocks, s.padded_units}));
  const LayerKernels& kernel_table = layer_kernels_for(dgates);
  nb::gil_scoped_release release;
  kernel_table.backward(a);
}

void input_products(int kind, int threads, const Array& xs, const Array& weight_ih, const Array& table) {
  require(table.ndim() == 3 && xs.ndim() == 2, "table must have three axes, and xs two.");
  require(kind >= kRNN && kind <= kLSTM && table.shape(2) % 32 == 0, "kind or table are not right.");
  InputProducts a{};
  a.shape = make_shape(kind, 1, static_cast<long>(table.shape(0)), static_cast<long>(table.shape(2)), threads);
  const long gates = gate_count(kind);
  a.xs = checked_data(xs, "xs", kernel_dtype(xs), {a.shape.rows, -1});
  a.xs_stride = xs.shape(1);
  a.weight_ih = checked_data(weight_ih, "weight_ih", kernel_dtype(xs), {a.shape.groups() * gates, -1, 16});
  require(weight_ih.shape(1) % 32 == 0 && weight_ih.shape(1) <= a.xs_stride,
          "weight_ih must be as deep as xs is wide.");
  a.padded_inputs = static_cast<int>(weight_ih.shape(1));
  a.table =
      static_cast<float*>(checked_data(table, "table", DType::kFloat32, {a.shape.rows, gates, a.shape.padded_units}));
  const LayerKernels& kernel_table = layer_kernels_for(xs);
  nb::gil_scoped_release release;
  kernel_table.input_products(a);
}

GradSource grad_source(const Array& values, const Array& gradient, const char* name, DType type, long rows, int first,
                       int last) {
  const auto* from = checked_data(values, name, type, {-1, -1, -1});
  require(static_cast<long>(values.shape(0) * values.shape(1)) >= rows, "A source must have as many rows as dgates.");
  auto* packed = static_cast<float*>(checked_data(gradient, "gradient", DType::kFloat32, {last - first, -1}));
  const std::size_t width = gradient.shape(1);
  require(width % 32 == 0 && width > 0 && width <= values.shape(2), "A gradient must be as wide as its source, to 32.");
  return {from, values.shape(2), width, first, last, packed};
}

void weight_gradients(int kind, int threads, long padded_units, const Array& dgates, const Array& hs,
                      const Array& dweight_hh, const OptionalArray& xs, const OptionalArray& dweight_ih) {
  const LayerKernels& kernel_table = layer_kernels_for(dgates);
  const DType type = kernel_dtype(dgates);
  require(kind >= kRNN && kind <= kLSTM && threads >= 1 && threads <= 1024, "kind or threads are not right.");
  require(padded_units > 0 && padded_units % 32 == 0 && padded_units < kMaxSize,
          "padded_units must be a multiple of 32.");
  const int units = static_cast<int>(padded_units), gates = gate_count(kind), blocks = grad_block_count(kind);
  WeightGradients a{};
  a.threads = threads;
  a.dgates = checked_data(dgates, "dgates", type, {-1, -1, -1});
  a.rows = dgates.shape(0) * dgates.shape(1);
  a.dgates_stride = dgates.shape(2);
  require(a.dgates_stride >= static_cast<std::size_t>(blocks) * units, "dgates must have room for all gates.");
  const long rows = static_cast<long>(a.rows);
  a.sources[a.source_count++] = grad_source(hs, dweight_hh, "hs", type, rows, 0, gates * units);
  require(xs.has_value() == dweight_ih.has_value(), "xs and dweight_ih go together.");
  if (xs)
    a.sources[a.source_count++] =
        grad_source(*xs, *dweight_ih, "xs", type, rows, (blocks - gates) * units, blocks * units);
  nb::gil_scoped_release release;
  kernel_table.weight_gradients(a);
}

void input_gradients(int kind, int threads, const Array& dgates, const Array& weight_transposed, const Array& dinputs) {
  const LayerKernels& kernel_table = layer_kernels_for(dgates);
  const DType type = kernel_dtype(dgates);
  require(kind >= kRNN && kind <= kLSTM && threads >= 1 && threads <= 1024, "kind or threads are not right.");
  InputGradients a{};
  a.threads = threads;
  a.dgates = checked_data(dgates, "dgates", type, {-1, -1, -1});
  a.rows = dgates.shape(0) * dgates.shape(1);
  a.dgates_stride = dgates.shape(2);
  a.weight_transposed = checked_data(weight_transposed, "weight_transposed", type, {-1, -1, 16});
  a.depth = static_cast<int>(weight_transposed.shape(1));
  a.first = a.depth / gate_count(kind) * (grad_block_count(kind) - gate_count(kind));
  a.width = weight_transposed.shape(0) * 16;
  require(a.depth % 32 == 0 && weight_transposed.shape(0) % 2 == 0, "Widths must be padded.");
  require(static_cast<std::size_t>(a.first + a.depth) <= a.dgates_stride,
          "weight_transposed must be as deep as dgates.");
  a.dinputs = static_cast<float*>(checked_data(
      dinputs, "dinputs", DType::kFloat32,
      {static_cast<long>(dgates.shape(0)), static_cast<long>(dgates.shape(1)), static_cast<long>(a.width)}));
  nb::gil_scoped_release release;
  kernel_table.input_gradients(a);
}

}  // namespace

void bind_layer(nb::module_& module) {
  module.def("batch_parts", [](int rows) { return batch_parts(rows).count; }, "rows"_a);
  module.def("step_parts", [](int rows) { return step_parts(rows).count; }, "rows"_a);
  module.def("row_slice_count", row_slice_count, "kind"_a, "rows"_a, "units"_a, "threads"_a, "bfloat16"_a);
  module.def("pack_forward", pack_forward, "kind"_a, "weight"_a.noconvert(), "packed"_a.noconvert(), "units"_a,
             "threads"_a);
  module.def("pack_backward", pack_backward, "kind"_a, "weight"_a.noconvert(), "packed"_a.noconvert(), "units"_a,
             "is_hidden"_a, "threads"_a);
  module.def("input_products", input_products, "kind"_a, "threads"_a, "xs"_a.noconvert(), "weight_ih"_a.noconvert(),
             "table"_a.noconvert());
  module.def("weight_gradients", weight_gradients, "kind"_a, "threads"_a, "padded_units"_a, "dgates"_a.noconvert(),
             "hs"_a.noconvert(), "dweight_hh"_a.noconvert(), "xs"_a.noconvert().none(),
             "dweight_ih"_a.noconvert().none());
  module.def("input_gradients", input_gradients, "kind"_a, "threads"_a, "dgates"_a.noconvert(),
             "weight_transposed"_a.noconvert(), "dinputs"_a.noconvert());
  module.def("layer_forward", layer_forward, "kind"_a, "threads"_a, "row_slices"_a, "xs"_a.noconvert().none(),
             "weight_ih"_a.noconvert().none(), "ids"_a.noconvert().none(), "table"_a.noconvert().none(),
             "weight_hh"_a.noconvert(), "bias"_a.noconvert(), "resets"_a.noconvert().none(), "h_0"_a.noconvert(),
             "c_0"_a.noconvert().none(), "dropout_mask"_a.noconvert().none(), "residual"_a.noconvert().none(),
             "hs"_a.noconvert(), "saved_activations"_a.noconvert().none(), "ys"_a.noconvert(), "h_n"_a.noconvert(),
             "c_n"_a.noconvert().none());
  module.def("layer_backward", layer_backward, "kind"_a, "threads"_a, "row_slices"_a, "weight_transposed"_a.noconvert(),
             "resets"_a.noconvert().none(), "saved_activations"_a.noconvert(), "dropout_mask"_a.noconvert().none(),
             "dys"_a.noconvert(), "dh_n"_a.noconvert(), "dc_n"_a.noconvert().none(), "ids"_a.noconvert().none(),
             "dtable"_a.noconvert().none(), "dresidual"_a.noconvert().none(), "dgates"_a.noconvert(),
             "dbias"_a.noconvert(), "dh_0"_a.noconvert(), "dc_0"_a.noconvert().none());
}

}  // namespace unrolled
