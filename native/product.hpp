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
  Vec sums[R][N][kParts];
  UNROLLED_UNROLL for (int r = 0; r < R; ++r)
    UNROLLED_UNROLL for (int n = 0; n < N; ++n)
      UNROLLED_UNROLL for (int i = 0; i < kParts; ++i) sums[r][n][i] = more ? load(c + n * c_tile + r * kLanes + i * kWidth) : Vec{};
  for (int k = 0; k < K; ++k) {
    Vec column[N][kParts];
    UNROLLED_UNROLL for (int n = 0; n < N; ++n)
      UNROLLED_UNROLL for (int i = 0; i < kParts; ++i) column[n][i] = load(b + n * tile + static_cast<size_t>(k) * kLanes + i * kWidth);
    UNROLLED_UNROLL for (int r = 0; r < R; ++r) {
      const Vec value = broadcast(a + r * lda + k);
      UNROLLED_UNROLL for (int n = 0; n < N; ++n)
        UNROLLED_UNROLL for (int i = 0; i < kParts; ++i) sums[r][n][i] = multiply_add(value, column[n][i], sums[r][n][i]);
    }
  }
  UNROLLED_UNROLL for (int r = 0; r < R; ++r)
    UNROLLED_UNROLL for (int n = 0; n < N; ++n)
      UNROLLED_UNROLL for (int i = 0; i < kParts; ++i) store(c + n * c_tile + r * kLanes + i * kWidth, sums[r][n][i]);
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
// Tile registers of 16 rows of 64 bytes: 0 and 1 hold sums, 2 columns of b, 3 rows of a. Registers 4 to 6 have as many rows as
// are left where a product's are no multiple of 16: 4 those of a, 5 and 6 their sums.
struct alignas(64) TileConfiguration {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16};
  explicit TileConfiguration(int left) {
    for (int tile = 4; tile < 7 && left > 0; ++tile) bytes[tile] = 64, rows[tile] = static_cast<uint8_t>(left);
  }
};

// Tile registers are set up while one of these lives; each thread needs its own.
struct Tiles {
  explicit Tiles(int rows = 0) { configure(rows % 16); }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

  // Have the last `left` rows of products, fewer than 16, in registers of their own.
  static void leave(int left) {
    if (left != left_now()) configure(left);
  }

 private:
  static int& left_now() {
    static thread_local int left __attribute__((tls_model("initial-exec"))) = 0;
    return left;
  }
  static void configure(int left) {
    const TileConfiguration configuration(left);
    asm volatile("" : : "r"(&configuration) : "memory");  // GCC takes the next line for one that reads 8 bytes, and keeps the others
    _tile_loadconfig(&configuration);
    left_now() = left;
  }
};

constexpr int kAheadBytes = 2048;  // of b that are called for before they are needed: they come from the second-level cache

// Half of the tile of columns that is so far behind the one at `column`. Between two products it does not keep either waiting.
UNROLLED_INLINE void call_ahead(const void* column, int half) {
  const char* from = static_cast<const char*>(column) + kAheadBytes + half * 512;
  for (int line = 0; line < 8; ++line) _mm_prefetch(from + line * 64, _MM_HINT_T0);
}

// Where sums are: rows `row` floats apart, a tile of columns `tile` floats from the one before.
struct Sums {
  float* at;
  size_t row, tile;
  Sums operator+(size_t floats) const { return {at + floats, row, tile}; }
  float* of(int block, int column) const { return at + static_cast<size_t>(block) * 16 * row + static_cast<size_t>(column) * tile; }
};

