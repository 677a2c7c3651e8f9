// Python bindings: the optimizers' steps and the norm of a gradient.
#include <nanobind/stl/vector.h>

#include <cmath>
#include <numeric>

#include "bindings/arguments.hpp"
#include "isa/cpu_features.hpp"
#include "isa/kernel_table.hpp"

namespace unrolled {

namespace {

using namespace nb::literals;

using Arrays = std::vector<Array>;

constexpr long kMaxMatrixSize = 4096;

std::size_t size_of(const Array& array, const char* name) {
  require(has_dtype(array, DType::kFloat32), (std::string(name) + " must be contiguous float32.").c_str());
  return array.size();
}

// The numbers of some arrays, each as many as the weight of its place has.
std::vector<float*> same_sizes(const Arrays& arrays, const char* name, const Arrays& weights) {
  require(arrays.size() == weights.size(), (std::string(name) + " must be as many as the weights.").c_str());
  std::vector<float*> found;
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    require(size_of(arrays[i], name) == size_of(weights[i], "weights"),
            (std::string(name) + " must have as many numbers as their weights.").c_str());
    found.push_back(static_cast<float*>(arrays[i].data()));
  }
  return found;
}

double grad_norm(const Arrays& arrays, int threads) {
  check_threads(threads);
  std::vector<const float*> values;
  std::vector<std::size_t> sizes;
  for (const Array& array : arrays) {
    sizes.push_back(size_of(array, "arrays"));
    values.push_back(static_cast<const float*>(array.data()));
  }
  nb::gil_scoped_release release;
  std::size_t chunks = 0;
  for (std::size_t size : sizes) chunks += (size + kOptimBlock - 1) / kOptimBlock;
  std::vector<double> sums(chunks);
  kernels().sum_of_squares(threads, static_cast<int>(values.size()), values.data(), sizes.data(), sums.data());
  double total = 0.0;
  for (double sum : sums) total += sum;
  return std::sqrt(total);
}

void adamw(const Arrays& weights, const Arrays& gradients, const Arrays& means, const Arrays& squares,
           const std::vector<double>& steps, const std::vector<double>& decays, double lr, double beta1, double beta2,
           double epsilon, double scale, int threads) {
  check_threads(threads);
  require(steps.size() == weights.size() && decays.size() == weights.size(),
          "Each weight needs its step and its decay.");
  const std::vector<float*> to = same_sizes(weights, "weights", weights),
                            from = same_sizes(gradients, "gradients", weights);
  const std::vector<float*> mean = same_sizes(means, "means", weights),
                            square = same_sizes(squares, "squares", weights);
  std::vector<AdamWParam> params;
  for (std::size_t i = 0; i < to.size(); ++i)
    params.push_back({to[i], from[i], mean[i], square[i], weights[i].size(), static_cast<float>(decays[i]),
                      static_cast<float>(1.0 - std::pow(beta1, steps[i])),
                      static_cast<float>(1.0 - std::pow(beta2, steps[i]))});
  const AdamW a{threads,
                static_cast<int>(params.size()),
                params.data(),
                static_cast<float>(lr),
                static_cast<float>(beta1),
                static_cast<float>(beta2),
                static_cast<float>(epsilon),
                static_cast<float>(scale)};
  nb::gil_scoped_release release;
  kernels().adamw(a);
}

bool has_polar_express(long size) {
  return kernels().polar_express != nullptr && size > 0 && size % 32 == 0 && size <= kMaxMatrixSize;
}

PolarExpress make_polar_args(long squares, long size, const Array& coefficients, float margin, int threads) {
  require(has_polar_express(size), "This processor has no such kernel, or the size is no multiple of 32.");
  require(squares >= 0 && squares < kMaxSize, "There are too many squares.");
  check_threads(threads);
  PolarExpress a{};
  a.coefficients = static_cast<const float*>(checked_data(coefficients, "coefficients", DType::kFloat32, {-1, 3}));
  a.steps = static_cast<int>(coefficients.shape(0));
  a.matrices = static_cast<int>(squares);
  a.size = static_cast<int>(size);
  a.margin = margin;
  a.threads = threads;
  return a;
}

void polar_express(const Array& squares, const Array& coefficients, float margin, const Array& to, int threads) {
  const auto* from = static_cast<const float*>(checked_data(squares, "squares", DType::kFloat32, {-1, -1, -1}));
  const long count = static_cast<long>(squares.shape(0)), size = static_cast<long>(squares.shape(1));
  PolarExpress a = make_polar_args(count, size, coefficients, margin, threads);
  checked_data(squares, "squares", DType::kFloat32, {count, size, size});
  a.from = from;
  a.to = checked_data(to, "to", DType::kBfloat16, {count, size, size});
  nb::gil_scoped_release release;
  kernels().polar_express(a);
}

// Where each square of some arrays begins, one array after the other.
std::vector<float*> matrices_in(const Arrays& arrays, const char* name, long size) {
  require(has_polar_express(size), "This processor has no such kernel, or the size is no multiple of 32.");
  const std::size_t matrix_size = static_cast<std::size_t>(size) * size;
  std::vector<float*> found;
  for (const Array& array : arrays) {
    require(size_of(array, name) % matrix_size == 0,
            (std::string(name) + " must be made of squares of that size.").c_str());
    for (std::size_t at = 0; at < array.size(); at += matrix_size)
      found.push_back(static_cast<float*>(array.data()) + at);
  }
  return found;
}

void muon(const Arrays& weights, const Arrays& gradients, const Arrays& means, long size, const Array& coefficients,
          float margin, double scale, double momentum, double decay, double lr, int threads) {
  same_sizes(gradients, "gradients", weights);
  same_sizes(means, "means", weights);
  const std::vector<float*> to = matrices_in(weights, "weights", size), mean = matrices_in(means, "means", size);
  const std::vector<float*> from = matrices_in(gradients, "gradients", size);
  const Muon a{make_polar_args(static_cast<long>(to.size()), size, coefficients, margin, threads),
               from.data(),
               mean.data(),
               to.data(),
               static_cast<float>(scale),
               static_cast<float>(momentum),
               static_cast<float>(1.0 - decay),
               static_cast<float>(lr)};
  nb::gil_scoped_release release;
  kernels().muon(a);
}

void muon_directions(const Arrays& gradients, const Arrays& means, long size, const Array& coefficients, float margin,
                     double scale, double momentum, const Array& to, int threads) {
  same_sizes(means, "means", gradients);
  const std::vector<float*> from = matrices_in(gradients, "gradients", size), mean = matrices_in(means, "means", size);
  const long count = static_cast<long>(from.size());
  PolarExpress polar_express = make_polar_args(count, size, coefficients, margin, threads);
  polar_express.to = checked_data(to, "to", DType::kBfloat16, {count, size, size});
  const Muon a{
      polar_express, from.data(), mean.data(), nullptr, static_cast<float>(scale), static_cast<float>(momentum),
      1.0f,          0.0f};
  nb::gil_scoped_release release;
  kernels().muon(a);
}

// `directions` holds the directions of all weights, one after the other.
void apply_updates(const Arrays& weights, const Array& directions, double decay, double lr, int threads) {
  check_threads(threads);
  require(kernels().apply_updates != nullptr, "This processor has no such kernel.");
  const std::vector<float*> weight_data = same_sizes(weights, "weights", weights);
  std::vector<std::size_t> sizes;
  for (const Array& weight : weights) sizes.push_back(weight.size());
  const long total = static_cast<long>(std::accumulate(sizes.begin(), sizes.end(), std::size_t{0}));
  const auto* next = static_cast<const char*>(checked_data(directions, "directions", DType::kBfloat16, {total}));
  std::vector<const void*> direction_data;
  for (std::size_t size : sizes) {
    direction_data.push_back(next);
    next += 2 * size;
  }
  const ApplyUpdates a{threads,
                       static_cast<int>(weight_data.size()),
                       weight_data.data(),
                       sizes.data(),
                       direction_data.data(),
                       static_cast<float>(1.0 - decay),
                       static_cast<float>(-lr)};
  nb::gil_scoped_release release;
  kernels().apply_updates(a);
}

}  // namespace

