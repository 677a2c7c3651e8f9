// The large products of the way back, for processors with tile registers: torch's take twice the time where a side is turned.
#pragma once

#include "layer.hpp"
#include "pack.hpp"
#include "product.hpp"
#include "team.hpp"

#if defined(__AMX_TILE__)
namespace unrolled {
namespace UNROLLED_SET {

constexpr int kRowsDeep = kTileDeep;       // rows of all steps that are packed and multiplied at a time
constexpr size_t kPanelBytes = 1 << 20;  // of packed weights that stay in the second-level cache while all rows pass by

// Two rows of 16 numbers as 16 pairs; a row that is not there, of `left` ones, is zero.
UNROLLED_INLINE __m512i pairs(const bfloat16* row, size_t stride, size_t left) {
  const auto read16 = [](const bfloat16* from) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  };
  if (left == 0) return _mm512_setzero_si512();
  if (left == 1) return read16(row);
  return _mm512_or_si512(read16(row), _mm512_slli_epi32(read16(row + stride), 16));
}

// 16 columns of `deep` rows, of which `rows` are there, as a tile of columns.
static void pack_pairs(const bfloat16* from, size_t stride, size_t rows, int deep, bfloat16* tile) {
  for (int k = 0; k < deep; k += 2)
    _mm512_storeu_si512(tile + static_cast<size_t>(k) * kLanes,
                        pairs(from + k * stride, stride, static_cast<size_t>(k) < rows ? rows - k : 0));
}

// The same 16 columns as 16 rows of `deep` numbers, `lda` apart.
static void turn_columns(const bfloat16* from, size_t stride, size_t rows, int deep, bfloat16* to, size_t lda) {
  for (int k = 0; k < deep; k += 32) {
    __m512i words[16];
    for (int i = 0; i < 16; ++i) {
      const size_t row = static_cast<size_t>(k) + 2 * i;
      words[i] = pairs(from + row * stride, stride, row < rows ? rows - row : 0);
    }
    turn_words(words);
    for (int i = 0; i < 16; ++i) _mm512_storeu_si512(to + i * lda + k, words[i]);
  }
}

// A thread's share of the gradients: some columns of dgates, and of each source some tiles.
struct Share {
  int first, last;                 // columns
  size_t first_tile[2], tiles[2];  // of each source
  size_t all_tiles() const { return tiles[0] + tiles[1]; }
};

// The side that is narrower is prepared by every thread, and the other one is shared.
static Share share_of(const WeightGradients& a, const Place& place) {
  int columns = 0, width = 0;
  for (int i = 0; i < a.sources; ++i) {
    columns = a.source[i].last > columns ? a.source[i].last : columns;
    width += static_cast<int>(a.source[i].width);
  }
  Share own{0, columns, {}, {}};
  if (columns >= width) {
    share(columns / 32, place, own.first, own.last);
    own.first *= 32;
    own.last *= 32;
  }
  for (int i = 0; i < a.sources; ++i) {
    int first = 0, last = static_cast<int>(a.source[i].width / kLanes);
    if (columns < width) share(last, place, first, last);
    own.first_tile[i] = first;
    own.tiles[i] = last - first;
  }
  return own;
}

// What a thread keeps of a block of rows: its tiles of sources packed, 32 columns of dgates turned; and sums of all blocks,
// each tile of 32 x 16 a piece of memory, since the gradient's own rows are far apart.
struct GradientRoom {
  bfloat16 *packed, *turned;
  float* sums;
};

// One block of rows. Sums of the last one go to the gradient.
static void add_block(const WeightGradients& a, const Share& own, size_t row, const GradientRoom& room) {
  const size_t rows = a.rows - row < kRowsDeep ? a.rows - row : kRowsDeep;
  const bool last_one = row + rows == a.rows;
  const int deep = static_cast<int>((rows + 31) / 32 * 32);
  const size_t tile = static_cast<size_t>(deep) * kLanes, lda = deep + 32;
  bfloat16* to = room.packed;
  for (int i = 0; i < a.sources; ++i) {
    const Source& source = a.source[i];
    const auto* from = static_cast<const bfloat16*>(source.values) + row * source.stride + own.first_tile[i] * kLanes;
    for (size_t n = 0; n < own.tiles[i]; ++n, to += tile) pack_pairs(from + n * kLanes, source.stride, rows, deep, to);
  }
  const auto* dgates = static_cast<const bfloat16*>(a.dgates) + row * a.stride_g;
  float* sums = room.sums;
  for (int column = own.first; column < own.last; column += 32) {
    turn_columns(dgates + column, a.stride_g, rows, deep, room.turned, lda);
    turn_columns(dgates + column + kLanes, a.stride_g, rows, deep, room.turned + kLanes * lda, lda);
    const bfloat16* b = room.packed;
    for (int i = 0; i < a.sources; ++i) {
      const Source& source = a.source[i];
      const bool read = column >= source.first && column < source.last;
      float* gradient = source.gradient + (column - source.first) * source.width + own.first_tile[i] * kLanes;
      for (size_t n = 0; n < own.tiles[i]; ++n, b += tile, sums += 32 * kLanes) {
        if (!read) continue;
        const Sums kept{sums, kLanes, 0}, nothing{nullptr, kLanes, 0};
        const Sums to = last_one ? Sums{gradient + n * kLanes, source.width, 0} : kept;
        if (row == 0)
          tiled<2, 1>(room.turned, lda, deep, b, tile, nothing, to);
        else
          tiled<2, 1, false, true>(room.turned, lda, deep, b, tile, kept, to);
      }
    }
  }
}

static void weight_gradients(const WeightGradients& a) {
  together(a.threads, [&](const Place& place) {
    Tiles registers;
    const Share own = share_of(a, place);
    const size_t columns = own.last - own.first, tiles = own.all_tiles();
    if (columns * tiles == 0) return;
    const GradientRoom room{
        static_cast<bfloat16*>(thread_memory(3, tiles * kRowsDeep * kLanes * sizeof(bfloat16))),
        static_cast<bfloat16*>(thread_memory(4, (kRowsDeep + 32) * 32 * sizeof(bfloat16))),
        static_cast<float*>(thread_memory(5, a.rows > kRowsDeep ? columns * tiles * kLanes * sizeof(float) : 0))};
    for (size_t row = 0; row < a.rows; row += kRowsDeep) add_block(a, own, row, room);
  });
}

// Weights are taken a panel of columns at a time: all are 2 MiB for 512 units, and would be read anew for each 32 rows.
static void input_gradients(const InputGradients& a) {
  const size_t tile = static_cast<size_t>(a.deep) * kLanes, all = a.width / kLanes, fit = kPanelBytes / (tile * sizeof(bfloat16));
  const size_t panel = fit < 4 ? 4 : fit;
  together(a.threads, [&](const Place& place) {
    Tiles registers(static_cast<int>(a.rows % 16));
    int first, last;
    share(static_cast<int>((a.rows + 31) / 32), place, first, last);
    const size_t start = first * 32ul, end = last * 32ul < a.rows ? last * 32ul : a.rows;
    const auto* from = static_cast<const bfloat16*>(a.dgates) + start * a.stride_g + a.first;
    for (size_t n = 0; n < all; n += panel)
      product(from, a.stride_g, static_cast<int>(end - start), a.deep, static_cast<const bfloat16*>(a.weight_back) + n * tile,
              static_cast<int>(all - n < panel ? all - n : panel), a.dinputs + start * a.width + n * kLanes, kLanes, a.width);
  });
}

}  // namespace UNROLLED_SET
}  // namespace unrolled
#endif
