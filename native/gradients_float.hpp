// The large products of the way back in float32. torch's are as fast, but add up in an order that depends on the number of
// threads; here each sum is added up by one thread, in blocks of rows whose limits are fixed.
#pragma once

#include <cstring>

#include "layer.hpp"
#include "product.hpp"
#include "team.hpp"

namespace unrolled {
namespace UNROLLED_SET {

constexpr size_t kFloatRowsDeep = 256;  // rows of all steps that are packed and multiplied at a time: sums begin anew after them
constexpr int kFloatColumns = 48;       // columns of dgates that a thread takes at a time
constexpr int kFloatTiles = 16;         // tiles of 16 columns that they are multiplied by, or fewer where there are few columns

// R columns of `a`, packed as a[k][R], by N tiles of b: c[r][n] = the sum over k, or what is added to it, if `more`.
template <int R, int N>
static inline void turned_block(const float* a, int K, const float* b, size_t tile, float* c, size_t c_row, bool more) {
  Vec sums[R][N][kParts];
  UNROLLED_UNROLL for (int r = 0; r < R; ++r)
    UNROLLED_UNROLL for (int n = 0; n < N; ++n)
      UNROLLED_UNROLL for (int i = 0; i < kParts; ++i) sums[r][n][i] = Vec{};
  if (more)
    UNROLLED_UNROLL for (int r = 0; r < R; ++r)
      UNROLLED_UNROLL for (int n = 0; n < N; ++n) __builtin_prefetch(c + r * c_row + n * kLanes, 1);
  for (int k = 0; k < K; ++k) {
    Vec column[N][kParts];
    UNROLLED_UNROLL for (int n = 0; n < N; ++n)
      UNROLLED_UNROLL for (int i = 0; i < kParts; ++i) column[n][i] = load(b + n * tile + static_cast<size_t>(k) * kLanes + i * kWidth);
    UNROLLED_UNROLL for (int r = 0; r < R; ++r) {
      const Vec value = broadcast(a + k * R + r);
      UNROLLED_UNROLL for (int n = 0; n < N; ++n)
        UNROLLED_UNROLL for (int i = 0; i < kParts; ++i) sums[r][n][i] = multiply_add(value, column[n][i], sums[r][n][i]);
    }
  }
  if (more)
    UNROLLED_UNROLL for (int r = 0; r < R; ++r)
      UNROLLED_UNROLL for (int n = 0; n < N; ++n)
        UNROLLED_UNROLL for (int i = 0; i < kParts; ++i) sums[r][n][i] += load(c + r * c_row + n * kLanes + i * kWidth);
  UNROLLED_UNROLL for (int r = 0; r < R; ++r)
    UNROLLED_UNROLL for (int n = 0; n < N; ++n)
      UNROLLED_UNROLL for (int i = 0; i < kParts; ++i) store(c + r * c_row + n * kLanes + i * kWidth, sums[r][n][i]);
}

// All panels of a block of columns (`kRows` columns each, then two) by N tiles.
template <int N>
static inline void turned_panels(const float* a, int columns, int K, const float* b, size_t tile, float* c, size_t c_row, bool more) {
  int column = 0;
  for (; column + kRows <= columns; column += kRows)
    turned_block<kRows, N>(a + static_cast<size_t>(column) * K, K, b, tile, c + column * c_row, c_row, more);
  for (; column < columns; column += 2)
    turned_block<2, N>(a + static_cast<size_t>(column) * K, K, b, tile, c + column * c_row, c_row, more);
}

template <int R>
static inline void pack_panel(const float* from, size_t stride, size_t rows, float* to) {
  for (size_t row = 0; row < rows; ++row) std::memcpy(to + row * R, from + row * stride, R * sizeof(float));
}

// An even number of columns as panels: panel[k][kRows], then [k][2].
static void pack_panels(const float* from, size_t stride, size_t rows, int columns, float* to) {
  int column = 0;
  for (; column + kRows <= columns; column += kRows) pack_panel<kRows>(from + column, stride, rows, to + column * rows);
  for (; column < columns; column += 2) pack_panel<2>(from + column, stride, rows, to + column * rows);
}

// How the products of one source are cut: blocks of columns of dgates by groups of tiles of the source.
struct FloatPieces {
  int columns, tiles, at_once, column_blocks, tile_blocks;
  FloatPieces(const Source& source, int threads)
      : columns(source.last - source.first), tiles(static_cast<int>(source.width / kLanes)), at_once(kFloatTiles),
        column_blocks((columns + kFloatColumns - 1) / kFloatColumns) {
    while (at_once > kTiles && column_blocks * ((tiles + at_once - 1) / at_once) < 4 * threads) at_once /= 2;
    tile_blocks = (tiles + at_once - 1) / at_once;
  }
  int count() const { return column_blocks * tile_blocks; }
};

// One of those pieces for a block of rows. `packed` has all tiles of the source; `panels` is room for columns of dgates.
static void add_piece(const WeightGradients& a, const Source& source, const FloatPieces& pieces, int index, size_t row, size_t rows,
                      const float* packed, float* panels) {
  const int column = index / pieces.tile_blocks * kFloatColumns, first = index % pieces.tile_blocks * pieces.at_once;
  const int columns = pieces.columns - column < kFloatColumns ? pieces.columns - column : kFloatColumns;
  const int last = first + pieces.at_once < pieces.tiles ? first + pieces.at_once : pieces.tiles, K = static_cast<int>(rows);
  const size_t tile = rows * kLanes;
  pack_panels(static_cast<const float*>(a.dgates) + row * a.stride_g + source.first + column, a.stride_g, rows, columns, panels);
  float* gradient = source.gradient + column * source.width;
  int n = first;
  for (; n + kTiles <= last; n += kTiles)
    turned_panels<kTiles>(panels, columns, K, packed + n * tile, tile, gradient + n * kLanes, source.width, row > 0);
  for (; n < last; ++n)
    turned_panels<1>(panels, columns, K, packed + n * tile, tile, gradient + n * kLanes, source.width, row > 0);
}

static void pack_source_tile(const Source& source, int n, size_t row, size_t rows, float* to) {
  const float* from = static_cast<const float*>(source.values) + row * source.stride + n * kLanes;
  for (size_t k = 0; k < rows; ++k) write(to + k * kLanes, read(from + k * source.stride));
}

static void weight_gradients_float(const WeightGradients& a) {
  size_t tiles = 0;
  for (int i = 0; i < a.sources; ++i) tiles += a.source[i].width / kLanes;
  const size_t deepest = a.rows < kFloatRowsDeep ? a.rows : kFloatRowsDeep;
  auto* packed = static_cast<float*>(thread_memory(5, tiles * deepest * kLanes * sizeof(float)));  // of all threads
  together(a.threads, [&](const Place& place) {
    auto* panels = static_cast<float*>(thread_memory(4, deepest * kFloatColumns * sizeof(float)));
    for (size_t row = 0; row < a.rows; row += kFloatRowsDeep) {
      const size_t rows = a.rows - row < kFloatRowsDeep ? a.rows - row : kFloatRowsDeep, tile = rows * kLanes;
      const int first_tiles = static_cast<int>(a.source[0].width / kLanes);
      each(place, static_cast<int>(tiles), [&](int n) {
        const bool second = n >= first_tiles;
        pack_source_tile(a.source[second], n - (second ? first_tiles : 0), row, rows, packed + n * tile);
      });
      for (int i = 0; i < a.sources; ++i) {
        const FloatPieces pieces(a.source[i], place.size);
        const float* from = packed + (i == 0 ? 0 : first_tiles * tile);
        each(place, pieces.count(), [&](int index) { add_piece(a, a.source[i], pieces, index, row, rows, from, panels); });
      }
    }
  });
}

constexpr size_t kFloatRowsAtOnce = 48, kMostFloatPieces = 1024;  // of inputs' gradients

static void input_gradients_float(const InputGradients& a) {
  const size_t tile = static_cast<size_t>(a.deep) * kLanes, all_tiles = a.width / kLanes;
  const size_t panels = (all_tiles + kFloatTiles - 1) / kFloatTiles;
  const size_t piece = (a.rows / kMostFloatPieces / kFloatRowsAtOnce + 1) * kFloatRowsAtOnce, pieces = (a.rows + piece - 1) / piece;
  constexpr size_t c_tile = kFloatRowsAtOnce * kLanes + kLanes;
  together(a.threads, [&](const Place& place) {
    auto* sums = static_cast<float*>(thread_memory(3, kFloatTiles * c_tile * sizeof(float)));
    each(place, static_cast<int>(panels * pieces), [&](int index) {
      const size_t n = index / pieces * kFloatTiles, first = index % pieces * piece;
      const size_t tiles = all_tiles - n < kFloatTiles ? all_tiles - n : kFloatTiles, last = first + piece < a.rows ? first + piece : a.rows;
      for (size_t row = first; row < last; row += kFloatRowsAtOnce) {
        const size_t rows = last - row < kFloatRowsAtOnce ? last - row : kFloatRowsAtOnce;
        product(static_cast<const float*>(a.dgates) + row * a.stride_g + a.first, a.stride_g, static_cast<int>(rows), a.deep,
                static_cast<const float*>(a.weight_back) + n * tile, static_cast<int>(tiles), sums, c_tile);
        for (size_t r = 0; r < rows; ++r)
          for (size_t i = 0; i < tiles; ++i)
            write(a.dinputs + (row + r) * a.width + (n + i) * kLanes, read(sums + i * c_tile + r * kLanes));
      }
    });
  });
}

}  // namespace UNROLLED_SET
}  // namespace unrolled
