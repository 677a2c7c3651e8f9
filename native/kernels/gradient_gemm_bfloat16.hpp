// Gradients of weights and inputs in bfloat16: dW = dgates^T x over the T B rows of all steps, and dx = dgates W.
// torch's products take twice the time where one side has to be transposed, and their bits depend on the number of
// threads.
#pragma once

#include "args/layer_args.hpp"
#include "kernels/gemm.hpp"
#include "kernels/gradient_gemm.hpp"
#include "kernels/pack_weights.hpp"
#include "threads/parallel.hpp"

#if defined(__AVX512BF16__)
namespace unrolled {
namespace UNROLLED_ISA {

constexpr int kPairGradDepth = 256;      // rows of all steps that are packed and multiplied at a time
constexpr int kPairGradColumns = 32;     // columns of dgates that are multiplied at a time
constexpr size_t kPanelBytes = 1 << 20;  // of packed weights that stay in the second-level cache while all rows pass by

// Two rows of 16 numbers as 16 pairs; a row that is not there, of `left` ones, is zero.
UNROLLED_INLINE __m512i load_row_pairs(const bfloat16* row, size_t stride, size_t left) {
  const auto read16 = [](const bfloat16* from) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  };
  if (left == 0) return _mm512_setzero_si512();
  if (left == 1) return read16(row);
  return _mm512_or_si512(read16(row), _mm512_slli_epi32(read16(row + stride), 16));
}

// 16 columns of `depth` rows, of which `rows` are there, as a tile of columns.
static void pack_pairs(const bfloat16* from, size_t stride, size_t rows, int depth, bfloat16* tile) {
  for (int k = 0; k < depth; k += 2)
    _mm512_storeu_si512(tile + static_cast<size_t>(k) * kLanes,
                        load_row_pairs(from + k * stride, stride, static_cast<size_t>(k) < rows ? rows - k : 0));
}

#if defined(__AMX_TILE__)
// The same 16 columns as 16 rows of `depth` numbers, `lda` apart.
static void transpose_columns(const bfloat16* from, size_t stride, size_t rows, int depth, bfloat16* to, size_t lda) {
  for (int k = 0; k < depth; k += 32) {
    __m512i words[16];
    for (int i = 0; i < 16; ++i) {
      const size_t row = static_cast<size_t>(k) + 2 * i;
      words[i] = load_row_pairs(from + row * stride, stride, row < rows ? rows - row : 0);
    }
    transpose_words(words);
    for (int i = 0; i < 16; ++i) _mm512_storeu_si512(to + i * lda + k, words[i]);
  }
}

// `kPairGradColumns` columns of dgates as the left side of a product: rows for the tile registers.
static void pack_gate_columns(const bfloat16* from, size_t stride, size_t rows, int depth, bfloat16* to) {
  transpose_columns(from, stride, rows, depth, to, depth + 32);
  transpose_columns(from + kLanes, stride, rows, depth, to + static_cast<size_t>(kLanes) * (depth + 32), depth + 32);
}

// Products of these columns with a tile of a source. Sums begin with what is in `from`, or with zero, if that is
// nothing.
static void multiply_gate_columns(const bfloat16* columns, int depth, const bfloat16* source, const TileOutput& from,
                                  const TileOutput& to) {
  if (from.data == nullptr)
    amx_gemm_block<2, 1>(columns, depth + 32, depth, source, 0, from, to);
  else
    amx_gemm_block<2, 1, false, true>(columns, depth + 32, depth, source, 0, from, to);
}
#else
// `kPairGradColumns` columns of dgates as the left side of a product: pairs, each of which multiplies a whole register.
static void pack_gate_columns(const bfloat16* from, size_t stride, size_t rows, int depth, bfloat16* to) {
  pack_pairs(from, stride, rows, depth, to);
  pack_pairs(from + kLanes, stride, rows, depth, to + static_cast<size_t>(kLanes) * depth);
}

// Products of these columns with a tile of a source. Sums begin with what is in `from`, or with zero, if that is
// nothing.
static void multiply_gate_columns(const bfloat16* columns, int depth, const bfloat16* source, const TileOutput& from,
                                  const TileOutput& to) {
  for (int half = 0; half < 2; ++half, columns += static_cast<size_t>(kLanes) * depth) {
    __m512 sums[kLanes];
    UNROLLED_FOR (r, kLanes)
      sums[r] = from.data == nullptr ? _mm512_setzero_ps() : load_vec(from.address(half, 0) + r * from.row_stride);
    for (int k = 0; k < depth; k += 2) {
      const bfloat16* pairs = columns + static_cast<size_t>(k) * kLanes;
      const auto row = (__m512bh)_mm512_loadu_si512(source + static_cast<size_t>(k) * kLanes);
      UNROLLED_FOR (r, kLanes)
        sums[r] = _mm512_dpbf16_ps(sums[r], (__m512bh)_mm512_set1_epi32(load_pair(pairs + 2 * r)), row);
    }
    UNROLLED_FOR (r, kLanes) store_vec(to.address(half, 0) + r * to.row_stride, sums[r]);
  }
}
#endif

// What a thread packs of each source: its tiles from `first` on.
struct PackedTiles {
  size_t first[2], count[2];
  size_t total() const { return count[0] + count[1]; }
};

// The gradients as a whole, and sums of all blocks of rows so far: each tile of 32 x 16 is a piece of memory, since the
// gradients' own rows are far apart. If there are more columns than the sources are wide, each thread packs all of the
// sources and takes columns, as they come; otherwise it packs its share of the sources and takes all columns.
struct GradientPlan {
  int columns = 0, tiles = 0;
  bool by_columns;
  float* sums;

