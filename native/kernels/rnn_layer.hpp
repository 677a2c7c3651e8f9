// A recurrent layer forward and backward through time. See layer.hpp for what is where.
//
// One parallel region for the whole sequence, the arithmetic of a cell done on its sums while they are hot. Threads share a
// layer in one of two ways. By rows: each has some rows and all units, and never meets another; but each reads all weights at
// every step, which must fit its cache. By units: each has some units of all gates and reads their weights alone; but all
// meet at every step, since the next product needs all units, and read each other's. What a unit's sums are does not depend on
// who makes them, so a thread that is ahead may take some of another's.
#pragma once

#include <type_traits>

#include "kernels/rnn_cell.hpp"
#include "args/layer_args.hpp"
#include "kernels/gemm.hpp"
#include "threads/parallel.hpp"

namespace unrolled {
namespace UNROLLED_ISA {

template <typename T>
constexpr bool kIsExact = kIsFloat32<T>;

template <typename T>
using Saved = std::conditional_t<kIsExact<T>, float, float16>;

// Groups of 16 units whose gates make a product wide enough: for the registers, or, where tiles have registers, for the rows
// that stay in the first-level cache while the weights pass by.
template <typename T>
constexpr int groups_per_chunk(int kind) {
#if defined(__AMX_TILE__)
  if (!kIsExact<T>) return kind == kRNN ? 16 : kind == kGRU ? 5 : 4;
#endif
  return kind == kLSTM ? 1 : 4;
}

constexpr size_t kInputScratchBytes = 1 << 21;  // bytes of input products that a thread makes ahead: they should stay in its cache

// What threads have together that share a layer by units, or one has by itself: all groups, and rows `row` to `row_end`.
struct ThreadSlice {
  int groups, row_begin, row_end;
  float* carry;        // (groups, rows, 16): an LSTM's c, a GRU's h; on the way back what flows into the step before
  float* input_sums;   // (tiles, steps, rows, 16), the products of all tiles with the inputs of some steps
  float* state_grads;  // (groups, rows, 16), on the way back: the products with the gates' gradients
  int rows() const { return row_end - row_begin; }
  size_t tile_size() const { return static_cast<size_t>(rows()) * kLanes; }
  size_t offset(int group, int row) const { return group * tile_size() + static_cast<size_t>(row - row_begin) * kLanes; }
};

struct WorkChunks {
  int groups, size, count;
  WorkChunks(int total, int threads, int min_per_thread, int max_size, int multiple)
      : groups(total), size(threads == 1 ? max_size : (total / (threads * min_per_thread) + multiple - 1) / multiple * multiple) {
    size = size < multiple ? multiple : size > max_size ? max_size : size;
    count = (groups + size - 1) / size;
  }
  int begin(int chunk) const { return chunk * size; }
  int end(int chunk) const { return begin(chunk) + size < groups ? begin(chunk) + size : groups; }
};

// Calls `work` with what this thread takes part in: the whole layer, with all other threads, or some of the rows, alone.
template <typename F>
static void for_each_slice(const LayerShape& s, const ThreadContext& thread, const ThreadSlice& layer_slice, F&& work) {
  if (s.row_slices == 1) return work(layer_slice, thread, 0);
  for (int row_slice = thread.index; row_slice < s.row_slices; row_slice += thread.size) {
    const SingleThread alone;
    ThreadSlice slice{};
    slice.groups = s.groups();
    static_range((s.rows + 15) / 16, row_slice, s.row_slices, slice.row_begin, slice.row_end);
    slice.row_begin *= 16;
    slice.row_end = slice.row_end * 16 < s.rows ? slice.row_end * 16 : s.rows;
    work(slice, alone.context, row_slice);
  }
}

UNROLLED_INLINE int units_in_group(const LayerShape& shape, int unit) {
  const int left = shape.units - unit;
  return left < 0 ? 0 : left < kLanes ? left : kLanes;
}

constexpr size_t kPrefetchRows = 4;  // rows ahead of which a table's rows are called for

// How far it is from what belongs to a row and group to what a thread needs next: the same row's next group, or, after its own
// last one, its first one of the step after (`steps` 1) or before (-1). Rows lie so far apart that no cache foresees it.
struct PrefetchOffsets {
  ptrdiff_t units, saved_activations, padded;  // in numbers of (T, B, H), of (T, groups, B, a row) and of (T, B, stride)
  bool new_line;                    // whether it is another line of `padded`, which two groups share
  PrefetchOffsets(const LayerShape& s, const ThreadContext& thread, int group, int steps, int saved_row, size_t stride) {
    int first_group, last_group;
    static_range(s.groups(), thread, first_group, last_group);
    const bool last = group + 1 == last_group;
    const ptrdiff_t groups = last ? first_group - group : 1, rows = last ? steps * s.rows : 0;
    units = rows * s.units + groups * kLanes;
    saved_activations = (rows * s.groups() + groups * s.rows) * saved_row;
    padded = rows * static_cast<ptrdiff_t>(stride) + groups * kLanes;
    new_line = last || group % 2 == 1;
  }
};

}  // namespace UNROLLED_ISA
}  // namespace unrolled
