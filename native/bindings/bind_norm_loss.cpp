// Python bindings: LayerNorm, and the output layer with its cross-entropy.
#include "bindings/arguments.hpp"
#include "isa/cpu_features.hpp"
#include "isa/kernel_table.hpp"

namespace unrolled {

namespace {

using namespace nb::literals;

template <typename Norm>
void set_sizes(Norm& a, const Array& rows, int threads) {
  require(rows.ndim() == 3, "Rows must have three axes.");
  for (int axis = 0; axis < 3; ++axis)
    require(rows.shape(axis) >= 1 && rows.shape(axis) < kMaxSize, "An axis must be from 1 to a million long.");
  require(rows.shape(0) * rows.shape(1) < 1UL << 30, "There are too many rows.");
  check_threads(threads);
  a.threads = threads;
  a.rows = rows.shape(0) * rows.shape(1);
  a.units = static_cast<int>(rows.shape(2));
}

float* mutable_float_data(const Array& array, const char* name, std::initializer_list<long> shape) {
  return static_cast<float*>(checked_data(array, name, DType::kFloat32, shape));
}

void norm_forward(const Array& input, const Array& weight, const Array& bias, float epsilon, const Array& output,
                  const Array& moments, int threads) {
  NormForward a{};
  set_sizes(a, input, threads);
  const long steps = static_cast<long>(input.shape(0)), rows = static_cast<long>(input.shape(1));
  a.input = float_data(input, "input", {steps, rows, a.units});
  a.weight = float_data(weight, "weight", {a.units});
  a.bias = float_data(bias, "bias", {a.units});
  a.epsilon = epsilon;
  a.moments = mutable_float_data(moments, "moments", {steps, rows, 2});
  a.output = checked_data(output, "output", kernel_dtype(output), {steps, rows, -1});
  a.stride = output.shape(2);
  require(a.stride % 16 == 0 && a.stride >= static_cast<std::size_t>(round_up(a.units, 16)),
          "output must have room for tiles of 16.");
  const LayerKernels& kernel_table = layer_kernels_for(output);
  nb::gil_scoped_release release;
  kernel_table.norm_forward(a);
}

void norm_backward(const Array& input, const Array& moments, const Array& weight, const Array& doutput,
                   const Array& dys, const Array& dinput, const Array& dweights, int threads) {
  NormBackward a{};
  set_sizes(a, input, threads);
  const long steps = static_cast<long>(input.shape(0)), rows = static_cast<long>(input.shape(1));
  a.input = float_data(input, "input", {steps, rows, a.units});
  a.moments = float_data(moments, "moments", {steps, rows, 2});
  a.weight = float_data(weight, "weight", {a.units});
  a.doutput = float_data(doutput, "doutput", {steps, rows, -1});
  a.stride = doutput.shape(2);
  require(a.stride >= static_cast<std::size_t>(a.units), "doutput must be as wide as its rows.");
  a.dys = float_data(dys, "dys", {steps, rows, a.units});
  a.dinput = mutable_float_data(dinput, "dinput", {steps, rows, a.units});
  a.dweights = mutable_float_data(dweights, "dweights", {step_parts(static_cast<int>(a.rows)).count, 2, a.units});
  nb::gil_scoped_release release;
  kernels().float32.norm_backward(a);
}

void check_targets(const int64_t* targets, std::size_t rows, long vocab_size) {
  for (std::size_t row = 0; row < rows; ++row)
    require(targets[row] < vocab_size, "A target is not a token of the vocabulary.");
}

void linear_cross_entropy(const Array& xs, const Array& weight, const Array& weight_transposed, const Array& bias,
                          const Array& targets, long vocab_size, float scale, const Array& xs_padded,
                          const Array& dlogits, const Array& losses, const Array& dxs, const Array& dbias,
                          int threads) {
  require(xs.ndim() == 2 && xs.shape(0) >= 1 && xs.shape(1) >= 1 && xs.shape(1) < kMaxSize,
          "xs must be rows of numbers.");
  require(vocab_size >= 1 && vocab_size < kMaxSize && xs.shape(0) < 1UL << 30,
          "vocab_size must be at least one, and not too large.");
  check_threads(threads);
  LinearCrossEntropy a{};
  const long rows = static_cast<long>(xs.shape(0)), units = static_cast<long>(xs.shape(1));
  const DType type = kernel_dtype(xs_padded);
  a.threads = threads;
  a.rows = xs.shape(0);
  a.units = static_cast<int>(units);
  a.padded_units = round_up(units, 32);
  a.vocab_size = static_cast<int>(vocab_size);
  a.padded_vocab = round_up(vocab_size, 32);
  a.xs = float_data(xs, "xs", {rows, units});
  a.weight = checked_data(weight, "weight", type, {a.padded_vocab / 16, a.padded_units, 16});
  a.weight_transposed =
      checked_data(weight_transposed, "weight_transposed", type, {a.padded_units / 16, a.padded_vocab, 16});
  a.bias = float_data(bias, "bias", {a.padded_vocab});
  a.targets = static_cast<const int64_t*>(checked_data(targets, "targets", DType::kInt64, {rows}));
  check_targets(a.targets, a.rows, vocab_size);
  a.scale = scale;
  a.xs_padded = checked_data(xs_padded, "xs_padded", type, {rows, -1});
  a.xs_stride = xs_padded.shape(1);
  a.dlogits = checked_data(dlogits, "dlogits", type, {rows, -1});
  a.dlogits_stride = dlogits.shape(1);
  require(a.xs_stride >= static_cast<std::size_t>(a.padded_units) &&
              a.dlogits_stride >= static_cast<std::size_t>(a.padded_vocab),
          "xs_padded and dlogits must have room for padded rows.");
  a.losses = mutable_float_data(losses, "losses", {rows});
  a.dxs = mutable_float_data(dxs, "dxs", {rows, units});
  a.dbias = mutable_float_data(dbias, "dbias", {step_parts(static_cast<int>(rows)).count, a.padded_vocab});
  const LayerKernels& kernel_table = layer_kernels_for(xs_padded);
  nb::gil_scoped_release release;
  kernel_table.linear_cross_entropy(a);
}

}  // namespace

void bind_around(nb::module_& module) {
  module.def("norm_forward", norm_forward, "input"_a.noconvert(), "weight"_a.noconvert(), "bias"_a.noconvert(),
             "epsilon"_a, "output"_a.noconvert(), "moments"_a.noconvert(), "threads"_a);
  module.def("norm_backward", norm_backward, "input"_a.noconvert(), "moments"_a.noconvert(), "weight"_a.noconvert(),
             "doutput"_a.noconvert(), "dys"_a.noconvert(), "dinput"_a.noconvert(), "dweights"_a.noconvert(),
             "threads"_a);
  module.def("linear_cross_entropy", linear_cross_entropy, "xs"_a.noconvert(), "weight"_a.noconvert(),
             "weight_transposed"_a.noconvert(), "bias"_a.noconvert(), "targets"_a.noconvert(), "vocab_size"_a,
             "scale"_a, "xs_padded"_a.noconvert(), "dlogits"_a.noconvert(), "losses"_a.noconvert(), "dxs"_a.noconvert(),
             "dbias"_a.noconvert(), "threads"_a);
}

}  // namespace unrolled