// M by N tiles of sums, M blocks of 16 rows of a by N tiles of b; the last block has fewer rows, if `Short`. They go `to` a
// place, and begin with what is in another, `from`, or with zero, where there is none. `Far`: what is behind the tile at `from`
// in memory is called for, since it is the next one's.
//
// Four registers of eight, and up to three more where rows are left, and operands set to zero once they have been used, which
// gives their register back. Where two threads share a core, as they do on most rented machines, the processor has about ten
// to rename them to, and what is written waits for one. Alone it makes no difference. `benchmarks/LOG.md` has the figures.
template <int M, int N, bool Short = false, bool Far = false>
static inline void tiled(const bfloat16* a, size_t lda, int K, const bfloat16* b, size_t tile, const Sums& from, const Sums& to) {
  constexpr int kFull = Short ? M - 1 : M;
  static_assert(kFull * N <= 2 && N <= 2, "There are two registers for sums, and two for those of what is left.");
  const size_t stride = lda * sizeof(bfloat16), from_row = from.row * sizeof(float), to_row = to.row * sizeof(float);
// Does something with the register of each tile of sums, given its block of rows and its tile of columns.
#define UNROLLED_EACH_SUM(does)                        \
  do {                                                 \
    if constexpr (kFull > 0) does(0, 0, 0);            \
    if constexpr (kFull > 1) does(1, 1, 0);            \
    if constexpr (kFull > 0 && N > 1) does(1, 0, 1);   \
    if constexpr (Short) does(5, M - 1, 0);            \
    if constexpr (Short && N > 1) does(6, M - 1, 1);   \
  } while (false)
#define UNROLLED_ZERO(sum, block, column) _tile_zero(sum)
#define UNROLLED_LOAD(sum, block, column) _tile_loadd(sum, from.of(block, column), from_row)
#define UNROLLED_STORE(sum, block, column) _tile_stored(sum, to.of(block, column), to_row)
  if (from.at == nullptr)
    UNROLLED_EACH_SUM(UNROLLED_ZERO);
  else
    UNROLLED_EACH_SUM(UNROLLED_LOAD);
  for (int k = 0; k < K; k += 32) {
    const bfloat16* column = b + static_cast<size_t>(k) * kLanes;
    if constexpr (Far)
      for (int line = 0; line < 4; ++line) __builtin_prefetch(from.at + (M * 16 + k / 8 + line) * from.row, 1);
    _tile_loadd(2, column, 64);
    if constexpr (kFull > 0) {
      _tile_loadd(3, a + k, stride);
      _tile_dpbf16ps(0, 3, 2);
    }
    for (int n = 0; n < N; ++n) call_ahead(column + n * tile, 0);
    if constexpr (kFull > 1) {
      _tile_zero(3);
      _tile_loadd(3, a + 16 * lda + k, stride);
      _tile_dpbf16ps(1, 3, 2);
    }
    if constexpr (Short) {
      _tile_loadd(4, a + (M - 1) * 16 * lda + k, stride);
      _tile_dpbf16ps(5, 4, 2);
    }
    if constexpr (N > 1) {
      _tile_zero(2);
      _tile_loadd(2, column + tile, 64);
      if constexpr (kFull > 0) _tile_dpbf16ps(1, 3, 2);
      if constexpr (Short) _tile_dpbf16ps(6, 4, 2);
    }
    _tile_zero(2);
    if constexpr (kFull > 0) _tile_zero(3);
    if constexpr (Short) _tile_zero(4);
    for (int n = 0; n < N; ++n) call_ahead(column + n * tile, 1);
  }
  UNROLLED_EACH_SUM(UNROLLED_STORE);
#undef UNROLLED_EACH_SUM
#undef UNROLLED_ZERO
#undef UNROLLED_LOAD
#undef UNROLLED_STORE
}

constexpr int kTileDeep = 256;  // 32 rows of a so deep stay in the first-level cache, or a thread's half of it, while tiles pass by

// M blocks of rows by all tiles. Fewer than 16 rows are there as a whole anyway.
template <int M, bool Short = false>
static inline void tiled_block(const bfloat16* a, size_t lda, int K, const bfloat16* b, int tiles, const Sums& c) {
  const size_t tile = static_cast<size_t>(K) * kLanes;
  const int most = M == 1 && Short ? K : kTileDeep;
  for (int k = 0; k < K; k += most) {
    const int deep = K - k < most ? K - k : most;
    const bfloat16* column = b + static_cast<size_t>(k) * kLanes;
    const auto from = [&](const Sums& to) { return Sums{k == 0 ? nullptr : to.at, to.row, to.tile}; };
    int n = 0;
    if constexpr (M == 1)
      for (; n + 2 <= tiles; n += 2) {
        const Sums to = c + n * c.tile;
        tiled<1, 2, Short>(a + k, lda, deep, column + n * tile, tile, from(to), to);
      }
    for (; n < tiles; ++n) {
      const Sums to = c + n * c.tile;
      tiled<M, 1, Short>(a + k, lda, deep, column + n * tile, tile, from(to), to);
    }
  }
}

// Rows are taken in pairs of blocks of 16; what is left after them goes with the last pair, or block.
static inline void product(const bfloat16* a, size_t lda, int rows, int K, const bfloat16* b, int tiles, float* c,
                           size_t c_tile, size_t c_row = kLanes) {
  const int left = rows % 16, blocks = rows / 16, pairs = left > 0 && blocks % 2 == 0 && blocks > 0 ? blocks / 2 - 1 : blocks / 2;
  const auto at = [&](int block) { return Sums{c + static_cast<size_t>(block) * 16 * c_row, c_row, c_tile}; };
  for (int pair = 0; pair < pairs; ++pair) tiled_block<2>(a + pair * 32 * lda, lda, K, b, tiles, at(2 * pair));
  const bfloat16* last = a + static_cast<size_t>(pairs) * 32 * lda;
  if (left > 0) {
    Tiles::leave(left);
    if (blocks - 2 * pairs == 2) tiled_block<3, true>(last, lda, K, b, tiles, at(2 * pairs));
    if (blocks - 2 * pairs == 1) tiled_block<2, true>(last, lda, K, b, tiles, at(2 * pairs));
    if (blocks - 2 * pairs == 0) tiled_block<1, true>(last, lda, K, b, tiles, at(2 * pairs));
  } else if (blocks > 2 * pairs) {
    tiled_block<1>(last, lda, K, b, tiles, at(2 * pairs));
  }
}
#else
struct Tiles {
  explicit Tiles(int = 0) {}
};
#endif

}  // namespace UNROLLED_SET
}  // namespace unrolled
