// What the processor can do at best, for Python.
#include <chrono>
#include <vector>

#include "border.hpp"
#include "kernels.hpp"
#include "processor.hpp"
#include "step.hpp"
#include "team.hpp"

namespace unrolled {

namespace {

using namespace nb::literals;

// Bytes a second that so many threads read, each its share of `bytes`, over and over: what memory gives to weights.
double memory_rate(std::size_t bytes, int threads, double seconds) {
  require(bytes >= 4096 && bytes <= (std::size_t{1} << 34), "bytes must be from 4,096 to 2^34.");
  check_threads(threads);
  require(seconds > 0 && seconds <= 60, "seconds must be above 0 and up to 60.");
  const auto add = kernels().ceilings.read;
  nb::gil_scoped_release release;
  Memory memory(bytes);
  std::vector<double> rates(static_cast<std::size_t>(threads), 0.0);
  together(threads, [&](const Place& place) {
    using Clock = std::chrono::steady_clock;
    int first, last;
    share(static_cast<int>(bytes / 4096), place, first, last);
    const float* from = memory.as<float>() + static_cast<std::size_t>(first) * 1024;
    const std::size_t count = static_cast<std::size_t>(last - first) * 1024;
    volatile float sum = add(from, count);
    place.barrier.wait();
    const auto start = Clock::now();
    double spent = 0;
    std::size_t rounds = 0;
    while (spent < seconds) {
      for (int i = 0; i < 16; ++i, ++rounds) sum = sum + add(from, count);
      spent = std::chrono::duration<double>(Clock::now() - start).count();
    }
    rates[static_cast<std::size_t>(place.index)] = static_cast<double>(rounds * count * 4) / spent;
  });
  double rate = 0;
  for (double own : rates) rate += own;
  return rate;
}

// Floating-point operations done: products in registers, on so many threads, of float32 or bfloat16 numbers.
double multiply(bool narrow, int threads, int rounds) {
  check_threads(threads);
  require(rounds >= 1, "rounds must be at least 1.");
  const Ceilings& ceilings = kernels().ceilings;
  const auto work = narrow ? ceilings.multiply_narrow : ceilings.multiply;
  require(work != nullptr, "This processor has no products of bfloat16 numbers.");
  nb::gil_scoped_release release;
  std::vector<double> done(static_cast<std::size_t>(threads), 0.0);
  together(threads, [&](const Place& place) {
    alignas(64) float numbers[256] = {};
    work(rounds, numbers);
    done[static_cast<std::size_t>(place.index)] = rounds * (narrow ? ceilings.narrow_operations : ceilings.operations);
  });
  double operations = 0;
  for (double own : done) operations += own;
  return operations;
}

}  // namespace

void bind_ceilings(nb::module_& module) {
  module.def("memory_rate", &memory_rate, "bytes"_a, "threads"_a, "seconds"_a);
  module.def("multiply", &multiply, "narrow"_a, "threads"_a, "rounds"_a);
}

}  // namespace unrolled
