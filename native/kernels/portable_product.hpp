// Products of int8 weights with vectors of 16-bit integers. Their sums are exact, so they may be added in any order, and
// each instruction set adds them as it does best.
#pragma once

#include <algorithm>

#include "args/portable_args.hpp"
#include "kernels/portable_math.hpp"

#if defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace unrolled {
namespace UNROLLED_ISA {

constexpr float kMaxQuantized = 32767.0f;
constexpr float kLeastLargest = 0x1p-100f;  // vectors whose largest number is below this are taken as zero

// Write integers of at most 32767 in place of x, and zeros behind them up to 16; return their scale. It is NaN where a
// number is not finite, and so are all products then.
static inline float quantize(const float* x, int count, int16_t* quantized) {
  Vec16 largest16 = set1(0.0f), not_finite16 = set1(0.0f);
  for (int k = 0; k < count; k += kLanes) {
    const Vec16 value = load_partial(x + k, lanes_from(k, count));
    largest16 = max(largest16, max(value, set1(0.0f) - value));
    not_finite16 = not_finite16 + (value - value);  // zero, or NaN
  }
  const float largest = reduce(largest16, [](float a, float b) { return a < b ? b : a; });
  const float not_finite = reduce(not_finite16, [](float a, float b) { return a + b; });
  const bool is_zero = not_finite != 0 || largest < kLeastLargest;
  const Vec factor = set1_vec(is_zero ? 0.0f : kMaxQuantized / largest), round = set1_vec(kRound);
  for (int k = 0; k < count; k += kLanes) {
    Vec16 value = load_partial(x + k, lanes_from(k, count));
    alignas(64) int32_t integers[kLanes];
    UNROLLED_FOR_EACH_VEC {
      const Vec rounded = not_finite != 0 ? Vec{} : (value.vec[i] * factor + round) - round;
      const VecInt converted = __builtin_convertvector(rounded, VecInt);
      std::memcpy(integers + i * kVecWidth, &converted, sizeof(converted));
    }
    for (int i = 0; i < kLanes; ++i) quantized[k + i] = static_cast<int16_t>(integers[i]);
  }
  return largest / kMaxQuantized + not_finite;
}

// Two integers of a vector, as products take them.
UNROLLED_INLINE int load_pair_of(const int16_t* quantized) {
  int pair;
  std::memcpy(&pair, quantized, 4);
  return pair;
}

// sums += 16 rows of two columns times two integers
UNROLLED_INLINE void add_pair_products(const int8_t* weight, const int16_t* quantized, VecInt (&sums)[kVecsPer16]) {
#if defined(__AVX512BW__)
  const __m512i wide = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(weight)));
  const __m512i pair = _mm512_set1_epi32(load_pair_of(quantized));
#if defined(__AVX512VNNI__)
  sums[0] = reinterpret_cast<VecInt>(_mm512_dpwssd_epi32(reinterpret_cast<__m512i>(sums[0]), wide, pair));
#else
  sums[0] += reinterpret_cast<VecInt>(_mm512_madd_epi16(wide, pair));
#endif
#elif defined(__AVX2__)
  const __m256i pair = _mm256_set1_epi32(load_pair_of(quantized));
  for (int i = 0; i < 2; ++i) {
    const __m128i narrow = _mm_loadu_si128(reinterpret_cast<const __m128i*>(weight) + i);
    sums[i] += reinterpret_cast<VecInt>(_mm256_madd_epi16(_mm256_cvtepi8_epi16(narrow), pair));
  }
#elif defined(__SSE2__)
  const __m128i pair = _mm_set1_epi32(load_pair_of(quantized));
  for (int i = 0; i < 2; ++i) {  // the upper half of 16 bits, shifted down, is the weight with its sign
    const __m128i narrow = _mm_loadu_si128(reinterpret_cast<const __m128i*>(weight) + i);
    const __m128i low = _mm_srai_epi16(_mm_unpacklo_epi8(narrow, narrow), 8);
    const __m128i high = _mm_srai_epi16(_mm_unpackhi_epi8(narrow, narrow), 8);
    sums[2 * i] += reinterpret_cast<VecInt>(_mm_madd_epi16(low, pair));
    sums[2 * i + 1] += reinterpret_cast<VecInt>(_mm_madd_epi16(high, pair));
  }
#elif defined(__ARM_NEON)
  for (int i = 0; i < 2; ++i) {
    const int8x8x2_t columns = vld2_s8(weight + 16 * i);
    auto* low = reinterpret_cast<int32x4_t*>(&sums[2 * i]);
    auto* high = reinterpret_cast<int32x4_t*>(&sums[2 * i + 1]);
    for (int column = 0; column < 2; ++column) {
      const int16x8_t wide = vmovl_s8(columns.val[column]);
      *low = vmlal_n_s16(*low, vget_low_s16(wide), quantized[column]);
      *high = vmlal_n_s16(*high, vget_high_s16(wide), quantized[column]);
    }
  }
#else
  for (int row = 0; row < kLanes; ++row)
    sums[row / kVecWidth][row % kVecWidth] += weight[2 * row] * quantized[0] + weight[2 * row + 1] * quantized[1];
#endif
}

// N tiles of rows times a vector.
template <int N>
static inline void multiply_tiles(const Int8Tiles& matrix, int first, const int16_t* quantized, float scale, float* out) {
  const std::size_t tile = matrix.tile_bytes();
  const auto* weight = matrix.data.as<const int8_t>() + static_cast<std::size_t>(first) * tile;
  Vec totals[N][kVecsPer16] = {};
  for (int start = 0; start < matrix.pairs(); start += kPortableBlock / 2) {
    const int stop = std::min(start + kPortableBlock / 2, matrix.pairs());
    VecInt sums[N][kVecsPer16] = {};
    for (int pair = start; pair < stop; ++pair)
      UNROLLED_FOR(n, N)
        add_pair_products(weight + n * tile + static_cast<std::size_t>(pair) * 32, quantized + 2 * pair, sums[n]);
    for (int n = 0; n < N; ++n) UNROLLED_FOR_EACH_VEC totals[n][i] += __builtin_convertvector(sums[n][i], Vec);
  }
  const Vec of_vector = set1_vec(scale);
  const float* of_row = matrix.scale.as<float>() + first * kLanes;
  for (int n = 0; n < N; ++n)
    UNROLLED_FOR_EACH_VEC {
      const int row = n * kLanes + i * kVecWidth;
      store_vec(out + first * kLanes + row, totals[n][i] * (load_vec(of_row + row) * of_vector));
    }
}

constexpr int kTilesAtOnce = kVecWidth == 4 ? 2 : 4;  // as many sums as registers hold

// Vectors `quantized` (rows, stride) times a matrix, into `out` (rows, out_stride), which is padded to 16.
static inline void multiply(const Int8Tiles& matrix, const int16_t* quantized, int stride, const float* scales, int rows,
                            float* out, int out_stride) {
  for (int tile = 0; tile < matrix.tiles();) {
    const bool is_full = matrix.tiles() - tile >= kTilesAtOnce;
    const auto kernel = is_full ? multiply_tiles<kTilesAtOnce> : multiply_tiles<1>;
    for (int row = 0; row < rows; ++row)
      kernel(matrix, tile, quantized + row * stride, scales[row], out + row * out_stride);
    tile += is_full ? kTilesAtOnce : 1;
  }
}

}  // namespace UNROLLED_ISA
}  // namespace unrolled
