// The large products of the way back, for processors with tile registers: torch's take twice the time where a side is turned.
#pragma once

#include "layer.hpp"
#include "pack.hpp"
#include "product.hpp"
#include "team.hpp"

#if defined(__AMX_TILE__)
namespace unrolled {
namespace UNROLLED_SET {

constexpr int kRowsDeep = kTileDeep;     // rows of all steps that are packed and multiplied at a time
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

// What a thread packs of each source: its tiles from `first` on.
struct Tiled {
  size_t first[2], count[2];
  size_t all() const { return count[0] + count[1]; }
};

// The gradients as a whole, and sums of all blocks of rows so far: each tile of 32 x 16 is a piece of memory, since the
// gradients' own rows are far apart. If there are more columns than the sources are wide, each thread packs all of the
// sources and takes columns, as they come; otherwise it packs its share of the sources and takes all columns.
struct GradientPlan {
  int columns = 0, tiles = 0;
  bool by_columns;
  float* sums;

  explicit GradientPlan(const WeightGradients& a) {
    for (int i = 0; i < a.sources; ++i) {
      columns = a.source[i].last > columns ? a.source[i].last : columns;
      tiles += static_cast<int>(a.source[i].width / kLanes);
    }
    by_columns = columns >= tiles * kLanes;
    const size_t numbers = a.rows > kRowsDeep ? static_cast<size_t>(columns) * tiles * kLanes : 0;
    sums = static_cast<float*>(thread_memory(5, numbers * sizeof(float)));
  }

  Tiled tiled_of(const WeightGradients& a, const Place& place) const {
    Tiled own{};
    for (int i = 0; i < a.sources; ++i) {
      int first = 0, last = static_cast<int>(a.source[i].width / kLanes);
      if (!by_columns) share(last, place, first, last);
      own.first[i] = first;
      own.count[i] = last - first;
    }
    return own;
  }
};

// 32 columns of dgates by a thread's tiles of a block of rows. Sums of the last block go to the gradient.
static void add_columns(const WeightGradients& a, const GradientPlan& plan, const Tiled& own, size_t row, size_t rows, int column,
                        const bfloat16* packed, bfloat16* turned) {
  const int deep = static_cast<int>((rows + 31) / 32 * 32);
  const size_t tile = static_cast<size_t>(deep) * kLanes, lda = deep + 32, piece = 32 * kLanes;
  const auto* dgates = static_cast<const bfloat16*>(a.dgates) + row * a.stride_g + column;
  turn_columns(dgates, a.stride_g, rows, deep, turned, lda);
  turn_columns(dgates + kLanes, a.stride_g, rows, deep, turned + kLanes * lda, lda);
  float* sums = plan.sums + static_cast<size_t>(column / 32) * plan.tiles * piece;
  for (int i = 0; i < a.sources; ++i) {
    const Source& source = a.source[i];
    if (column >= source.first && column < source.last) {
      float* gradient = source.gradient + (column - source.first) * source.width + own.first[i] * kLanes;
      for (size_t n = 0; n < own.count[i]; ++n) {
        const Sums kept{sums + (own.first[i] + n) * piece, kLanes, 0}, nothing{nullptr, kLanes, 0};
        const Sums to = row + rows == a.rows ? Sums{gradient + n * kLanes, source.width, 0} : kept;
        if (row == 0)
          tiled<2, 1>(turned, lda, deep, packed + n * tile, tile, nothing, to);
        else
          tiled<2, 1, false, true>(turned, lda, deep, packed + n * tile, tile, kept, to);
      }
    }
    packed += own.count[i] * tile;
    sums += source.width / kLanes * piece;
  }
}

static void weight_gradients(const WeightGradients& a) {
  const GradientPlan plan(a);
  together(a.threads, [&](const Place& place) {
    Tiles registers;
    const Tiled own = plan.tiled_of(a, place);
    auto* packed = static_cast<bfloat16*>(thread_memory(3, own.all() * kRowsDeep * kLanes * sizeof(bfloat16)));
    auto* turned = static_cast<bfloat16*>(thread_memory(4, (kRowsDeep + 32) * 32 * sizeof(bfloat16)));
    for (size_t row = 0; row < a.rows; row += kRowsDeep) {
      const size_t rows = a.rows - row < kRowsDeep ? a.rows - row : kRowsDeep;
      const int deep = static_cast<int>((rows + 31) / 32 * 32);
      bfloat16* to = packed;
      for (int i = 0; i < a.sources; ++i) {
        const Source& source = a.source[i];
        const auto* from = static_cast<const bfloat16*>(source.values) + row * source.stride + own.first[i] * kLanes;
        for (size_t n = 0; n < own.count[i]; ++n, to += static_cast<size_t>(deep) * kLanes)
          pack_pairs(from + n * kLanes, source.stride, rows, deep, to);
      }
      const auto add = [&](int index) { add_columns(a, plan, own, row, rows, index * 32, packed, turned); };
      if (plan.by_columns)
        each(place, plan.columns / 32, add);
      else
        for (int index = 0; index < plan.columns / 32; ++index) add(index);
    }
  });
}

constexpr size_t kRowsAtOnce = 128, kMostPieces = 1024;  // of inputs' gradients: rows of a piece, or more where pieces were too many

// Weights are taken a panel of columns at a time: all are 2 MiB for 512 units, and would be read anew for each 32 rows.
static void input_gradients(const InputGradients& a) {
  const size_t tile = static_cast<size_t>(a.deep) * kLanes, all = a.width / kLanes, fit = kPanelBytes / (tile * sizeof(bfloat16));
  const size_t panel = fit < 4 ? 4 : fit, panels = (all + panel - 1) / panel, piece = a.rows / kMostPieces / 32 * 32 + kRowsAtOnce;
  const size_t pieces = (a.rows + piece - 1) / piece;
  together(a.threads, [&](const Place& place) {
    Tiles registers(static_cast<int>(a.rows));
    each(place, static_cast<int>(panels * pieces), [&](int index) {
      const size_t n = index / pieces * panel, row = index % pieces * piece;
      const size_t rows = a.rows - row < piece ? a.rows - row : piece;
      product(static_cast<const bfloat16*>(a.dgates) + row * a.stride_g + a.first, a.stride_g, static_cast<int>(rows), a.deep,
              static_cast<const bfloat16*>(a.weight_back) + n * tile, static_cast<int>(all - n < panel ? all - n : panel),
              a.dinputs + row * a.width + n * kLanes, kLanes, a.width);
    });
  });
}

}  // namespace UNROLLED_SET
}  // namespace unrolled
#endif
