// logits = W x + b, loss = -log softmax(logits)[target], and all gradients, for some rows at a time: dlogits = scale
// (softmax - onehot), dx = dlogits W, db = sum of dlogits. The logits of all rows are never in memory at once.
#pragma once

#include <cmath>

#include "args/layer_args.hpp"
#include "kernels/gemm.hpp"
#include "threads/parallel.hpp"

namespace unrolled {
namespace UNROLLED_ISA {

constexpr size_t kLogitBytes = 1 << 18;  // of scores that a thread has at a time
constexpr int kMaxRows = 64;

// The loss of one row, given its scores (tiles `tile_stride` floats from one another), and their gradients.
template <typename T>
static float cross_entropy_row(const LinearCrossEntropy& a, float* logits, size_t tile_stride, int64_t target,
                               T* dlogits, float* dbias) {
  constexpr bool E = kIsFloat32<T>;
  const int tiles = a.padded_vocab / kLanes;
  if (target < 0) {
    for (int n = 0; n < tiles; ++n) store(dlogits + n * kLanes, set1(0.0f));
    return 0.0f;
  }
  Vec16 max16 = set1(-INFINITY), sum16 = set1(0.0f);
  for (int n = 0; n < tiles; ++n) {
    const Vec16 logit = load(logits + n * tile_stride) + load(a.bias + n * kLanes);
    store(logits + n * tile_stride, logit);
    max16 = max(max16, logit);
  }
  const float max_logit = reduce_max(max16), target_logit = logits[target / kLanes * tile_stride + target % kLanes];
  for (int n = 0; n < tiles; ++n) {
    const Vec16 power = exp<E>(load(logits + n * tile_stride) - set1(max_logit));
    store(logits + n * tile_stride, power);
    sum16 = sum16 + power;
  }
  const float sum = reduce_add(sum16);
  const Vec16 static_range = set1(a.scale / sum);
  for (int n = 0; n < tiles; ++n) store(logits + n * tile_stride, load(logits + n * tile_stride) * static_range);
  logits[target / kLanes * tile_stride + target % kLanes] -= a.scale;
  for (int n = 0; n < tiles; ++n) {
    const Vec16 d = load(logits + n * tile_stride);
    store(dlogits + n * kLanes, d);
    store(dbias + n * kLanes, load(dbias + n * kLanes) + d);
  }
  return std::log(sum) - (target_logit - max_logit);
}

template <typename T>
static void convert_rows(const LinearCrossEntropy& a, size_t first, size_t last) {
  for (size_t row = first; row < last; ++row) {
    T* to = static_cast<T*>(a.xs_padded) + row * a.xs_stride;
    for (int unit = 0; unit < a.padded_units; unit += kLanes) {
      const int left = a.units - unit, count = left < 0 ? 0 : left < kLanes ? left : kLanes;
      store(to + unit, count == 0 ? set1(0.0f) : load_partial(a.xs + row * a.units + unit, count));
    }
  }
}

// `rows` rows from `row` on: their losses and gradients. `logits` is room for their scores, and for the gradients of xs.
template <typename T>
static void cross_entropy_rows(const LinearCrossEntropy& a, size_t row, int rows, float* logits, size_t tile_stride,
                               float* dbias) {
  const int logit_tiles = a.padded_vocab / kLanes, unit_tiles = a.padded_units / kLanes;
  convert_rows<T>(a, row, row + rows);
  gemm(static_cast<const T*>(a.xs_padded) + row * a.xs_stride, a.xs_stride, rows, a.padded_units,
       static_cast<const T*>(a.weight), logit_tiles, logits, tile_stride);
  T* dlogits = static_cast<T*>(a.dlogits) + row * a.dlogits_stride;
  for (int r = 0; r < rows; ++r) {
    a.losses[row + r] = cross_entropy_row(a, logits + r * kLanes, tile_stride, a.targets[row + r],
                                          dlogits + r * a.dlogits_stride, dbias);
  }
  gemm(dlogits, a.dlogits_stride, rows, a.padded_vocab, static_cast<const T*>(a.weight_transposed), unit_tiles, logits,
       tile_stride);
  for (int n = 0; n < unit_tiles; ++n) {
    const int left = a.units - n * kLanes, count = left < kLanes ? left : kLanes;
    for (size_t r = 0; r < static_cast<size_t>(rows) && count > 0; ++r)
      store_partial(a.dxs + (row + r) * a.units + n * kLanes, load(logits + n * tile_stride + r * kLanes), count);
  }
}

template <typename T>
static void linear_cross_entropy(const LinearCrossEntropy& a) {
  const int widest = a.padded_vocab > a.padded_units ? a.padded_vocab : a.padded_units;
  int chunk = static_cast<int>(kLogitBytes / (widest * sizeof(float))) / 16 * 16;
  chunk = chunk < 16 ? 16 : chunk > kMaxRows ? kMaxRows : chunk;
  const size_t tile_stride =
      static_cast<size_t>(chunk) * kLanes + kLanes;  // tiles a power of two apart share a place in the cache
  const RowParts parts = step_parts(static_cast<int>(a.rows));
  parallel_region(a.threads, [&](const ThreadContext& thread) {
    [[maybe_unused]] AmxTileConfig registers;
    auto* logits = static_cast<float*>(thread_scratch(kScratchLogits, tile_stride * (widest / kLanes) * sizeof(float)));
    parallel_for(thread, parts.count, [&](int part) {
      float* dbias = a.dbias + static_cast<size_t>(part) * a.padded_vocab;
      const size_t end = parts.begin(part + 1);
      for (size_t row = parts.begin(part); row < end; row += chunk)
        cross_entropy_rows<T>(a, row, static_cast<int>(end - row < static_cast<size_t>(chunk) ? end - row : chunk),
                              logits, tile_stride, dbias);
    });
  });
}

}  // namespace UNROLLED_ISA
}  // namespace unrolled
