// The bfloat16 matrix product of gemm.hpp in AMX tile registers. gemm.hpp includes this file where there are such
// registers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/simd.hpp"

namespace unrolled {
namespace UNROLLED_ISA {

// Tile registers of 16 rows of 64 bytes: 0 and 1 hold sums, 2 columns of b, 3 rows of a. Registers 4 to 6 have as many
// rows as are left where a product's are no multiple of 16: 4 those of a, 5 and 6 their sums.
struct alignas(64) AmxTileConfigData {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16};
  explicit AmxTileConfigData(int remainder_rows) {
    for (int tile = 4; tile < 7 && remainder_rows > 0; ++tile)
      bytes[tile] = 64, rows[tile] = static_cast<uint8_t>(remainder_rows);
  }
};

// Tile registers are set up while one of these lives; each thread needs its own.
struct AmxTileConfig {
  explicit AmxTileConfig(int rows = 0) { configure(rows % 16); }
  ~AmxTileConfig() { _tile_release(); }
  AmxTileConfig(const AmxTileConfig&) = delete;
  AmxTileConfig& operator=(const AmxTileConfig&) = delete;

  // Have the last `remainder_rows` rows of products, fewer than 16, in registers of their own.
  static void set_remainder_rows(int remainder_rows) {
    if (remainder_rows != current_remainder_rows()) configure(remainder_rows);
  }

