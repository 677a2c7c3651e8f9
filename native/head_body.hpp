// The last product of a model, the cross-entropy of its scores, and all that goes back from there, while the scores are hot:
// they are never in memory as a whole.
#pragma once

#include <cmath>

#include "layer.hpp"
#include "product.hpp"
#include "team.hpp"

namespace unrolled {
namespace UNROLLED_SET {

constexpr size_t kScoreBytes = 1 << 18;  // of scores that a thread has at a time
constexpr int kMostRows = 64;

// The loss of one row, given its scores (tiles `apart` floats from one another), and their gradients.
template <typename T>
static float entropy_row(const Head& a, float* scores, size_t apart, int64_t target, T* dscores, float* dbias) {
  constexpr bool E = kIsFloat<T>;
  const int tiles = a.padded_symbols / kLanes;
  if (target < 0) {
    for (int n = 0; n < tiles; ++n) write(dscores + n * kLanes, splat(0.0f));
    return 0.0f;
  }
  Lanes most = splat(-INFINITY), total = splat(0.0f);
  for (int n = 0; n < tiles; ++n) {
    const Lanes score = read(scores + n * apart) + read(a.bias + n * kLanes);
    write(scores + n * apart, score);
    most = larger(most, score);
  }
  const float top = largest_of(most), own = scores[target / kLanes * apart + target % kLanes];
  for (int n = 0; n < tiles; ++n) {
    const Lanes power = exponential<E>(read(scores + n * apart) - splat(top));
    write(scores + n * apart, power);
    total = total + power;
  }
  const float sum = sum_of(total);
  const Lanes share = splat(a.scale / sum);
  for (int n = 0; n < tiles; ++n) write(scores + n * apart, read(scores + n * apart) * share);
  scores[target / kLanes * apart + target % kLanes] -= a.scale;
  for (int n = 0; n < tiles; ++n) {
    const Lanes d = read(scores + n * apart);
    write(dscores + n * kLanes, d);
    write(dbias + n * kLanes, read(dbias + n * kLanes) + d);
  }
  return std::log(sum) - (own - top);
}

template <typename T>
static void narrow_rows(const Head& a, size_t first, size_t last) {
  for (size_t row = first; row < last; ++row) {
    T* to = static_cast<T*>(a.narrowed) + row * a.stride_x;
    for (int unit = 0; unit < a.padded_units; unit += kLanes) {
      const int left = a.units - unit, count = left < 0 ? 0 : left < kLanes ? left : kLanes;
      write(to + unit, count == 0 ? splat(0.0f) : read_some(a.xs + row * a.units + unit, count));
    }
  }
}

template <typename T>
static void head(const Head& a) {
  const int score_tiles = a.padded_symbols / kLanes, unit_tiles = a.padded_units / kLanes;
  const int widest = a.padded_symbols > a.padded_units ? a.padded_symbols : a.padded_units;
  int chunk = static_cast<int>(kScoreBytes / (widest * sizeof(float))) / 16 * 16;
  chunk = chunk < 16 ? 16 : chunk > kMostRows ? kMostRows : chunk;
  const size_t apart = static_cast<size_t>(chunk) * kLanes + kLanes;  // tiles a power of two apart share a place in the cache
  together(a.threads, [&](const Place& place) {
    [[maybe_unused]] Tiles registers;
    auto* scores = static_cast<float*>(thread_memory(0, apart * (widest / kLanes) * sizeof(float)));
    float* dbias = a.dbias + static_cast<size_t>(place.index) * a.padded_symbols;
    int first, last;
    share(static_cast<int>((a.rows + 15) / 16), place, first, last);
    const size_t end = last * 16ul < a.rows ? last * 16ul : a.rows;
    for (size_t row = first * 16ul; row < end; row += chunk) {
      const int rows = static_cast<int>(end - row < static_cast<size_t>(chunk) ? end - row : chunk);
      narrow_rows<T>(a, row, row + rows);
      product(static_cast<const T*>(a.narrowed) + row * a.stride_x, a.stride_x, rows, a.padded_units,
              static_cast<const T*>(a.weight), score_tiles, scores, apart);
      T* dscores = static_cast<T*>(a.dscores) + row * a.stride_d;
      for (int r = 0; r < rows; ++r) {
        a.losses[row + r] =
            entropy_row(a, scores + r * kLanes, apart, a.targets[row + r], dscores + r * a.stride_d, dbias);
      }
      product(dscores, a.stride_d, rows, a.padded_symbols, static_cast<const T*>(a.weight_back), unit_tiles, scores, apart);
      for (int n = 0; n < unit_tiles; ++n) {
        const int left = a.units - n * kLanes, count = left < kLanes ? left : kLanes;
        for (size_t r = 0; r < static_cast<size_t>(rows) && count > 0; ++r)
          write_some(a.dxs + (row + r) * a.units + n * kLanes, read(scores + n * apart + r * kLanes), count);
      }
    }
  });
}

}  // namespace UNROLLED_SET
}  // namespace unrolled
