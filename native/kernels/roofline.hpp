// The limits of the processor that kernels are compared with: memory bandwidth and arithmetic throughput.
#pragma once

#include "kernels/gemm.hpp"

namespace unrolled {
namespace UNROLLED_ISA {

// The sum of `count` numbers, as fast as they come from memory.
static float stream_read(const float* from, size_t count) {
  constexpr int kChains = 4;
  Vec16 sums[kChains] = {};
  for (size_t i = 0; i + kChains * kLanes <= count; i += kChains * kLanes)
    for (int chain = 0; chain < kChains; ++chain) sums[chain] = sums[chain] + load(from + i + chain * kLanes);
  return reduce_add(sums[0] + sums[1] + sums[2] + sums[3]);
}

// As many sums as hide how long each takes, and fit in registers.
constexpr int kPeakSums = 12;

// Products of numbers in registers, `rounds` times for each sum, and behind it what a round is in operations: a product
// and an addition for each pair of numbers.
static void peak_multiply(int rounds, float* out) {
  Vec sums[kPeakSums], one = load_vec(out), other = load_vec(out + kVecWidth);
  for (int i = 0; i < kPeakSums; ++i) sums[i] = load_vec(out + i * kVecWidth);
  for (int i = 0; i < rounds; ++i)
    for (Vec& sum : sums) sum = fma_vec(one, other, sum);
  for (const Vec& sum : sums) one = one + sum;
  store_vec(out, one);
}
constexpr double kOperations = 2.0 * kVecWidth * kPeakSums;

#if defined(__AMX_TILE__)
static void peak_multiply_bfloat16(int rounds, float* out) {
  AmxTileConfig registers;
  _tile_zero(0);
  _tile_zero(1);
  _tile_loadd(2, out, 64);
  _tile_loadd(3, out, 64);
  for (int i = 0; i < rounds; ++i) {  // the second sum hides how long the first one takes
    _tile_dpbf16ps(0, 2, 3);
    _tile_dpbf16ps(1, 2, 3);
  }
  _tile_stored(0, out, 64);
}
constexpr double kBfloat16Operations = 2 * 2.0 * 16 * 16 * 32;
#elif defined(__AVX512BF16__)
static void peak_multiply_bfloat16(int rounds, float* out) {
  __m512 sums[kPeakSums];
  for (int i = 0; i < kPeakSums; ++i) sums[i] = load_vec(out + i * kVecWidth);
  const __m512bh one = (__m512bh)_mm512_loadu_si512(out), other = one;
  for (int i = 0; i < rounds; ++i)
    for (__m512& sum : sums) sum = _mm512_dpbf16_ps(sum, one, other);
  for (int i = 1; i < kPeakSums; ++i) sums[0] = sums[0] + sums[i];
  store_vec(out, sums[0]);
}
constexpr double kBfloat16Operations = 2 * 2.0 * kVecWidth * kPeakSums;
#endif

}  // namespace UNROLLED_ISA
}  // namespace unrolled