 private:
  static int& current_remainder_rows() {
    static thread_local int remainder_rows __attribute__((tls_model("initial-exec"))) = 0;
    return remainder_rows;
  }
  static void configure(int remainder_rows) {
    const AmxTileConfigData configuration(remainder_rows);
    asm volatile(""
                 :
                 : "r"(&configuration)
                 : "memory");  // GCC takes the next line for one that reads 8 bytes, and keeps the others
    _tile_loadconfig(&configuration);
    current_remainder_rows() = remainder_rows;
  }
};

constexpr int kPrefetchBytes =
    2048;  // of b that are called for before they are needed: they come from the second-level cache

// Half of the tile of columns that is so far behind the one at `column`. Between two products it does not keep either
// waiting.
UNROLLED_INLINE void prefetch_b(const void* column, int half) {
  const char* from = static_cast<const char*>(column) + kPrefetchBytes + half * 512;
  for (int line = 0; line < 8; ++line) _mm_prefetch(from + line * 64, _MM_HINT_T0);
}

// M by N tiles of sums, M blocks of 16 rows of a by N tiles of b; the last block has fewer rows, if `HasRemainder`.
// They go `to` a place, and begin with what is in another, `from`, or with zero, where there is none. `PrefetchOutput`:
// what is behind the tile at `from` in memory is called for, since it is the next one's.
//
// Four registers of eight, and up to three more where rows are left, and operands set to zero once they have been used,
// which gives their register back. Where two threads share a core, as they do on most rented machines, the processor
// has about ten to rename them to, and what is written waits for one. Alone it makes no difference. `benchmarks/LOG.md`
// has the figures.
template <int M, int N, bool HasRemainder = false, bool PrefetchOutput = false>
static inline void amx_gemm_block(const bfloat16* a, size_t lda, int K, const bfloat16* b, size_t tile,
                                  const TileOutput& from, const TileOutput& to) {
  constexpr int kFullBlocks = HasRemainder ? M - 1 : M;
  static_assert(kFullBlocks * N <= 2 && N <= 2, "There are two registers for sums, and two for those of what is left.");
  const size_t stride = lda * sizeof(bfloat16), from_row = from.row_stride * sizeof(float),
               to_row = to.row_stride * sizeof(float);
// Does something with the register of each tile of sums, given its block of rows and its tile of columns.
#define UNROLLED_EACH_SUM(ACTION)                             \
  do {                                                        \
    if constexpr (kFullBlocks > 0) ACTION(0, 0, 0);           \
    if constexpr (kFullBlocks > 1) ACTION(1, 1, 0);           \
    if constexpr (kFullBlocks > 0 && N > 1) ACTION(1, 0, 1);  \
    if constexpr (HasRemainder) ACTION(5, M - 1, 0);          \
    if constexpr (HasRemainder && N > 1) ACTION(6, M - 1, 1); \
  } while (false)
#define UNROLLED_ZERO(sum, row_block, column) _tile_zero(sum)
#define UNROLLED_LOAD(sum, row_block, column) _tile_loadd(sum, from.address(row_block, column), from_row)
#define UNROLLED_STORE(sum, row_block, column) _tile_stored(sum, to.address(row_block, column), to_row)
  if (from.data == nullptr)
    UNROLLED_EACH_SUM(UNROLLED_ZERO);
  else
    UNROLLED_EACH_SUM(UNROLLED_LOAD);
  for (int k = 0; k < K; k += 32) {
    const bfloat16* column = b + static_cast<size_t>(k) * kLanes;
    if constexpr (PrefetchOutput)
      for (int line = 0; line < 4; ++line) __builtin_prefetch(from.data + (M * 16 + k / 8 + line) * from.row_stride, 1);
    _tile_loadd(2, column, 64);
    if constexpr (kFullBlocks > 0) {
      _tile_loadd(3, a + k, stride);
      _tile_dpbf16ps(0, 3, 2);
    }
    for (int n = 0; n < N; ++n) prefetch_b(column + n * tile, 0);
    if constexpr (kFullBlocks > 1) {
      _tile_zero(3);
      _tile_loadd(3, a + 16 * lda + k, stride);
      _tile_dpbf16ps(1, 3, 2);
    }
    if constexpr (HasRemainder) {
      _tile_loadd(4, a + (M - 1) * 16 * lda + k, stride);
      _tile_dpbf16ps(5, 4, 2);
    }
    if constexpr (N > 1) {
      _tile_zero(2);
      _tile_loadd(2, column + tile, 64);
      if constexpr (kFullBlocks > 0) _tile_dpbf16ps(1, 3, 2);
      if constexpr (HasRemainder) _tile_dpbf16ps(6, 4, 2);
    }
    _tile_zero(2);
    if constexpr (kFullBlocks > 0) _tile_zero(3);
    if constexpr (HasRemainder) _tile_zero(4);
    for (int n = 0; n < N; ++n) prefetch_b(column + n * tile, 1);
  }
  UNROLLED_EACH_SUM(UNROLLED_STORE);
#undef UNROLLED_EACH_SUM
#undef UNROLLED_ZERO
#undef UNROLLED_LOAD
#undef UNROLLED_STORE
}

constexpr int kAmxDepth =
    256;  // 32 rows of a so deep stay in the first-level cache, or a thread's half of it, while tiles pass by

// M blocks of rows by all tiles. Fewer than 16 rows are there as a whole anyway.
template <int M, bool HasRemainder = false>
static inline void amx_gemm_rows(const bfloat16* a, size_t lda, int K, const bfloat16* b, int tiles,
                                 const TileOutput& c) {
  const size_t tile = static_cast<size_t>(K) * kLanes;
  const int max_depth = M == 1 && HasRemainder ? K : kAmxDepth;
  for (int k = 0; k < K; k += max_depth) {
    const int depth = K - k < max_depth ? K - k : max_depth;
    const bfloat16* column = b + static_cast<size_t>(k) * kLanes;
    const auto from = [&](const TileOutput& to) {
      return TileOutput{k == 0 ? nullptr : to.data, to.row_stride, to.tile_stride};
    };
    int n = 0;
    if constexpr (M == 1)
      for (; n + 2 <= tiles; n += 2) {
        const TileOutput to = c + n * c.tile_stride;
        amx_gemm_block<1, 2, HasRemainder>(a + k, lda, depth, column + n * tile, tile, from(to), to);
      }
    for (; n < tiles; ++n) {
      const TileOutput to = c + n * c.tile_stride;
      amx_gemm_block<M, 1, HasRemainder>(a + k, lda, depth, column + n * tile, tile, from(to), to);
    }
  }
}

// Rows are taken in pairs of blocks of 16; what is left after them goes with the last pair, or block.
static inline void gemm(const bfloat16* a, size_t lda, int rows, int K, const bfloat16* b, int tiles, float* c,
                        size_t c_tile, size_t c_row = kLanes) {
  const int remainder_rows = rows % 16, blocks = rows / 16,
            pairs = remainder_rows > 0 && blocks % 2 == 0 && blocks > 0 ? blocks / 2 - 1 : blocks / 2;
  const auto output_at = [&](int row_block) {
    return TileOutput{c + static_cast<size_t>(row_block) * 16 * c_row, c_row, c_tile};
  };
  for (int pair = 0; pair < pairs; ++pair) amx_gemm_rows<2>(a + pair * 32 * lda, lda, K, b, tiles, output_at(2 * pair));
  const bfloat16* last = a + static_cast<size_t>(pairs) * 32 * lda;
  if (remainder_rows > 0) {
    AmxTileConfig::set_remainder_rows(remainder_rows);
    if (blocks - 2 * pairs == 2) amx_gemm_rows<3, true>(last, lda, K, b, tiles, output_at(2 * pairs));
    if (blocks - 2 * pairs == 1) amx_gemm_rows<2, true>(last, lda, K, b, tiles, output_at(2 * pairs));
    if (blocks - 2 * pairs == 0) amx_gemm_rows<1, true>(last, lda, K, b, tiles, output_at(2 * pairs));
  } else if (blocks > 2 * pairs) {
    amx_gemm_rows<1>(last, lda, K, b, tiles, output_at(2 * pairs));
  }
}

}  // namespace UNROLLED_ISA
}  // namespace unrolled
