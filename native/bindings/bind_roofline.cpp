// Python bindings: memory bandwidth and arithmetic throughput of this processor.
#include <chrono>
#include <vector>

#include "args/decoder_args.hpp"
#include "bindings/arguments.hpp"
#include "isa/cpu_features.hpp"
#include "isa/kernel_table.hpp"
#include "threads/parallel.hpp"

namespace unrolled {

namespace {

using namespace nb::literals;

// Bytes a second that so many threads read, each its share of `bytes`, over and over: what memory gives to weights.
double memory_bandwidth(std::size_t bytes, int threads, double seconds) {
  require(bytes >= 4096 && bytes <= (std::size_t{1} << 34), "bytes must be from 4,096 to 2^34.");
  check_threads(threads);
  require(seconds > 0 && seconds <= 60, "seconds must be above 0 and up to 60.");
  const auto stream_read = kernels().roofline.stream_read;
  nb::gil_scoped_release release;
  AlignedBuffer memory(bytes);
  std::vector<double> rates(static_cast<std::size_t>(threads), 0.0);
  parallel_region(threads, [&](const ThreadContext& place) {
    using Clock = std::chrono::steady_clock;
    int first, last;
    static_range(static_cast<int>(bytes / 4096), place, first, last);
    const float* from = memory.as<float>() + static_cast<std::size_t>(first) * 1024;
    const std::size_t count = static_cast<std::size_t>(last - first) * 1024;
    volatile float sum = stream_read(from, count);
    place.barrier.wait();
    const auto start = Clock::now();
    double spent = 0;
    std::size_t rounds = 0;
    while (spent < seconds) {
      for (int i = 0; i < 16; ++i, ++rounds) sum = sum + stream_read(from, count);
      spent = std::chrono::duration<double>(Clock::now() - start).count();
    }
    rates[static_cast<std::size_t>(place.index)] = static_cast<double>(rounds * count * 4) / spent;
  });
  double rate = 0;
  for (double thread_rate : rates) rate += thread_rate;
  return rate;
}

// Floating-point operations done: products in registers, on so many threads, of float32 or bfloat16 numbers.
double multiply(bool bfloat16, int threads, int rounds) {
  check_threads(threads);
  require(rounds >= 1, "rounds must be at least 1.");
  const Roofline& roofline = kernels().roofline;
  const auto work = bfloat16 ? roofline.multiply_bfloat16 : roofline.multiply;
  require(work != nullptr, "This processor has no products of bfloat16 numbers.");
  nb::gil_scoped_release release;
  std::vector<double> done(static_cast<std::size_t>(threads), 0.0);
  parallel_region(threads, [&](const ThreadContext& place) {
    alignas(64) float values[256] = {};
    work(rounds, values);
    done[static_cast<std::size_t>(place.index)] =
        rounds * (bfloat16 ? roofline.bfloat16_operations : roofline.operations);
  });
  double operations = 0;
  for (double thread_rate : done) operations += thread_rate;
  return operations;
}

}  // namespace

void bind_ceilings(nb::module_& module) {
  module.def("memory_bandwidth", &memory_bandwidth, "bytes"_a, "threads"_a, "seconds"_a);
  module.def("multiply", &multiply, "bfloat16"_a, "threads"_a, "rounds"_a);
}

}  // namespace unrolled
