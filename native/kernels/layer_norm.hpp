// LayerNorm over rows: y = (x - mean) / sqrt(var + epsilon) * weight + bias, in and out of the padded rows that a
// layer's products read.
#pragma once

#include <cmath>

#include "args/layer_args.hpp"
#include "kernels/simd.hpp"
#include "threads/parallel.hpp"

namespace unrolled {
namespace UNROLLED_ISA {

UNROLLED_INLINE int lanes_left(int units, int unit) { return units - unit < kLanes ? units - unit : kLanes; }

// One in the first `count` lanes, zero in the others.
UNROLLED_INLINE Vec16 lane_mask(int count) {
  alignas(64) static constexpr float steps[2 * kLanes] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  return load(steps + kLanes - count);
}

static void compute_moments(const float* row, int units, float epsilon, float* moments) {
  Vec16 sum = set1(0.0f), squares = set1(0.0f);
  for (int unit = 0; unit < units; unit += kLanes) sum = sum + load_partial(row + unit, lanes_left(units, unit));
  const float mean = reduce_add(sum) / static_cast<float>(units);
  for (int unit = 0; unit < units; unit += kLanes) {
    const int count = lanes_left(units, unit);
    const Vec16 off = (load_partial(row + unit, count) - set1(mean)) * lane_mask(count);
    squares = fma(off, off, squares);
  }
  moments[0] = mean;
  moments[1] = 1.0f / std::sqrt(reduce_add(squares) / static_cast<float>(units) + epsilon);
}

template <typename T>
static void norm_forward(const NormForward& a) {
  parallel_region(a.threads, [&](const ThreadContext& thread) {
    int first, last;
    static_range(static_cast<int>(a.rows), thread, first, last);
    for (size_t row = first; row < static_cast<size_t>(last); ++row) {
      T* output = static_cast<T*>(a.output) + row * a.stride;
      const float* input = a.input + row * a.units;
      float* moments = a.moments + 2 * row;
      compute_moments(input, a.units, a.epsilon, moments);
      const Vec16 mean = set1(moments[0]), scale = set1(moments[1]);
      size_t unit = 0;
      for (; unit < static_cast<size_t>(a.units); unit += kLanes) {
        const int count = lanes_left(a.units, static_cast<int>(unit));
        const Vec16 x = (load_partial(input + unit, count) - mean) * scale;
        store(output + unit, fma(x, load_partial(a.weight + unit, count), load_partial(a.bias + unit, count)));
      }
      for (; unit < a.stride; unit += kLanes) store(output + unit, set1(0.0f));
    }
  });
}

// One row: x = (from - mean) scale, d = dto weight; dfrom = dys + scale (d - mean of d - x mean of (d x)).
static void norm_row_backward(const NormBackward& a, size_t index, const float* doutput, float* dweights) {
  const float *input = a.input + index * a.units, *dys = a.dys + index * a.units;
  float* dinput = a.dinput + index * a.units;
  const Vec16 mean = set1(a.moments[2 * index]), scale = set1(a.moments[2 * index + 1]);
  Vec16 sum = set1(0.0f), sum_dx = set1(0.0f);
  for (int unit = 0; unit < a.units; unit += kLanes) {
    const int count = lanes_left(a.units, unit);
    const Vec16 x = (load_partial(input + unit, count) - mean) * scale, dy = load_partial(doutput + unit, count);
    const Vec16 d = dy * load_partial(a.weight + unit, count);  // zero beyond the units
    sum = sum + d;
    sum_dx = fma(d, x, sum_dx);
    store_partial(dweights + unit, fma(dy, x, load_partial(dweights + unit, count)), count);
    store_partial(dweights + a.units + unit, dy + load_partial(dweights + a.units + unit, count), count);
  }
  const Vec16 mean_of_d = set1(reduce_add(sum) / static_cast<float>(a.units));
  const Vec16 mean_of_dx = set1(reduce_add(sum_dx) / static_cast<float>(a.units));
  for (int unit = 0; unit < a.units; unit += kLanes) {
    const int count = lanes_left(a.units, unit);
    const Vec16 x = (load_partial(input + unit, count) - mean) * scale;
    const Vec16 d = load_partial(doutput + unit, count) * load_partial(a.weight + unit, count);
    store_partial(dinput + unit, fma(scale, d - mean_of_d - x * mean_of_dx, load_partial(dys + unit, count)), count);
  }
}

static void norm_backward(const NormBackward& a) {
  const RowParts parts = step_parts(static_cast<int>(a.rows));
  parallel_region(a.threads, [&](const ThreadContext& thread) {
    parallel_for(thread, parts.count, [&](int part) {
      float* dweights = a.dweights + static_cast<size_t>(part) * 2 * a.units;
      const size_t end = parts.begin(part + 1);
      for (size_t row = parts.begin(part); row < end; ++row)
        norm_row_backward(a, row, a.doutput + row * a.stride, dweights);
    });
  });
}

}  // namespace UNROLLED_ISA
}  // namespace unrolled