void bind_update(nb::module_& module) {
  module.def("grad_norm", grad_norm, "arrays"_a.noconvert(), "threads"_a);
  module.def("adamw", adamw, "weights"_a.noconvert(), "gradients"_a.noconvert(), "means"_a.noconvert(),
             "squares"_a.noconvert(), "steps"_a, "decays"_a, "lr"_a, "beta1"_a, "beta2"_a, "epsilon"_a, "scale"_a,
             "threads"_a);
  module.def("has_polar_express", has_polar_express, "size"_a);
  module.def("polar_express", polar_express, "squares"_a.noconvert(), "coefficients"_a.noconvert(), "margin"_a,
             "to"_a.noconvert(), "threads"_a);
  module.def("muon", muon, "weights"_a.noconvert(), "gradients"_a.noconvert(), "means"_a.noconvert(), "size"_a,
             "coefficients"_a.noconvert(), "margin"_a, "scale"_a, "momentum"_a, "decay"_a, "lr"_a, "threads"_a);
  module.def("muon_directions", muon_directions, "gradients"_a.noconvert(), "means"_a.noconvert(), "size"_a,
             "coefficients"_a.noconvert(), "margin"_a, "scale"_a, "momentum"_a, "to"_a.noconvert(), "threads"_a);
  module.def("apply_updates", apply_updates, "weights"_a.noconvert(), "directions"_a.noconvert(), "decay"_a, "lr"_a,
             "threads"_a);
}

}  // namespace unrolled