  explicit GradientPlan(const WeightGradients& a) {
    for (int i = 0; i < a.source_count; ++i) {
      columns = a.sources[i].last > columns ? a.sources[i].last : columns;
      tiles += static_cast<int>(a.sources[i].width / kLanes);
    }
    by_columns = columns >= tiles * kLanes;
    const size_t count = a.rows > kPairGradDepth ? static_cast<size_t>(columns) * tiles * kLanes : 0;
    sums = static_cast<float*>(thread_scratch(kScratchWeightGradSums, count * sizeof(float)));
  }

  PackedTiles tiles_of(const WeightGradients& a, const ThreadContext& thread) const {
    PackedTiles packed_tiles{};
    for (int i = 0; i < a.source_count; ++i) {
      int first = 0, last = static_cast<int>(a.sources[i].width / kLanes);
      if (!by_columns) static_range(last, thread, first, last);
      packed_tiles.first[i] = first;
      packed_tiles.count[i] = last - first;
    }
    return packed_tiles;
  }
};

// 32 columns of dgates by a thread's tiles of a block of rows. Sums of the last block go to the gradient.
static void accumulate_columns(const WeightGradients& a, const GradientPlan& plan, const PackedTiles& packed_tiles,
                               size_t row, size_t rows, int column, const bfloat16* packed, bfloat16* columns) {
  const int depth = static_cast<int>((rows + 31) / 32 * 32);
  const size_t tile = static_cast<size_t>(depth) * kLanes, sums_per_tile = kPairGradColumns * kLanes;
  pack_gate_columns(static_cast<const bfloat16*>(a.dgates) + row * a.dgates_stride + column, a.dgates_stride, rows,
                    depth, columns);
  float* sums = plan.sums + static_cast<size_t>(column / kPairGradColumns) * plan.tiles * sums_per_tile;
  for (int i = 0; i < a.source_count; ++i) {
    const GradSource& sources = a.sources[i];
    if (column >= sources.first && column < sources.last) {
      float* gradient = sources.gradient + (column - sources.first) * sources.width + packed_tiles.first[i] * kLanes;
      for (size_t n = 0; n < packed_tiles.count[i]; ++n) {
        const TileOutput sums_so_far{sums + (packed_tiles.first[i] + n) * sums_per_tile, kLanes, 0},
            nothing{nullptr, kLanes, 0};
        const bool is_last = row + rows == a.rows;
        multiply_gate_columns(columns, depth, packed + n * tile, row == 0 ? nothing : sums_so_far,
                              is_last ? TileOutput{gradient + n * kLanes, sources.width, 0} : sums_so_far);
      }
    }
    packed += packed_tiles.count[i] * tile;
    sums += sources.width / kLanes * sums_per_tile;
  }
}

template <>
void weight_gradients<bfloat16>(const WeightGradients& a) {
  const GradientPlan plan(a);
  parallel_region(a.threads, [&](const ThreadContext& thread) {
    AmxTileConfig registers;
    const PackedTiles packed_tiles = plan.tiles_of(a, thread);
    auto* packed = static_cast<bfloat16*>(
        thread_scratch(kScratchPackedSources, packed_tiles.total() * kPairGradDepth * kLanes * sizeof(bfloat16)));
    auto* columns = static_cast<bfloat16*>(
        thread_scratch(kScratchGateColumns, (kPairGradDepth + 32) * kPairGradColumns * sizeof(bfloat16)));
    for (size_t row = 0; row < a.rows; row += kPairGradDepth) {
      const size_t rows = a.rows - row < kPairGradDepth ? a.rows - row : kPairGradDepth;
      const int depth = static_cast<int>((rows + 31) / 32 * 32);
      bfloat16* to = packed;
      for (int i = 0; i < a.source_count; ++i) {
        const GradSource& sources = a.sources[i];
        const auto* from =
            static_cast<const bfloat16*>(sources.values) + row * sources.stride + packed_tiles.first[i] * kLanes;
        for (size_t n = 0; n < packed_tiles.count[i]; ++n, to += static_cast<size_t>(depth) * kLanes)
          pack_pairs(from + n * kLanes, sources.stride, rows, depth, to);
      }
      const auto add = [&](int index) {
        accumulate_columns(a, plan, packed_tiles, row, rows, index * kPairGradColumns, packed, columns);
      };
      if (plan.by_columns)
        parallel_for(thread, plan.columns / kPairGradColumns, add);
      else
        for (int index = 0; index < plan.columns / kPairGradColumns; ++index) add(index);
    }
  });
}

// Rows of the gradients of inputs that are one piece of work, or more where pieces were too many.
constexpr size_t kPairInputGradRows = 128, kMaxPairInputGradTasks = 1024;

// Weights are taken a panel of columns at a time: all are 2 MiB for 512 units, and would be read anew for each 32 rows.
template <>
void input_gradients<bfloat16>(const InputGradients& a) {
  const size_t tile = static_cast<size_t>(a.depth) * kLanes, total = a.width / kLanes,
               tiles_that_fit = kPanelBytes / (tile * sizeof(bfloat16));
  const size_t panel = tiles_that_fit < 4 ? 4 : tiles_that_fit, panels = (total + panel - 1) / panel,
               rows_per_task = a.rows / kMaxPairInputGradTasks / 32 * 32 + kPairInputGradRows;
  const size_t row_tasks = (a.rows + rows_per_task - 1) / rows_per_task;
  parallel_region(a.threads, [&](const ThreadContext& thread) {
    AmxTileConfig registers(static_cast<int>(a.rows));
    parallel_for(thread, static_cast<int>(panels * row_tasks), [&](int index) {
      const size_t n = index / row_tasks * panel, row = index % row_tasks * rows_per_task;
      const size_t rows = a.rows - row < rows_per_task ? a.rows - row : rows_per_task;
      gemm(static_cast<const bfloat16*>(a.dgates) + row * a.dgates_stride + a.first, a.dgates_stride,
           static_cast<int>(rows), a.depth, static_cast<const bfloat16*>(a.weight_transposed) + n * tile,
           static_cast<int>(total - n < panel ? total - n : panel), a.dinputs + row * a.width + n * kLanes, kLanes,
           a.width);
    });
  });
}

}  // namespace UNROLLED_ISA
}  // namespace unrolled
#endif
