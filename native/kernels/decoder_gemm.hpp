// Products of the streams' rows with weights in tiles, by precision; weights are read once, whatever the number of
// rows.
//
// Every sum is added up in an order that the number of rows does not change: what a stream draws is the same alone and
// among others. A `Rows` has what products read; a precision says how rows are written and multiplied.
#pragma once

#include <algorithm>
#include <cmath>

#include "args/decoder_args.hpp"
#include "kernels/gemm.hpp"

namespace unrolled {
namespace UNROLLED_ISA {

struct Rows {
  char* data;
  size_t stride;  // bytes
  float* scales;  // int8: of each row
};

// One row needs as many sums at once as many rows have, or it waits for each addition.
constexpr int kGemvTiles = kVecWidth == 4 ? 2 : 4;

template <int N>
static inline void gemv_block(const float* a, int K, const float* b, size_t tile, float* c, size_t c_tile) {
  Vec sums[N][kVecsPer16] = {};
  for (int k = 0; k < K; ++k)
    for (int n = 0; n < N; ++n)
      for (int i = 0; i < kVecsPer16; ++i)
        sums[n][i] = fma_vec(set1_vec(a[k]), load_vec(b + n * tile + static_cast<size_t>(k) * kLanes + i * kVecWidth),
                             sums[n][i]);
  for (int n = 0; n < N; ++n)
    for (int i = 0; i < kVecsPer16; ++i) store_vec(c + n * c_tile + i * kVecWidth, sums[n][i]);
}

#if defined(__AVX512BF16__)
template <int N>
static inline void gemv_block(const bfloat16* a, int K, const bfloat16* b, size_t tile, float* c, size_t c_tile) {
  __m512 sums[N];
  for (int n = 0; n < N; ++n) sums[n] = _mm512_setzero_ps();
  for (int k = 0; k < K; k += 2) {
    const __m512bh value = (__m512bh)_mm512_set1_epi32(load_pair(a + k));
    for (int n = 0; n < N; ++n) {
      const __m512i column = _mm512_loadu_si512(b + n * tile + static_cast<size_t>(k) * kLanes);
      sums[n] = _mm512_dpbf16_ps(sums[n], value, (__m512bh)column);
    }
  }
  for (int n = 0; n < N; ++n) store_vec(c + n * c_tile, sums[n]);
}
#endif

template <typename T>
static inline void gemm_or_gemv(const T* a, size_t lda, int rows, int K, const T* b, int tiles, float* c,
                                size_t c_tile) {
  if (rows > 1) return gemm_simd(a, lda, rows, K, b, tiles, c, c_tile);
  const size_t tile = static_cast<size_t>(K) * kLanes;
  int n = 0;
  for (; n + kGemvTiles <= tiles; n += kGemvTiles)
    gemv_block<kGemvTiles>(a, K, b + n * tile, tile, c + n * c_tile, c_tile);
  for (; n < tiles; ++n) gemv_block<1>(a, K, b + n * tile, tile, c + n * c_tile, c_tile);
}

struct InFloat32 {
  static constexpr bool exact = true;
  static constexpr size_t bytes = 4;  // of a number that is read
  struct Setup {
    explicit Setup(int) {}
  };
  static void store_values(const Rows& rows, int row, int k, const Vec16& value) {
    store(reinterpret_cast<float*>(rows.data + row * rows.stride) + k, value);
  }
  static void store_row(const Rows& rows, int row, const float* values, int K) {
    for (int k = 0; k < K; k += kLanes) store_values(rows, row, k, load(values + k));
  }
  static void multiply(const Rows& a, int rows, const PackedMatrix& w, int first, int tiles, float* c, size_t c_tile) {
    gemm_or_gemv(reinterpret_cast<const float*>(a.data), a.stride / 4, rows, w.K,
                 reinterpret_cast<const float*>(w.data + first * w.tile), tiles, c, c_tile);
  }
};

#if defined(__AMX_TILE__)
static inline void gemm_bfloat16(const bfloat16* a, size_t stride, int rows, int K, const bfloat16* b, int tiles,
                                 float* c, size_t c_tile) {
  gemm(a, stride / 2, rows, K, b, tiles, c, c_tile);
}
#elif defined(__AVX512BF16__)
static inline void gemm_bfloat16(const bfloat16* a, size_t stride, int rows, int K, const bfloat16* b, int tiles,
                                 float* c, size_t c_tile) {
  gemm_or_gemv(a, stride / 2, rows, K, b, tiles, c, c_tile);
}
#else
// Without products in bfloat16, weights are widened as they come: half the bytes all the same.
template <int R, int N>
static inline void widen_block(const float* a, size_t lda, int K, const bfloat16* b, size_t tile, float* c,
                               size_t c_tile) {
  Vec sums[R][N][kVecsPer16] = {};
  for (int k = 0; k < K; k += 2) {
    for (int n = 0; n < N; ++n) {
      for (int i = 0; i < kVecsPer16; ++i) {
        const Vec loaded =
            load_vec(reinterpret_cast<const float*>(b + n * tile + static_cast<size_t>(k) * kLanes) + i * kVecWidth);
        const VecInt pairs = reinterpret_cast<VecInt>(loaded);
        const Vec even = reinterpret_cast<Vec>(pairs << 16), odd = reinterpret_cast<Vec>(pairs & ~0xffff);
        for (int r = 0; r < R; ++r) {
          sums[r][n][i] = fma_vec(set1_vec(a[r * lda + k]), even, sums[r][n][i]);
          sums[r][n][i] = fma_vec(set1_vec(a[r * lda + k + 1]), odd, sums[r][n][i]);
        }
      }
    }
  }
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n)
      for (int i = 0; i < kVecsPer16; ++i) store_vec(c + n * c_tile + r * kLanes + i * kVecWidth, sums[r][n][i]);
}

static inline void gemm_bfloat16(const float* a, size_t stride, int rows, int K, const bfloat16* b, int tiles, float* c,
                                 size_t c_tile) {
  const size_t lda = stride / 4, tile = static_cast<size_t>(K) * kLanes;
  int n = 0;
  if (rows == 1)
    for (; n + kGemvTiles <= tiles; n += kGemvTiles)
      widen_block<1, kGemvTiles>(a, lda, K, b + n * tile, tile, c + n * c_tile, c_tile);
  for (; n < tiles; ++n) {
    int row = 0;
    for (; row + 4 <= rows; row += 4)
      widen_block<4, 1>(a + row * lda, lda, K, b + n * tile, tile, c + n * c_tile + row * kLanes, c_tile);
    for (; row < rows; ++row)
      widen_block<1, 1>(a + row * lda, lda, K, b + n * tile, tile, c + n * c_tile + row * kLanes, c_tile);
  }
}
#endif

struct InBfloat16 {
  static constexpr bool exact = false;
#if defined(__AVX512BF16__)
  using Element = bfloat16;
#else
  using Element = float;
#endif
  static constexpr size_t bytes = sizeof(Element);
  using Setup = AmxTileConfig;
  static void store_values(const Rows& rows, int row, int k, const Vec16& value) {
    store(reinterpret_cast<Element*>(rows.data + row * rows.stride) + k, value);
  }
  static void store_row(const Rows& rows, int row, const float* values, int K) {
    for (int k = 0; k < K; k += kLanes) store_values(rows, row, k, load(values + k));
  }
  static void multiply(const Rows& a, int rows, const PackedMatrix& w, int first, int tiles, float* c, size_t c_tile) {
    gemm_bfloat16(reinterpret_cast<const Element*>(a.data), a.stride, rows, w.K,
                  reinterpret_cast<const bfloat16*>(w.data + first * w.tile), tiles, c, c_tile);
  }
};

// int8 weights times numbers of 8 bits, from 1 to 255, zero at 128. Sums of whole numbers are exact, so that only
// weights and what they are times are rounded, and the order of adding does not matter.
constexpr float kInt8Scale = kInt8Max;

#if defined(__AVX512VNNI__)
// Sums as what they stand for.
static inline Vec dequantize(__m512i sums, __m512i zero_point_sums, Vec of_column, float of_row) {
  return _mm512_cvtepi32_ps(_mm512_sub_epi32(sums, zero_point_sums)) * (of_column * set1_vec(of_row));
}

template <int N>
static inline void int8_gemv_block(const uint8_t* a, float scale, const PackedMatrix& w, int tile, float* c,
                                   size_t c_tile) {
  __m512i sums[N];
  for (int n = 0; n < N; ++n) sums[n] = _mm512_setzero_si512();
  const char* from = w.data + tile * w.tile;
  for (int k = 0; k < w.K; k += 4) {
    int four_bytes;
    std::memcpy(&four_bytes, a + k, 4);
    const __m512i checked_data = _mm512_set1_epi32(four_bytes);
    for (int n = 0; n < N; ++n) {
      const __m512i column = _mm512_loadu_si512(from + n * w.tile + static_cast<size_t>(k) * kLanes);
      sums[n] = _mm512_dpbusd_epi32(sums[n], checked_data, column);
    }
  }
  for (int n = 0; n < N; ++n)
    store_vec(c + n * c_tile, dequantize(sums[n], _mm512_loadu_si512(w.zero_point_sums + (tile + n) * kLanes),
                                         load_vec(w.scales + (tile + n) * kLanes), scale));
}
#else
template <int N>
static inline void int8_gemv_block(const uint8_t* a, float scale, const PackedMatrix& w, int tile, float* c,
                                   size_t c_tile) {
  for (int n = 0; n < N; ++n) {
    int32_t sums[kLanes] = {};
    const auto* from = reinterpret_cast<const int8_t*>(w.data + (tile + n) * w.tile);
    for (int k = 0; k < w.K; k += 4)
      for (int lane = 0; lane < kLanes; ++lane)
        for (int i = 0; i < 4; ++i) sums[lane] += a[k + i] * from[static_cast<size_t>(k) * kLanes + lane * 4 + i];
    const int first = (tile + n) * kLanes;
    for (int lane = 0; lane < kLanes; ++lane)
      c[n * c_tile + lane] =
          static_cast<float>(sums[lane] - w.zero_point_sums[first + lane]) * (w.scales[first + lane] * scale);
  }
}
#endif

#if defined(__AMX_INT8__)
constexpr int kMinAmxRows = 3;  // two are as fast one by one, or faster where the network is small

// M blocks of sixteen rows, of which `rows` count, by a tile of weights. Registers 0 and 1 hold sums; see
// `amx_gemm_block` for the order.
template <int M>
static inline void int8_amx_rows(const uint8_t* a, size_t stride, const float* scales, int rows, const PackedMatrix& w,
                                 int tile, float* c) {
  const char* b = w.data + tile * w.tile;
  _tile_zero(0);
  if constexpr (M > 1) _tile_zero(1);
  for (int k = 0; k < w.K; k += 64) {
    const char* column = b + static_cast<size_t>(k) * kLanes;
    _tile_loadd(2, column, 64);
    _tile_loadd(3, a + k, stride);
    _tile_dpbusd(0, 3, 2);
    prefetch_b(column, 0);
    if constexpr (M > 1) {
      _tile_zero(3);
      _tile_loadd(3, a + kRowBlock * stride + k, stride);
      _tile_dpbusd(1, 3, 2);
    }
    _tile_zero(2);
    _tile_zero(3);
    prefetch_b(column, 1);
  }
  alignas(64) int32_t sums[M * kRowBlock][kLanes];
  _tile_stored(0, sums[0], 64);
  if constexpr (M > 1) _tile_stored(1, sums[kRowBlock], 64);
  const __m512i zero_point_sums = _mm512_loadu_si512(w.zero_point_sums + tile * kLanes);
  const Vec of_column = load_vec(w.scales + tile * kLanes);
  for (int row = 0; row < rows; ++row)
    store_vec(c + row * kLanes, dequantize(_mm512_load_si512(sums[row]), zero_point_sums, of_column, scales[row]));
}
#endif

struct InInt8 {
  static constexpr bool exact = false;
  static constexpr size_t bytes = 1;
  using Setup = AmxTileConfig;
  // Sixteen numbers from k on; what is no number becomes the least one.
  static void store_scaled(const Rows& rows, int row, int k, const Vec16& scaled) {
    auto* to = reinterpret_cast<uint8_t*>(rows.data + row * rows.stride) + k;
#if defined(__AVX512F__)
    const __m512 lowest = _mm512_set1_ps(-kInt8Scale), max_abs = _mm512_set1_ps(kInt8Scale);
    const __m512 bounded = _mm512_min_ps(max_abs, _mm512_max_ps(scaled.vec[0], lowest));
    const __m512i quantized = _mm512_add_epi32(_mm512_cvtps_epi32(bounded), _mm512_set1_epi32(kInt8ZeroPoint));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(quantized));
#else
    alignas(64) float values[kLanes];
    store(values, scaled);
    for (int i = 0; i < kLanes; ++i) {
      const float bounded = values[i] > kInt8Scale ? kInt8Scale : values[i] >= -kInt8Scale ? values[i] : -kInt8Scale;
      to[i] = static_cast<uint8_t>(static_cast<int>(std::nearbyint(bounded)) + kInt8ZeroPoint);
    }
#endif
  }
  // Outputs of cells are from -1 to 1, and the scales of their rows 1 / kWhole.
  static void store_values(const Rows& rows, int row, int k, const Vec16& value) {
    store_scaled(rows, row, k, value * set1(kInt8Scale));
  }
  static void store_row(const Rows& rows, int row, const float* values, int K) {
    Vec16 max16 = set1(1e-30f);
    for (int k = 0; k < K; k += kLanes) max16 = max(max16, max(load(values + k), set1(0.0f) - load(values + k)));
    const float max_abs = reduce_max(max16);
    const Vec16 per_unit = set1(kInt8Scale / max_abs);
    for (int k = 0; k < K; k += kLanes) store_scaled(rows, row, k, load(values + k) * per_unit);
    rows.scales[row] = max_abs / kInt8Scale;
  }
  static void multiply(const Rows& a, int rows, const PackedMatrix& w, int first, int tiles, float* c, size_t c_tile) {
    const auto row_at = [&](int row) { return reinterpret_cast<const uint8_t*>(a.data + row * a.stride); };
#if defined(__AMX_INT8__)
    if (rows >= kMinAmxRows) {
      for (int row = 0; row < rows; row += 2 * kRowBlock) {
        const int count = std::min(rows - row, 2 * kRowBlock);
        for (int n = 0; n < tiles; ++n) {
          const auto kernel = count > kRowBlock ? int8_amx_rows<2> : int8_amx_rows<1>;
          kernel(row_at(row), a.stride, a.scales + row, count, w, first + n, c + n * c_tile + row * kLanes);
        }
      }
      return;
    }
#endif
    for (int n = 0; n < tiles;) {
      const int step = tiles - n >= kGemvTiles ? kGemvTiles : 1;
      const auto kernel = step > 1 ? int8_gemv_block<kGemvTiles> : int8_gemv_block<1>;
      for (int row = 0; row < rows; ++row)
        kernel(row_at(row), a.scales[row], w, first + n, c + n * c_tile + row * kLanes, c_tile);
      n += step;
    }
  }
};

}  // namespace UNROLLED_ISA
}  // namespace unrolled
