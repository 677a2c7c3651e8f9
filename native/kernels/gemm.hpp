// Matrix products with one side packed: c = a b, for the rows of one step or of many.
//
// `a` has rows of K numbers, `lda` apart. `b` is packed in tiles of 16 columns, each K x 16 numbers:
//   float32   tile[k][16]
//   bfloat16  tile[k / 2][16][2], the pairs that the processor multiplies at once; K a multiple of 32
// `c` comes in tiles of 16 columns as well, `c_tile` floats apart, their rows `c_row` apart: c[tile][row][16], unless
// said otherwise.
#pragma once

#include <cstddef>

#include "kernels/simd.hpp"

namespace unrolled {
namespace UNROLLED_ISA {

// Rows at once, and tiles at once: as many sums as there are registers for.
#if defined(__AVX512F__)
constexpr int kBlockRows = 6, kBlockTiles = 4;
#elif defined(__AVX2__)
constexpr int kBlockRows = 6, kBlockTiles = 1;
#elif defined(__aarch64__)
constexpr int kBlockRows = 6, kBlockTiles = 1;
#else
constexpr int kBlockRows = 2, kBlockTiles = 1;
#endif

// Where sums are: rows `row` floats apart, a tile of columns `tile` floats from the one before.
struct TileOutput {
  float* data;
  size_t row_stride, tile_stride;
  TileOutput operator+(size_t offset) const { return {data + offset, row_stride, tile_stride}; }
  float* address(int row_block, int column) const {
    return data + static_cast<size_t>(row_block) * 16 * row_stride + static_cast<size_t>(column) * tile_stride;
  }
};

// Sums of R rows and N tiles. Adds to what c holds, if `accumulate`.
template <int R, int N>
static inline void gemm_block(const float* a, size_t lda, int K, const float* b, size_t tile, float* c, size_t c_tile,
                              size_t c_row, bool accumulate) {
  Vec sums[R][N][kVecsPer16];
  UNROLLED_FOR (r, R)
    UNROLLED_FOR (n, N)
      UNROLLED_FOR (i, kVecsPer16)
        sums[r][n][i] = accumulate ? load_vec(c + n * c_tile + r * c_row + i * kVecWidth) : Vec{};
  for (int k = 0; k < K; ++k) {
    Vec column[N][kVecsPer16];
    UNROLLED_FOR (n, N)
      UNROLLED_FOR (i, kVecsPer16)
        column[n][i] = load_vec(b + n * tile + static_cast<size_t>(k) * kLanes + i * kVecWidth);
    UNROLLED_FOR (r, R) {
      const Vec value = broadcast(a + r * lda + k);
      UNROLLED_FOR (n, N)
        UNROLLED_FOR (i, kVecsPer16) sums[r][n][i] = fma_vec(value, column[n][i], sums[r][n][i]);
    }
  }
  UNROLLED_FOR (r, R)
    UNROLLED_FOR (n, N)
      UNROLLED_FOR (i, kVecsPer16) store_vec(c + n * c_tile + r * c_row + i * kVecWidth, sums[r][n][i]);
}

#if defined(__AVX512BF16__)
static inline int load_pair(const bfloat16* from) {
  int bits;
  std::memcpy(&bits, from, 4);
  return bits;
}

template <int R, int N>
static inline void gemm_block(const bfloat16* a, size_t lda, int K, const bfloat16* b, size_t tile, float* c,
                              size_t c_tile, size_t c_row, bool accumulate) {
  __m512 sums[R][N];
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) sums[r][n] = accumulate ? load_vec(c + n * c_tile + r * c_row) : _mm512_setzero_ps();
  for (int k = 0; k < K; k += 2) {
    __m512bh column[N];
    for (int n = 0; n < N; ++n)
      column[n] = (__m512bh)_mm512_loadu_si512(b + n * tile + static_cast<size_t>(k) * kLanes);
    for (int r = 0; r < R; ++r) {
      const __m512bh value = (__m512bh)_mm512_set1_epi32(load_pair(a + r * lda + k));
      for (int n = 0; n < N; ++n) sums[r][n] = _mm512_dpbf16_ps(sums[r][n], value, column[n]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) store_vec(c + n * c_tile + r * c_row, sums[r][n]);
}
#endif

constexpr int kL1PanelBytes =
    2048;  // bytes of a column of b that stay in the first-level cache while all rows of a pass by

template <int N, typename T>
static inline void gemm_rows(const T* a, size_t lda, int rows, int K, const T* b, size_t tile, float* c, size_t c_tile,
                             size_t c_row) {
  constexpr int kPanelDepth = kL1PanelBytes / (N * static_cast<int>(sizeof(T)));
  for (int k = 0; k < K; k += kPanelDepth) {
    const int depth = K - k < kPanelDepth ? K - k : kPanelDepth;
    const T *from = b + static_cast<size_t>(k) * kLanes, *a_panel = a + k;
    int row = 0;
    for (; row + kBlockRows <= rows; row += kBlockRows)
      gemm_block<kBlockRows, N>(a_panel + row * lda, lda, depth, from, tile, c + row * c_row, c_tile, c_row, k > 0);
    for (; row + 2 <= rows; row += 2)
      gemm_block<2, N>(a_panel + row * lda, lda, depth, from, tile, c + row * c_row, c_tile, c_row, k > 0);
    for (; row < rows; ++row)
      gemm_block<1, N>(a_panel + row * lda, lda, depth, from, tile, c + row * c_row, c_tile, c_row, k > 0);
  }
}

template <typename T>
static inline void gemm_simd(const T* a, size_t lda, int rows, int K, const T* b, int tiles, float* c, size_t c_tile,
                             size_t c_row = kLanes) {
  const size_t tile = static_cast<size_t>(K) * kLanes;
  int n = 0;
  for (; n + kBlockTiles <= tiles; n += kBlockTiles)
    gemm_rows<kBlockTiles>(a, lda, rows, K, b + n * tile, tile, c + n * c_tile, c_tile, c_row);
  for (; n < tiles; ++n) gemm_rows<1>(a, lda, rows, K, b + n * tile, tile, c + n * c_tile, c_tile, c_row);
}

static inline void gemm(const float* a, size_t lda, int rows, int K, const float* b, int tiles, float* c,
                        size_t c_tile) {
  gemm_simd(a, lda, rows, K, b, tiles, c, c_tile);
}

#if defined(__AVX512BF16__) && !defined(__AMX_TILE__)
static inline void gemm(const bfloat16* a, size_t lda, int rows, int K, const bfloat16* b, int tiles, float* c,
                        size_t c_tile, size_t c_row = kLanes) {
  gemm_simd(a, lda, rows, K, b, tiles, c, c_tile, c_row);
}
#endif

#if !defined(__AMX_TILE__)
// Kernels make one in any case; only gemm_amx.hpp has registers to set up.
struct AmxTileConfig {
  explicit AmxTileConfig(int = 0) {}
};
#endif

}  // namespace UNROLLED_ISA
}  // namespace unrolled

#if defined(__AMX_TILE__)
#include "kernels/gemm_amx.hpp"
#endif
