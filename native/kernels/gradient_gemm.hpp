// Gradients of weights and inputs in float32: dW = dgates^T x over the T B rows of all steps, and dx = dgates W.
//
// Each sum is added up by one thread, in blocks of 256 rows, so the result does not depend on the number of threads
// (torch's does). gradient_gemm_bfloat16.hpp has the same in bfloat16.
#pragma once

#include <cstring>

#include "args/layer_args.hpp"
#include "kernels/gemm.hpp"
#include "threads/parallel.hpp"

namespace unrolled {
namespace UNROLLED_ISA {

template <typename T>
static void weight_gradients(const WeightGradients& a);
template <typename T>
static void input_gradients(const InputGradients& a);

constexpr size_t kGradDepth =
    256;  // rows of all steps that are packed and multiplied at a time: sums begin anew after them
constexpr int kGradColumns = 48;  // columns of dgates that a thread takes at a time
constexpr int kGradTiles = 16;  // tiles of 16 columns that they are multiplied by, or fewer where there are few columns

// R columns of `a`, packed as a[k][R], by N tiles of b: c[r][n] = the sum over k, or what is added to it, if
// `accumulate`.
template <int R, int N>
static inline void outer_product_block(const float* a, int K, const float* b, size_t tile, float* c, size_t c_row,
                                       bool accumulate) {
  Vec sums[R][N][kVecsPer16];
  UNROLLED_FOR (r, R)
    UNROLLED_FOR (n, N)
      UNROLLED_FOR (i, kVecsPer16) sums[r][n][i] = Vec{};
  if (accumulate)
    UNROLLED_FOR (r, R)
      UNROLLED_FOR (n, N) __builtin_prefetch(c + r * c_row + n * kLanes, 1);
  for (int k = 0; k < K; ++k) {
    Vec column[N][kVecsPer16];
    UNROLLED_FOR (n, N)
      UNROLLED_FOR (i, kVecsPer16)
        column[n][i] = load_vec(b + n * tile + static_cast<size_t>(k) * kLanes + i * kVecWidth);
    UNROLLED_FOR (r, R) {
      const Vec value = broadcast(a + k * R + r);
      UNROLLED_FOR (n, N)
        UNROLLED_FOR (i, kVecsPer16) sums[r][n][i] = fma_vec(value, column[n][i], sums[r][n][i]);
    }
  }
  if (accumulate)
    UNROLLED_FOR (r, R)
      UNROLLED_FOR (n, N)
        UNROLLED_FOR (i, kVecsPer16) sums[r][n][i] += load_vec(c + r * c_row + n * kLanes + i * kVecWidth);
  UNROLLED_FOR (r, R)
    UNROLLED_FOR (n, N)
      UNROLLED_FOR (i, kVecsPer16) store_vec(c + r * c_row + n * kLanes + i * kVecWidth, sums[r][n][i]);
}

// All panels of a block of columns (`kBlockRows` columns each, then two) by N tiles.
template <int N>
static inline void outer_product_panels(const float* a, int columns, int K, const float* b, size_t tile, float* c,
                                        size_t c_row, bool accumulate) {
  int column = 0;
  for (; column + kBlockRows <= columns; column += kBlockRows)
    outer_product_block<kBlockRows, N>(a + static_cast<size_t>(column) * K, K, b, tile, c + column * c_row, c_row,
                                       accumulate);
  for (; column < columns; column += 2)
    outer_product_block<2, N>(a + static_cast<size_t>(column) * K, K, b, tile, c + column * c_row, c_row, accumulate);
}

template <int R>
static inline void pack_panel(const float* from, size_t stride, size_t rows, float* to) {
  for (size_t row = 0; row < rows; ++row) std::memcpy(to + row * R, from + row * stride, R * sizeof(float));
}

// An even number of columns as panels: panel[k][kRows], then [k][2].
static void pack_panels(const float* from, size_t stride, size_t rows, int columns, float* to) {
  int column = 0;
  for (; column + kBlockRows <= columns; column += kBlockRows)
    pack_panel<kBlockRows>(from + column, stride, rows, to + column * rows);
  for (; column < columns; column += 2) pack_panel<2>(from + column, stride, rows, to + column * rows);
}

// How the products of one source are cut: blocks of columns of dgates by groups of tiles of the source.
struct GradTasks {
  int columns, tiles, tiles_per_task, column_blocks, tile_blocks;
  GradTasks(const GradSource& sources, int threads)
      : columns(sources.last - sources.first),
        tiles(static_cast<int>(sources.width / kLanes)),
        tiles_per_task(kGradTiles),
        column_blocks((columns + kGradColumns - 1) / kGradColumns) {
    while (tiles_per_task > kBlockTiles &&
           column_blocks * ((tiles + tiles_per_task - 1) / tiles_per_task) < 4 * threads)
      tiles_per_task /= 2;
    tile_blocks = (tiles + tiles_per_task - 1) / tiles_per_task;
  }
  int count() const { return column_blocks * tile_blocks; }
};

// One of those pieces for a block of rows. `packed` has all tiles of the source; `panels` is room for columns of
// dgates.
static void run_grad_task(const WeightGradients& a, const GradSource& sources, const GradTasks& tasks, int index,
                          size_t row, size_t rows, const float* packed, float* panels) {
  const int column = index / tasks.tile_blocks * kGradColumns, first = index % tasks.tile_blocks * tasks.tiles_per_task;
  const int columns = tasks.columns - column < kGradColumns ? tasks.columns - column : kGradColumns;
  const int last = first + tasks.tiles_per_task < tasks.tiles ? first + tasks.tiles_per_task : tasks.tiles,
            K = static_cast<int>(rows);
  const size_t tile = rows * kLanes;
  pack_panels(static_cast<const float*>(a.dgates) + row * a.dgates_stride + sources.first + column, a.dgates_stride,
              rows, columns, panels);
  float* gradient = sources.gradient + column * sources.width;
  int n = first;
  for (; n + kBlockTiles <= last; n += kBlockTiles)
    outer_product_panels<kBlockTiles>(panels, columns, K, packed + n * tile, tile, gradient + n * kLanes, sources.width,
                                      row > 0);
  for (; n < last; ++n)
    outer_product_panels<1>(panels, columns, K, packed + n * tile, tile, gradient + n * kLanes, sources.width, row > 0);
}

static void pack_source_tile(const GradSource& sources, int n, size_t row, size_t rows, float* to) {
  const float* from = static_cast<const float*>(sources.values) + row * sources.stride + n * kLanes;
  for (size_t k = 0; k < rows; ++k) store(to + k * kLanes, load(from + k * sources.stride));
}

template <>
void weight_gradients<float>(const WeightGradients& a) {
  size_t tiles = 0;
  for (int i = 0; i < a.source_count; ++i) tiles += a.sources[i].width / kLanes;
  const size_t deepest = a.rows < kGradDepth ? a.rows : kGradDepth;
  auto* packed = static_cast<float*>(
      thread_scratch(kScratchSharedSources, tiles * deepest * kLanes * sizeof(float)));  // of all threads
  parallel_region(a.threads, [&](const ThreadContext& thread) {
    auto* panels = static_cast<float*>(thread_scratch(kScratchGatePanels, deepest * kGradColumns * sizeof(float)));
    for (size_t row = 0; row < a.rows; row += kGradDepth) {
      const size_t rows = a.rows - row < kGradDepth ? a.rows - row : kGradDepth, tile = rows * kLanes;
      const int first_tiles = static_cast<int>(a.sources[0].width / kLanes);
      parallel_for(thread, static_cast<int>(tiles), [&](int n) {
        const bool second = n >= first_tiles;
        pack_source_tile(a.sources[second], n - (second ? first_tiles : 0), row, rows, packed + n * tile);
      });
      for (int i = 0; i < a.source_count; ++i) {
        const GradTasks tasks(a.sources[i], thread.size);
        const float* from = packed + (i == 0 ? 0 : first_tiles * tile);
        parallel_for(thread, tasks.count(),
                     [&](int index) { run_grad_task(a, a.sources[i], tasks, index, row, rows, from, panels); });
      }
    }
  });
}

constexpr size_t kInputGradRows = 48, kMaxInputGradTasks = 1024;  // of inputs' gradients

template <>
void input_gradients<float>(const InputGradients& a) {
  const size_t tile = static_cast<size_t>(a.depth) * kLanes, all_tiles = a.width / kLanes;
  const size_t panels = (all_tiles + kGradTiles - 1) / kGradTiles;
  const size_t rows_per_task = (a.rows / kMaxInputGradTasks / kInputGradRows + 1) * kInputGradRows,
               tasks = (a.rows + rows_per_task - 1) / rows_per_task;
  constexpr size_t c_tile = kInputGradRows * kLanes + kLanes;
  parallel_region(a.threads, [&](const ThreadContext& thread) {
    auto* sums = static_cast<float*>(thread_scratch(kScratchInputGradSums, kGradTiles * c_tile * sizeof(float)));
    parallel_for(thread, static_cast<int>(panels * tasks), [&](int index) {
      const size_t n = index / tasks * kGradTiles, first = index % tasks * rows_per_task;
      const size_t tiles = all_tiles - n < kGradTiles ? all_tiles - n : kGradTiles,
                   last = first + rows_per_task < a.rows ? first + rows_per_task : a.rows;
      for (size_t row = first; row < last; row += kInputGradRows) {
        const size_t rows = last - row < kInputGradRows ? last - row : kInputGradRows;
        gemm(static_cast<const float*>(a.dgates) + row * a.dgates_stride + a.first, a.dgates_stride,
             static_cast<int>(rows), a.depth, static_cast<const float*>(a.weight_transposed) + n * tile,
             static_cast<int>(tiles), sums, c_tile);
        for (size_t r = 0; r < rows; ++r)
          for (size_t i = 0; i < tiles; ++i)
            store(a.dinputs + (row + r) * a.width + (n + i) * kLanes, load(sums + i * c_tile + r * kLanes));
      }
    });
  });
}

}  // namespace UNROLLED_ISA
}  // namespace unrolled
