// What optimisers do to weights, for Python.
#include <nanobind/stl/vector.h>

#include <cmath>
#include <numeric>

#include "border.hpp"
#include "kernels.hpp"
#include "processor.hpp"

namespace unrolled {

namespace {

using namespace nb::literals;

using Arrays = std::vector<Array>;

constexpr long kLargestSquare = 4096;

std::size_t size_of(const Array& array, const char* name) {
  require(is(array, Number::kFloat32), (std::string(name) + " must be contiguous float32.").c_str());
  return array.size();
}

// The numbers of some arrays, each as many as the weight of its place has.
std::vector<float*> alike(const Arrays& arrays, const char* name, const Arrays& weights) {
  require(arrays.size() == weights.size(), (std::string(name) + " must be as many as the weights.").c_str());
  std::vector<float*> found;
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    require(size_of(arrays[i], name) == size_of(weights[i], "weights"),
            (std::string(name) + " must have as many numbers as their weights.").c_str());
    found.push_back(static_cast<float*>(arrays[i].data()));
  }
  return found;
}

double length(const Arrays& arrays, int threads) {
  check_threads(threads);
  std::vector<const float*> values;
  std::vector<std::size_t> sizes;
  for (const Array& array : arrays) {
    sizes.push_back(size_of(array, "arrays"));
    values.push_back(static_cast<const float*>(array.data()));
  }
  nb::gil_scoped_release release;
  std::size_t pieces = 0;
  for (std::size_t size : sizes) pieces += (size + kPiece - 1) / kPiece;
  std::vector<double> sums(pieces);
  kernels().squares(threads, static_cast<int>(values.size()), values.data(), sizes.data(), sums.data());
  double total = 0.0;
  for (double sum : sums) total += sum;
  return std::sqrt(total);
}

void adamw(const Arrays& weights, const Arrays& gradients, const Arrays& means, const Arrays& squares,
           const std::vector<double>& steps, const std::vector<double>& decays, double rate, double beta_mean,
           double beta_square, double epsilon, double scale, int threads) {
  check_threads(threads);
  require(steps.size() == weights.size() && decays.size() == weights.size(), "Each weight needs its step and its decay.");
  const std::vector<float*> to = alike(weights, "weights", weights), from = alike(gradients, "gradients", weights);
  const std::vector<float*> mean = alike(means, "means", weights), square = alike(squares, "squares", weights);
  std::vector<Moved> moved;
  for (std::size_t i = 0; i < to.size(); ++i)
    moved.push_back({to[i], from[i], mean[i], square[i], weights[i].size(), static_cast<float>(decays[i]),
                     static_cast<float>(1.0 - std::pow(beta_mean, steps[i])),
                     static_cast<float>(1.0 - std::pow(beta_square, steps[i]))});
  const AdamW a{threads, static_cast<int>(moved.size()), moved.data(), static_cast<float>(rate), static_cast<float>(beta_mean),
                static_cast<float>(beta_square), static_cast<float>(epsilon), static_cast<float>(scale)};
  nb::gil_scoped_release release;
  kernels().adamw(a);
}

bool has_polar(long size) { return kernels().polar != nullptr && size > 0 && size % 32 == 0 && size <= kLargestSquare; }

Polar polar_of(long squares, long size, const Array& coefficients, float margin, int threads) {
  require(has_polar(size), "This processor has no such kernel, or the size is no multiple of 32.");
  require(squares >= 0 && squares < kLargest, "There are too many squares.");
  check_threads(threads);
  Polar a{};
  a.coefficients = static_cast<const float*>(numbers(coefficients, "coefficients", Number::kFloat32, {-1, 3}));
  a.steps = static_cast<int>(coefficients.shape(0));
  a.squares = static_cast<int>(squares);
  a.size = static_cast<int>(size);
  a.margin = margin;
  a.threads = threads;
  return a;
}

void polar(const Array& squares, const Array& coefficients, float margin, const Array& to, int threads) {
  const auto* from = static_cast<const float*>(numbers(squares, "squares", Number::kFloat32, {-1, -1, -1}));
  const long count = static_cast<long>(squares.shape(0)), size = static_cast<long>(squares.shape(1));
  Polar a = polar_of(count, size, coefficients, margin, threads);
  numbers(squares, "squares", Number::kFloat32, {count, size, size});
  a.from = from;
  a.to = numbers(to, "to", Number::kBfloat16, {count, size, size});
  nb::gil_scoped_release release;
  kernels().polar(a);
}

// Where each square of some arrays begins, one array after the other.
std::vector<float*> squares_in(const Arrays& arrays, const char* name, long size) {
  require(has_polar(size), "This processor has no such kernel, or the size is no multiple of 32.");
  const std::size_t apart = static_cast<std::size_t>(size) * size;
  std::vector<float*> found;
  for (const Array& array : arrays) {
    require(size_of(array, name) % apart == 0, (std::string(name) + " must be made of squares of that size.").c_str());
    for (std::size_t at = 0; at < array.size(); at += apart) found.push_back(static_cast<float*>(array.data()) + at);
  }
  return found;
}

void muon(const Arrays& weights, const Arrays& gradients, const Arrays& means, long size, const Array& coefficients,
          float margin, double scale, double momentum, double decay, double rate, int threads) {
  alike(gradients, "gradients", weights);
  alike(means, "means", weights);
  const std::vector<float*> to = squares_in(weights, "weights", size), mean = squares_in(means, "means", size);
  const std::vector<float*> from = squares_in(gradients, "gradients", size);
  const Muon a{polar_of(static_cast<long>(to.size()), size, coefficients, margin, threads),
               from.data(), mean.data(), to.data(), static_cast<float>(scale),
               static_cast<float>(momentum), static_cast<float>(1.0 - decay), static_cast<float>(rate)};
  nb::gil_scoped_release release;
  kernels().muon(a);
}

void directions(const Arrays& gradients, const Arrays& means, long size, const Array& coefficients, float margin, double scale,
                double momentum, const Array& to, int threads) {
  alike(means, "means", gradients);
  const std::vector<float*> from = squares_in(gradients, "gradients", size), mean = squares_in(means, "means", size);
  const long count = static_cast<long>(from.size());
  Polar polar = polar_of(count, size, coefficients, margin, threads);
  polar.to = numbers(to, "to", Number::kBfloat16, {count, size, size});
  const Muon a{polar, from.data(), mean.data(), nullptr, static_cast<float>(scale), static_cast<float>(momentum), 1.0f, 0.0f};
  nb::gil_scoped_release release;
  kernels().muon(a);
}

// `directions` holds the directions of all weights, one after the other.
void turn(const Arrays& weights, const Array& directions, double decay, double rate, int threads) {
  check_threads(threads);
  require(kernels().turn != nullptr, "This processor has no such kernel.");
  const std::vector<float*> to = alike(weights, "weights", weights);
  std::vector<std::size_t> sizes;
  for (const Array& weight : weights) sizes.push_back(weight.size());
  const long total = static_cast<long>(std::accumulate(sizes.begin(), sizes.end(), std::size_t{0}));
  const auto* next = static_cast<const char*>(numbers(directions, "directions", Number::kBfloat16, {total}));
  std::vector<const void*> from;
  for (std::size_t size : sizes) {
    from.push_back(next);
    next += 2 * size;
  }
  const Turn a{threads, static_cast<int>(to.size()), to.data(), sizes.data(), from.data(),
               static_cast<float>(1.0 - decay), static_cast<float>(-rate)};
  nb::gil_scoped_release release;
  kernels().turn(a);
}

}  // namespace

