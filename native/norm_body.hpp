// Layer normalisation over the rows of all steps, to and from the form in which a layer's products read them.
#pragma once

#include <cmath>

#include "layer.hpp"
#include "team.hpp"
#include "vector.hpp"

namespace unrolled {
namespace UNROLLED_SET {

UNROLLED_INLINE int left_of(int units, int unit) { return units - unit < kLanes ? units - unit : kLanes; }

// One in the first `count` lanes, zero in the others.
UNROLLED_INLINE Lanes ones(int count) {
  alignas(64) static constexpr float steps[2 * kLanes] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  return read(steps + kLanes - count);
}

static void moments_of(const float* row, int units, float epsilon, float* moments) {
  Lanes sum = splat(0.0f), squares = splat(0.0f);
  for (int unit = 0; unit < units; unit += kLanes) sum = sum + read_some(row + unit, left_of(units, unit));
  const float mean = sum_of(sum) / static_cast<float>(units);
  for (int unit = 0; unit < units; unit += kLanes) {
    const int count = left_of(units, unit);
    const Lanes off = (read_some(row + unit, count) - splat(mean)) * ones(count);
    squares = fma(off, off, squares);
  }
  moments[0] = mean;
  moments[1] = 1.0f / std::sqrt(sum_of(squares) / static_cast<float>(units) + epsilon);
}

template <typename T>
static void norm_forward(const NormForward& a) {
  together(a.threads, [&](const Place& place) {
    int first, last;
    share(static_cast<int>(a.rows), place, first, last);
    for (size_t row = first; row < static_cast<size_t>(last); ++row) {
      T* to = static_cast<T*>(a.to) + row * a.stride;
      const float* from = a.from + row * a.units;
      float* moments = a.moments + 2 * row;
      moments_of(from, a.units, a.epsilon, moments);
      const Lanes mean = splat(moments[0]), scale = splat(moments[1]);
      size_t unit = 0;
      for (; unit < static_cast<size_t>(a.units); unit += kLanes) {
        const int count = left_of(a.units, static_cast<int>(unit));
        const Lanes x = (read_some(from + unit, count) - mean) * scale;
        write(to + unit, fma(x, read_some(a.weight + unit, count), read_some(a.bias + unit, count)));
      }
      for (; unit < a.stride; unit += kLanes) write(to + unit, splat(0.0f));
    }
  });
}

// One row: x = (from - mean) scale, d = dto weight; dfrom = dys + scale (d - mean of d - x mean of (d x)).
static void norm_row_back(const NormBackward& a, size_t index, const float* dto, float* dweights) {
  const float *from = a.from + index * a.units, *dys = a.dys + index * a.units;
  float* dfrom = a.dfrom + index * a.units;
  const Lanes mean = splat(a.moments[2 * index]), scale = splat(a.moments[2 * index + 1]);
  Lanes sum = splat(0.0f), along = splat(0.0f);
  for (int unit = 0; unit < a.units; unit += kLanes) {
    const int count = left_of(a.units, unit);
    const Lanes x = (read_some(from + unit, count) - mean) * scale, dy = read_some(dto + unit, count);
    const Lanes d = dy * read_some(a.weight + unit, count);  // zero beyond the units
    sum = sum + d;
    along = fma(d, x, along);
    write_some(dweights + unit, fma(dy, x, read_some(dweights + unit, count)), count);
    write_some(dweights + a.units + unit, dy + read_some(dweights + a.units + unit, count), count);
  }
  const Lanes of_mean = splat(sum_of(sum) / static_cast<float>(a.units));
  const Lanes of_scale = splat(sum_of(along) / static_cast<float>(a.units));
  for (int unit = 0; unit < a.units; unit += kLanes) {
    const int count = left_of(a.units, unit);
    const Lanes x = (read_some(from + unit, count) - mean) * scale;
    const Lanes d = read_some(dto + unit, count) * read_some(a.weight + unit, count);
    write_some(dfrom + unit, fma(scale, d - of_mean - x * of_scale, read_some(dys + unit, count)), count);
  }
}

static void norm_backward(const NormBackward& a) {
  together(a.threads, [&](const Place& place) {
    float* dweights = a.dweights + static_cast<size_t>(place.index) * 2 * a.units;
    int first, last;
    share(static_cast<int>(a.rows), place, first, last);
    for (size_t row = first; row < static_cast<size_t>(last); ++row) norm_row_back(a, row, a.dto + row * a.stride, dweights);
  });
}

}  // namespace UNROLLED_SET
}  // namespace unrolled
