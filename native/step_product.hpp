// Products of the streams' rows with weights in tiles, by precision; weights are read once, whatever the number of rows.
//
// Every sum is added up in an order that the number of rows does not change: what a stream draws is the same alone and among
// others. A `Rows` has what products read; a precision says how rows are written and multiplied.
#pragma once

#include <algorithm>
#include <cmath>

#include "product.hpp"
#include "step.hpp"

namespace unrolled {
namespace UNROLLED_SET {

struct Rows {
  char* data;
  size_t stride;  // bytes
  float* scales;  // int8: of each row
};

// One row needs as many sums at once as many rows have, or it waits for each addition.
constexpr int kTilesOfOne = kWidth == 4 ? 2 : 4;

template <int N>
static inline void one_row(const float* a, int K, const float* b, size_t tile, float* c, size_t c_tile) {
  Vec sums[N][kParts] = {};
  for (int k = 0; k < K; ++k)
    for (int n = 0; n < N; ++n)
      for (int i = 0; i < kParts; ++i)
        sums[n][i] = multiply_add(all(a[k]), load(b + n * tile + static_cast<size_t>(k) * kLanes + i * kWidth), sums[n][i]);
  for (int n = 0; n < N; ++n)
    for (int i = 0; i < kParts; ++i) store(c + n * c_tile + i * kWidth, sums[n][i]);
}

#if defined(__AVX512BF16__)
template <int N>
static inline void one_row(const bfloat16* a, int K, const bfloat16* b, size_t tile, float* c, size_t c_tile) {
  __m512 sums[N];
  for (int n = 0; n < N; ++n) sums[n] = _mm512_setzero_ps();
  for (int k = 0; k < K; k += 2) {
    const __m512bh value = (__m512bh)_mm512_set1_epi32(pair_at(a + k));
    for (int n = 0; n < N; ++n) {
      const __m512i column = _mm512_loadu_si512(b + n * tile + static_cast<size_t>(k) * kLanes);
      sums[n] = _mm512_dpbf16_ps(sums[n], value, (__m512bh)column);
    }
  }
  for (int n = 0; n < N; ++n) store(c + n * c_tile, sums[n]);
}
#endif

template <typename T>
static inline void by_lanes(const T* a, size_t lda, int rows, int K, const T* b, int tiles, float* c, size_t c_tile) {
  if (rows > 1) return product_by_lanes(a, lda, rows, K, b, tiles, c, c_tile);
  const size_t tile = static_cast<size_t>(K) * kLanes;
  int n = 0;
  for (; n + kTilesOfOne <= tiles; n += kTilesOfOne) one_row<kTilesOfOne>(a, K, b + n * tile, tile, c + n * c_tile, c_tile);
  for (; n < tiles; ++n) one_row<1>(a, K, b + n * tile, tile, c + n * c_tile, c_tile);
}

struct InFloat32 {
  static constexpr bool exact = true;
  static constexpr size_t bytes = 4;  // of a number that is read
  struct Setup {
    explicit Setup(int) {}
  };
  static void put(const Rows& rows, int row, int k, const Lanes& value) {
    write(reinterpret_cast<float*>(rows.data + row * rows.stride) + k, value);
  }
  static void put_row(const Rows& rows, int row, const float* values, int K) {
    for (int k = 0; k < K; k += kLanes) put(rows, row, k, read(values + k));
  }
  static void multiply(const Rows& a, int rows, const Packed& w, int first, int tiles, float* c, size_t c_tile) {
    by_lanes(reinterpret_cast<const float*>(a.data), a.stride / 4, rows, w.K,
             reinterpret_cast<const float*>(w.data + first * w.tile), tiles, c, c_tile);
  }
};

#if defined(__AMX_TILE__)
static inline void for_bfloat16(const bfloat16* a, size_t stride, int rows, int K, const bfloat16* b, int tiles, float* c,
                                size_t c_tile) {
  product(a, stride / 2, rows, K, b, tiles, c, c_tile);
}
#elif defined(__AVX512BF16__)
static inline void for_bfloat16(const bfloat16* a, size_t stride, int rows, int K, const bfloat16* b, int tiles, float* c,
                                size_t c_tile) {
  by_lanes(a, stride / 2, rows, K, b, tiles, c, c_tile);
}
#else
// Without products in bfloat16, weights are widened as they come: half the bytes all the same.
template <int R, int N>
static inline void widening(const float* a, size_t lda, int K, const bfloat16* b, size_t tile, float* c, size_t c_tile) {
  Vec sums[R][N][kParts] = {};
  for (int k = 0; k < K; k += 2) {
    for (int n = 0; n < N; ++n) {
      for (int i = 0; i < kParts; ++i) {
        const Vec loaded = load(reinterpret_cast<const float*>(b + n * tile + static_cast<size_t>(k) * kLanes) + i * kWidth);
        const VecInt pairs = reinterpret_cast<VecInt>(loaded);
        const Vec even = reinterpret_cast<Vec>(pairs << 16), odd = reinterpret_cast<Vec>(pairs & ~0xffff);
        for (int r = 0; r < R; ++r) {
          sums[r][n][i] = multiply_add(all(a[r * lda + k]), even, sums[r][n][i]);
          sums[r][n][i] = multiply_add(all(a[r * lda + k + 1]), odd, sums[r][n][i]);
        }
      }
    }
  }
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n)
      for (int i = 0; i < kParts; ++i) store(c + n * c_tile + r * kLanes + i * kWidth, sums[r][n][i]);
}

static inline void for_bfloat16(const float* a, size_t stride, int rows, int K, const bfloat16* b, int tiles, float* c,
                                size_t c_tile) {
  const size_t lda = stride / 4, tile = static_cast<size_t>(K) * kLanes;
  int n = 0;
  if (rows == 1)
    for (; n + kTilesOfOne <= tiles; n += kTilesOfOne)
      widening<1, kTilesOfOne>(a, lda, K, b + n * tile, tile, c + n * c_tile, c_tile);
  for (; n < tiles; ++n) {
    int row = 0;
    for (; row + 4 <= rows; row += 4)
      widening<4, 1>(a + row * lda, lda, K, b + n * tile, tile, c + n * c_tile + row * kLanes, c_tile);
    for (; row < rows; ++row)
      widening<1, 1>(a + row * lda, lda, K, b + n * tile, tile, c + n * c_tile + row * kLanes, c_tile);
  }
}
#endif

struct InBfloat16 {
  static constexpr bool exact = false;
#if defined(__AVX512BF16__)
  using Number = bfloat16;
#else
  using Number = float;
#endif
  static constexpr size_t bytes = sizeof(Number);
  using Setup = Tiles;
  static void put(const Rows& rows, int row, int k, const Lanes& value) {
    write(reinterpret_cast<Number*>(rows.data + row * rows.stride) + k, value);
  }
  static void put_row(const Rows& rows, int row, const float* values, int K) {
    for (int k = 0; k < K; k += kLanes) put(rows, row, k, read(values + k));
  }
  static void multiply(const Rows& a, int rows, const Packed& w, int first, int tiles, float* c, size_t c_tile) {
    for_bfloat16(reinterpret_cast<const Number*>(a.data), a.stride, rows, w.K,
                 reinterpret_cast<const bfloat16*>(w.data + first * w.tile), tiles, c, c_tile);
  }
};

// int8 weights times numbers of 8 bits, from 1 to 255, zero at 128. Sums of whole numbers are exact, so that only weights and
// what they are times are rounded, and the order of adding does not matter.
constexpr float kWhole = kMostWhole;

#if defined(__AVX512VNNI__)
// Sums as what they stand for.
static inline Vec in_floats(__m512i sums, __m512i middle, Vec of_column, float of_row) {
  return _mm512_cvtepi32_ps(_mm512_sub_epi32(sums, middle)) * (of_column * all(of_row));
}

template <int N>
static inline void whole(const uint8_t* a, float scale, const Packed& w, int tile, float* c, size_t c_tile) {
  __m512i sums[N];
  for (int n = 0; n < N; ++n) sums[n] = _mm512_setzero_si512();
  const char* from = w.data + tile * w.tile;
  for (int k = 0; k < w.K; k += 4) {
    int four;
    std::memcpy(&four, a + k, 4);
    const __m512i numbers = _mm512_set1_epi32(four);
    for (int n = 0; n < N; ++n) {
      const __m512i column = _mm512_loadu_si512(from + n * w.tile + static_cast<size_t>(k) * kLanes);
      sums[n] = _mm512_dpbusd_epi32(sums[n], numbers, column);
    }
  }
  for (int n = 0; n < N; ++n)
    store(c + n * c_tile, in_floats(sums[n], _mm512_loadu_si512(w.middle + (tile + n) * kLanes),
                                    load(w.scales + (tile + n) * kLanes), scale));
}
#else
template <int N>
static inline void whole(const uint8_t* a, float scale, const Packed& w, int tile, float* c, size_t c_tile) {
  for (int n = 0; n < N; ++n) {
    int32_t sums[kLanes] = {};
    const auto* from = reinterpret_cast<const int8_t*>(w.data + (tile + n) * w.tile);
    for (int k = 0; k < w.K; k += 4)
      for (int lane = 0; lane < kLanes; ++lane)
        for (int i = 0; i < 4; ++i) sums[lane] += a[k + i] * from[static_cast<size_t>(k) * kLanes + lane * 4 + i];
    const int first = (tile + n) * kLanes;
    for (int lane = 0; lane < kLanes; ++lane)
      c[n * c_tile + lane] = static_cast<float>(sums[lane] - w.middle[first + lane]) * (w.scales[first + lane] * scale);
  }
}
#endif

#if defined(__AMX_INT8__)
constexpr int kRowsForTiles = 3;  // two are as fast one by one, or faster where the network is small

// M blocks of sixteen rows, of which `rows` count, by a tile of weights. Registers 0 and 1 hold sums; see `tiled` for the order.
template <int M>
static inline void whole_rows(const uint8_t* a, size_t stride, const float* scales, int rows, const Packed& w, int tile,
                              float* c) {
  const char* b = w.data + tile * w.tile;
  _tile_zero(0);
  if constexpr (M > 1) _tile_zero(1);
  for (int k = 0; k < w.K; k += 64) {
    const char* column = b + static_cast<size_t>(k) * kLanes;
    _tile_loadd(2, column, 64);
    _tile_loadd(3, a + k, stride);
    _tile_dpbusd(0, 3, 2);
    call_ahead(column, 0);
    if constexpr (M > 1) {
      _tile_zero(3);
      _tile_loadd(3, a + kRowBlock * stride + k, stride);
      _tile_dpbusd(1, 3, 2);
    }
    _tile_zero(2);
    _tile_zero(3);
    call_ahead(column, 1);
  }
  alignas(64) int32_t sums[M * kRowBlock][kLanes];
  _tile_stored(0, sums[0], 64);
  if constexpr (M > 1) _tile_stored(1, sums[kRowBlock], 64);
  const __m512i middle = _mm512_loadu_si512(w.middle + tile * kLanes);
  const Vec of_column = load(w.scales + tile * kLanes);
  for (int row = 0; row < rows; ++row)
    store(c + row * kLanes, in_floats(_mm512_load_si512(sums[row]), middle, of_column, scales[row]));
}
#endif

struct InInt8 {
  static constexpr bool exact = false;
  static constexpr size_t bytes = 1;
  using Setup = Tiles;
  // Sixteen numbers from k on; what is no number becomes the least one.
  static void put_scaled(const Rows& rows, int row, int k, const Lanes& scaled) {
    auto* to = reinterpret_cast<uint8_t*>(rows.data + row * rows.stride) + k;
#if defined(__AVX512F__)
    const __m512 least = _mm512_set1_ps(-kWhole), most = _mm512_set1_ps(kWhole);
    const __m512 bounded = _mm512_min_ps(most, _mm512_max_ps(scaled.part[0], least));
    const __m512i number = _mm512_add_epi32(_mm512_cvtps_epi32(bounded), _mm512_set1_epi32(kMiddleWhole));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(number));
#else
    alignas(64) float values[kLanes];
    write(values, scaled);
    for (int i = 0; i < kLanes; ++i) {
      const float bounded = values[i] > kWhole ? kWhole : values[i] >= -kWhole ? values[i] : -kWhole;
      to[i] = static_cast<uint8_t>(static_cast<int>(std::nearbyint(bounded)) + kMiddleWhole);
    }
#endif
  }
  // Outputs of cells are from -1 to 1, and the scales of their rows 1 / kWhole.
  static void put(const Rows& rows, int row, int k, const Lanes& value) { put_scaled(rows, row, k, value * splat(kWhole)); }
  static void put_row(const Rows& rows, int row, const float* values, int K) {
    Lanes most16 = splat(1e-30f);
    for (int k = 0; k < K; k += kLanes) most16 = larger(most16, larger(read(values + k), splat(0.0f) - read(values + k)));
    const float most = largest_of(most16);
    const Lanes per_unit = splat(kWhole / most);
    for (int k = 0; k < K; k += kLanes) put_scaled(rows, row, k, read(values + k) * per_unit);
    rows.scales[row] = most / kWhole;
  }
  static void multiply(const Rows& a, int rows, const Packed& w, int first, int tiles, float* c, size_t c_tile) {
    const auto row_at = [&](int row) { return reinterpret_cast<const uint8_t*>(a.data + row * a.stride); };
#if defined(__AMX_INT8__)
    if (rows >= kRowsForTiles) {
      for (int row = 0; row < rows; row += 2 * kRowBlock) {
        const int count = std::min(rows - row, 2 * kRowBlock);
        for (int n = 0; n < tiles; ++n) {
          const auto go = count > kRowBlock ? whole_rows<2> : whole_rows<1>;
          go(row_at(row), a.stride, a.scales + row, count, w, first + n, c + n * c_tile + row * kLanes);
        }
      }
      return;
    }
#endif
    for (int n = 0; n < tiles;) {
      const int step = tiles - n >= kTilesOfOne ? kTilesOfOne : 1;
      const auto go = step > 1 ? whole<kTilesOfOne> : whole<1>;
      for (int row = 0; row < rows; ++row) go(row_at(row), a.scales[row], w, first + n, c + n * c_tile + row * kLanes, c_tile);
      n += step;
    }
  }
};

}  // namespace UNROLLED_SET
}  // namespace unrolled