void bind_update(nb::module_& module) {
  module.def("length", length, "arrays"_a.noconvert(), "threads"_a);
  module.def("adamw", adamw, "weights"_a.noconvert(), "gradients"_a.noconvert(), "means"_a.noconvert(), "squares"_a.noconvert(), "steps"_a, "decays"_a, "rate"_a,
             "beta_mean"_a, "beta_square"_a, "epsilon"_a, "scale"_a, "threads"_a);
  module.def("has_polar", has_polar, "size"_a);
  module.def("polar", polar, "squares"_a.noconvert(), "coefficients"_a.noconvert(), "margin"_a, "to"_a.noconvert(),
             "threads"_a);
  module.def("muon", muon, "weights"_a.noconvert(), "gradients"_a.noconvert(), "means"_a.noconvert(), "size"_a, "coefficients"_a.noconvert(), "margin"_a,
             "scale"_a, "momentum"_a, "decay"_a, "rate"_a, "threads"_a);
  module.def("directions", directions, "gradients"_a.noconvert(), "means"_a.noconvert(), "size"_a, "coefficients"_a.noconvert(),
             "margin"_a, "scale"_a, "momentum"_a, "to"_a.noconvert(), "threads"_a);
  module.def("turn", turn, "weights"_a.noconvert(), "directions"_a.noconvert(), "decay"_a, "rate"_a, "threads"_a);
}

}  // namespace unrolled
