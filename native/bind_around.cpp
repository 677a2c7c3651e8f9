// What is around the layers of a model, for Python: normalisation before them, and scores with their loss behind.
#include "border.hpp"
#include "kernels.hpp"
#include "processor.hpp"

namespace unrolled {

namespace {

using namespace nb::literals;

template <typename Norm>
void take_sizes(Norm& a, const Array& rows, int threads) {
  require(rows.ndim() == 3, "Rows must have three axes.");
  for (int axis = 0; axis < 3; ++axis)
    require(rows.shape(axis) >= 1 && rows.shape(axis) < kLargest, "An axis must be from 1 to a million long.");
  require(rows.shape(0) * rows.shape(1) < 1UL << 30, "There are too many rows.");
  check_threads(threads);
  a.threads = threads;
  a.rows = rows.shape(0) * rows.shape(1);
  a.units = static_cast<int>(rows.shape(2));
}

float* floats_to(const Array& array, const char* name, std::initializer_list<long> shape) {
  return static_cast<float*>(numbers(array, name, Number::kFloat32, shape));
}

void norm_forward(const Array& from, const Array& weight, const Array& bias, float epsilon, const Array& to,
                  const Array& moments, int threads) {
  NormForward a{};
  take_sizes(a, from, threads);
  const long steps = static_cast<long>(from.shape(0)), rows = static_cast<long>(from.shape(1));
  a.from = floats(from, "from", {steps, rows, a.units});
  a.weight = floats(weight, "weight", {a.units});
  a.bias = floats(bias, "bias", {a.units});
  a.epsilon = epsilon;
  a.moments = floats_to(moments, "moments", {steps, rows, 2});
  a.to = numbers(to, "to", type_of(to), {steps, rows, -1});
  a.stride = to.shape(2);
  require(a.stride % 16 == 0 && a.stride >= static_cast<std::size_t>(rounded_up(a.units, 16)), "to must have room for 16s.");
  const LayerKernels& use = kernels_for(to);
  nb::gil_scoped_release release;
  use.norm_forward(a);
}

void norm_backward(const Array& from, const Array& moments, const Array& weight, const Array& dto, const Array& dys,
                   const Array& dfrom, const Array& dweights) {
  require(dweights.ndim() == 3, "dweights must have three axes.");
  NormBackward a{};
  take_sizes(a, from, static_cast<int>(dweights.shape(0)));
  const long steps = static_cast<long>(from.shape(0)), rows = static_cast<long>(from.shape(1));
  a.from = floats(from, "from", {steps, rows, a.units});
  a.moments = floats(moments, "moments", {steps, rows, 2});
  a.weight = floats(weight, "weight", {a.units});
  a.dto = floats(dto, "dto", {steps, rows, -1});
  a.stride = dto.shape(2);
  require(a.stride >= static_cast<std::size_t>(a.units), "dto must be as wide as its rows.");
  a.dys = floats(dys, "dys", {steps, rows, a.units});
  a.dfrom = floats_to(dfrom, "dfrom", {steps, rows, a.units});
  a.dweights = floats_to(dweights, "dweights", {a.threads, 2, a.units});
  nb::gil_scoped_release release;
  kernels().float32.norm_backward(a);
}

void check_targets(const int64_t* targets, std::size_t rows, long symbols) {
  for (std::size_t row = 0; row < rows; ++row) require(targets[row] < symbols, "A target is not among the symbols.");
}

void head(const Array& xs, const Array& weight, const Array& weight_back, const Array& bias, const Array& targets, long symbols,
          float scale, const Array& narrowed, const Array& dscores, const Array& losses, const Array& dxs,
          const Array& dbias) {
  require(xs.ndim() == 2 && dbias.ndim() == 2 && xs.shape(0) >= 1 && xs.shape(1) >= 1 && xs.shape(1) < kLargest,
          "xs must be rows of numbers, and dbias must have two axes.");
  require(symbols >= 1 && symbols < kLargest && xs.shape(0) < 1UL << 30, "There are no symbols, or too many.");
  require(dbias.shape(0) >= 1 && dbias.shape(0) <= 1024, "dbias must have a row for each thread.");
  Head a{};
  const long rows = static_cast<long>(xs.shape(0)), units = static_cast<long>(xs.shape(1));
  const Number type = type_of(narrowed);
  a.threads = static_cast<int>(dbias.shape(0));
  a.rows = xs.shape(0);
  a.units = static_cast<int>(units);
  a.padded_units = rounded_up(units, 32);
  a.symbols = static_cast<int>(symbols);
  a.padded_symbols = rounded_up(symbols, 32);
  a.xs = floats(xs, "xs", {rows, units});
  a.weight = numbers(weight, "weight", type, {a.padded_symbols / 16, a.padded_units, 16});
  a.weight_back = numbers(weight_back, "weight_back", type, {a.padded_units / 16, a.padded_symbols, 16});
  a.bias = floats(bias, "bias", {a.padded_symbols});
  a.targets = static_cast<const int64_t*>(numbers(targets, "targets", Number::kInt64, {rows}));
  check_targets(a.targets, a.rows, symbols);
  a.scale = scale;
  a.narrowed = numbers(narrowed, "narrowed", type, {rows, -1});
  a.stride_x = narrowed.shape(1);
  a.dscores = numbers(dscores, "dscores", type, {rows, -1});
  a.stride_d = dscores.shape(1);
  require(a.stride_x >= static_cast<std::size_t>(a.padded_units) && a.stride_d >= static_cast<std::size_t>(a.padded_symbols),
          "narrowed and dscores must have room for padded rows.");
  a.losses = floats_to(losses, "losses", {rows});
  a.dxs = floats_to(dxs, "dxs", {rows, units});
  a.dbias = floats_to(dbias, "dbias", {a.threads, a.padded_symbols});
  const LayerKernels& use = kernels_for(narrowed);
  nb::gil_scoped_release release;
  use.head(a);
}

}  // namespace

void bind_around(nb::module_& module) {
  module.def("norm_forward", norm_forward, "from_"_a.noconvert(), "weight"_a.noconvert(), "bias"_a.noconvert(), "epsilon"_a,
             "to"_a.noconvert(), "moments"_a.noconvert(), "threads"_a);
  module.def("norm_backward", norm_backward, "from_"_a.noconvert(), "moments"_a.noconvert(), "weight"_a.noconvert(),
             "dto"_a.noconvert(), "dys"_a.noconvert(), "dfrom"_a.noconvert(), "dweights"_a.noconvert());
  module.def("head", head, "xs"_a.noconvert(), "weight"_a.noconvert(), "weight_back"_a.noconvert(), "bias"_a.noconvert(),
             "targets"_a.noconvert(), "symbols"_a, "scale"_a, "narrowed"_a.noconvert(), "dscores"_a.noconvert(),
             "losses"_a.noconvert(), "dxs"_a.noconvert(), "dbias"_a.noconvert());
}

}  // namespace unrolled
