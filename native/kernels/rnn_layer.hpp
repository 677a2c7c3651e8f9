// What the forward and the backward pass of a recurrent layer have in common: how threads divide the work.
//
// A sequence is one parallel region. Threads divide a layer in one of two ways:
//   by rows    each thread has some rows of the batch and all units. Threads never wait for each other, but each reads
//   all
//              weights at every step, so the weights must fit its cache.
//   by units   each thread has some units, with all their gates, and reads only their weights. All threads wait at a
//   barrier
//              at every step, because the next product needs the state of all units.
// A sum does not depend on which thread computes it, so a thread that is ahead may take work of another.
#pragma once

#include <type_traits>

#include "args/layer_args.hpp"
#include "kernels/gemm.hpp"
#include "kernels/rnn_cell.hpp"
#include "threads/parallel.hpp"

namespace unrolled {
namespace UNROLLED_ISA {

template <typename T>
constexpr bool kIsExact = kIsFloat32<T>;

template <typename T>
using Saved = std::conditional_t<kIsExact<T>, float, float16>;

// Groups of 16 units whose gates make a product wide enough: for the registers, or, where tiles have registers, for the
// rows that stay in the first-level cache while the weights pass by.
template <typename T>
constexpr int groups_per_chunk(int kind) {
#if defined(__AMX_TILE__)
  if (!kIsExact<T>) return kind == kRNN ? 16 : kind == kGRU ? 5 : 4;
#endif
  return kind == kLSTM ? 1 : 4;
}

constexpr size_t kInputScratchBytes =
    1 << 21;  // bytes of W_ih x that a thread computes ahead; they should stay in its cache

// The part of a layer that is worked on together: all groups of 16 units, and rows `row_begin` to `row_end`. By units,
// all threads have one slice of all rows; by rows, each slice belongs to one thread.
struct ThreadSlice {
  int groups, row_begin, row_end;
  int part_begin, part_end;  // the same rows, as parts of the batch
  float* carry;        // (groups, rows, 16): an LSTM's c, a GRU's h; on the way back what flows into the step before
  float* input_sums;   // (tiles, steps, rows, 16), the products of all tiles with the inputs of some steps
  float* state_grads;  // (groups, rows, 16), on the way back: the products with the gates' gradients
  int rows() const { return row_end - row_begin; }
  size_t tile_size() const { return static_cast<size_t>(rows()) * kLanes; }
  size_t offset(int group, int row) const {
    return group * tile_size() + static_cast<size_t>(row - row_begin) * kLanes;
  }
};

struct WorkChunks {
  int groups, size, count;
  WorkChunks(int total, int threads, int min_per_thread, int max_size, int multiple)
      : groups(total),
        size(threads == 1 ? max_size : (total / (threads * min_per_thread) + multiple - 1) / multiple * multiple) {
    size = size < multiple ? multiple : size > max_size ? max_size : size;
    count = (groups + size - 1) / size;
  }
  int begin(int chunk) const { return chunk * size; }
  int end(int chunk) const { return begin(chunk) + size < groups ? begin(chunk) + size : groups; }
};

// Calls `work` with each slice this thread works on: the whole layer together with all threads, or some rows on its
// own.
template <typename F>
static void for_each_slice(const LayerShape& s, const ThreadContext& thread, const ThreadSlice& layer_slice, F&& work) {
  if (s.row_slices == 1) return work(layer_slice, thread);
  for (int row_slice = thread.index; row_slice < s.row_slices; row_slice += thread.size) {
    const SingleThread alone;
    ThreadSlice slice{};
    slice.groups = s.groups();
    static_range(s.parts().count, row_slice, s.row_slices, slice.part_begin, slice.part_end);
    slice.row_begin = s.parts().begin(slice.part_begin);
    slice.row_end = s.parts().begin(slice.part_end);
    work(slice, alone.context);
  }
}

// All rows of a layer as one slice.
static ThreadSlice whole_layer(const LayerShape& s) {
  ThreadSlice slice{};
  slice.groups = s.groups();
  slice.row_end = s.rows;
  slice.part_end = s.parts().count;
  return slice;
}

UNROLLED_INLINE int units_in_group(const LayerShape& shape, int unit) {
  const int left = shape.units - unit;
  return left < 0 ? 0 : left < kLanes ? left : kLanes;
}

constexpr size_t kPrefetchRows = 4;  // rows ahead of which a table's rows are called for

// Offsets from the data of a row and group to the data that the thread needs next: the same row's next group or, after
// the thread's last group, its first group of the next step (`steps` 1) or of the step before (-1). The rows are too
// far apart for the hardware prefetcher.
struct PrefetchOffsets {
  ptrdiff_t units, saved_activations,
      padded;     // in numbers of (T, B, H), of (T, groups, B, a row) and of (T, B, stride)
  bool new_line;  // whether it is another line of `padded`, which two groups share
  PrefetchOffsets(const LayerShape& s, const ThreadContext& thread, int group, int steps, int saved_row,
                  size_t stride) {
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
