// Matrix products with one side packed: c = a b, for the rows of one step or of many.
//
// `a` has rows of K numbers, `lda` apart. `b` is packed in tiles of 16 columns, each K x 16 numbers:
//   float32   tile[k][16]
//   bfloat16  tile[k / 2][16][2], the pairs that the processor multiplies at once; K a multiple of 32
// `c` comes in tiles of 16 columns as well, each row 16 floats: c[tile][row][16].
#pragma once

#include <cstddef>

#include "vector.hpp"

namespace unrolled {
namespace UNROLLED_SET {

// Rows at once, and tiles at once: as many sums as there are registers for.
#if defined(__AVX512F__)
constexpr int kRows = 6, kTiles = 4;
#elif defined(__AVX2__)
constexpr int kRows = 6, kTiles = 1;
#elif defined(__aarch64__)
constexpr int kRows = 6, kTiles = 1;
#else
constexpr int kRows = 2, kTiles = 1;
#endif

// Sums of R rows and N tiles. Adds to what c holds, if `more`.
template <int R, int N>
static inline void block(const float* a, size_t lda, int K, const float* b, size_t tile, float* c, size_t c_tile,
                         bool more = false) {
  Vec sums[R][N][kParts] = {};
  if (more)
    for (int r = 0; r < R; ++r)
      for (int n = 0; n < N; ++n)
        for (int i = 0; i < kParts; ++i) sums[r][n][i] = load(c + n * c_tile + r * kLanes + i * kWidth);
  for (int k = 0; k < K; ++k) {
    Vec column[N][kParts];
    for (int n = 0; n < N; ++n)
      for (int i = 0; i < kParts; ++i) column[n][i] = load(b + n * tile + static_cast<size_t>(k) * kLanes + i * kWidth);
    for (int r = 0; r < R; ++r) {
      const Vec value = all(a[r * lda + k]);
      for (int n = 0; n < N; ++n)
        for (int i = 0; i < kParts; ++i) sums[r][n][i] = multiply_add(value, column[n][i], sums[r][n][i]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n)
      for (int i = 0; i < kParts; ++i) store(c + n * c_tile + r * kLanes + i * kWidth, sums[r][n][i]);
}

#if defined(__AVX512BF16__)
static inline int pair_at(const bfloat16* from) {
  int bits;
  std::memcpy(&bits, from, 4);
  return bits;
}

template <int R, int N>
static inline void block(const bfloat16* a, size_t lda, int K, const bfloat16* b, size_t tile, float* c, size_t c_tile,
                         bool more = false) {
  __m512 sums[R][N];
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) sums[r][n] = more ? load(c + n * c_tile + r * kLanes) : _mm512_setzero_ps();
  for (int k = 0; k < K; k += 2) {
    __m512bh column[N];
    for (int n = 0; n < N; ++n)
      column[n] = (__m512bh)_mm512_loadu_si512(b + n * tile + static_cast<size_t>(k) * kLanes);
    for (int r = 0; r < R; ++r) {
      const __m512bh value = (__m512bh)_mm512_set1_epi32(pair_at(a + r * lda + k));
      for (int n = 0; n < N; ++n) sums[r][n] = _mm512_dpbf16_ps(sums[r][n], value, column[n]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) store(c + n * c_tile + r * kLanes, sums[r][n]);
}
#endif

constexpr int kNear = 2048;  // bytes of a column of b that stay in the first-level cache while all rows of a pass by

template <int N, typename T>
static inline void some_rows(const T* a, size_t lda, int rows, int K, const T* b, size_t tile, float* c, size_t c_tile) {
  constexpr int kDeep = kNear / (N * static_cast<int>(sizeof(T)));
  for (int k = 0; k < K; k += kDeep) {
    const int deep = K - k < kDeep ? K - k : kDeep;
    const T *from = b + static_cast<size_t>(k) * kLanes, *at = a + k;
    int row = 0;
    for (; row + kRows <= rows; row += kRows)
      block<kRows, N>(at + row * lda, lda, deep, from, tile, c + row * kLanes, c_tile, k > 0);
    for (; row + 2 <= rows; row += 2)
      block<2, N>(at + row * lda, lda, deep, from, tile, c + row * kLanes, c_tile, k > 0);
    for (; row < rows; ++row) block<1, N>(at + row * lda, lda, deep, from, tile, c + row * kLanes, c_tile, k > 0);
  }
}

template <typename T>
static inline void product_by_lanes(const T* a, size_t lda, int rows, int K, const T* b, int tiles, float* c,
                                    size_t c_tile) {
  const size_t tile = static_cast<size_t>(K) * kLanes;
  int n = 0;
  for (; n + kTiles <= tiles; n += kTiles) some_rows<kTiles>(a, lda, rows, K, b + n * tile, tile, c + n * c_tile, c_tile);
  for (; n < tiles; ++n) some_rows<1>(a, lda, rows, K, b + n * tile, tile, c + n * c_tile, c_tile);
}

static inline void product(const float* a, size_t lda, int rows, int K, const float* b, int tiles, float* c, size_t c_tile) {
  product_by_lanes(a, lda, rows, K, b, tiles, c, c_tile);
}

#if defined(__AVX512BF16__) && !defined(__AMX_TILE__)
static inline void product(const bfloat16* a, size_t lda, int rows, int K, const bfloat16* b, int tiles, float* c,
                           size_t c_tile) {
  product_by_lanes(a, lda, rows, K, b, tiles, c, c_tile);
}
#endif

#if defined(__AMX_TILE__)
// Tile registers 0 and 1 hold sums, the others rows of a and columns of b; all are 16 rows of 64 bytes.
struct alignas(64) TileConfiguration {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16};
};

// Tile registers are set up while one of these lives; each thread needs its own.
struct Tiles {
  Tiles() {
    static const TileConfiguration configuration;
    _tile_loadconfig(&configuration);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

constexpr int kAhead = 1024;  // numbers of b that are called for before they are needed: they come from the second-level cache

// M by N tiles of 16 x 16 sums, two at most; those of c are rows `c_row` floats apart, a tile of columns `c_tile` floats from the
// one before. `below` has the second 16 rows. Adds to what c holds, if `more`.
//
// Five registers of eight. Where two threads share a core, as they do on most rented machines, the processor has no others to
// rename them to: with six and more, every load waits for a product (37 ns a product for 2 x 2 tiles in eight registers, 20 for
// two in five). Alone they are equals.
template <int M, int N>
static inline void tiled(const bfloat16* a, const bfloat16* below, size_t lda, int K, const bfloat16* b, size_t tile, float* c,
                         size_t c_tile, bool more, size_t c_row = kLanes) {
  static_assert(M * N <= 2, "There are two registers for sums.");
  const size_t stride = lda * sizeof(bfloat16), c_stride = c_row * sizeof(float);
  float* second = M > 1 ? c + 16 * c_row : c + c_tile;
  if (more) {
    _tile_loadd(0, c, c_stride);
    if constexpr (M * N > 1) _tile_loadd(1, second, c_stride);
  } else {
    _tile_zero(0);
    if constexpr (M * N > 1) _tile_zero(1);
  }
  for (int k = 0; k < K; k += 32) {
    const bfloat16* column = b + static_cast<size_t>(k) * kLanes;
    for (int n = 0; n < N; ++n)
      for (int line = 0; line < 16; ++line) _mm_prefetch(column + n * tile + kAhead + line * 32, _MM_HINT_T0);
    _tile_loadd(2, column, 64);
    _tile_loadd(3, a + k, stride);
    if constexpr (M > 1) _tile_loadd(4, below + k, stride);
    if constexpr (N > 1) _tile_loadd(4, column + tile, 64);
    _tile_dpbf16ps(0, 3, 2);
    if constexpr (M > 1) _tile_dpbf16ps(1, 4, 2);
    if constexpr (N > 1) _tile_dpbf16ps(1, 3, 4);
  }
  _tile_stored(0, c, c_stride);
  if constexpr (M * N > 1) _tile_stored(1, second, c_stride);
}

constexpr int kTileDeep = 512;  // 32 rows of a so deep stay in the first-level cache while all tiles of b pass by

// Two blocks of 16 rows, wherever they are, or one, by all tiles; added to what c holds, if `more`.
template <int M>
static inline void tiled_block(const bfloat16* a, const bfloat16* below, size_t lda, int K, const bfloat16* b, int tiles, float* c,
                               size_t c_tile, size_t c_row = kLanes, bool more = false) {
  const size_t tile = static_cast<size_t>(K) * kLanes;
  for (int k = 0; k < K; k += kTileDeep) {
    const int deep = K - k < kTileDeep ? K - k : kTileDeep;
    const bfloat16* from = b + static_cast<size_t>(k) * kLanes;
    int n = 0;
    if constexpr (M == 1)
      for (; n + 2 <= tiles; n += 2)
        tiled<1, 2>(a + k, nullptr, lda, deep, from + n * tile, tile, c + n * c_tile, c_tile, more || k > 0, c_row);
    for (; n < tiles; ++n)
      tiled<M, 1>(a + k, below + k, lda, deep, from + n * tile, tile, c + n * c_tile, c_tile, more || k > 0, c_row);
  }
}

// Rows are a multiple of 16 here; the caller pads.
static inline void product(const bfloat16* a, size_t lda, int rows, int K, const bfloat16* b, int tiles, float* c,
                           size_t c_tile, size_t c_row = kLanes) {
  int row = 0;
  for (; row + 32 <= rows; row += 32)
    tiled_block<2>(a + row * lda, a + (row + 16) * lda, lda, K, b, tiles, c + row * c_row, c_tile, c_row);
  if (row < rows) tiled_block<1>(a + row * lda, a, lda, K, b, tiles, c + row * c_row, c_tile, c_row);
}
#else
struct Tiles {};
#endif

}  // namespace UNROLLED_SET
}  // namespace unrolled
