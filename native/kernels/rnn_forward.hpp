// A recurrent layer forward through time. See args/layer_args.hpp for what is where.
#pragma once

#include "kernels/rnn_layer.hpp"

namespace unrolled {
namespace UNROLLED_ISA {

// Computes one step of the cell (`step` in nn/cells/gated.py) for the 16 units of a group and all rows of a slice.
//   gate sums   a_g = (W_ih x)_g + (W_hh h)_g + b_g; of a GRU's n the state's side is kept apart, it is multiplied by r
//   cell        Cells::run, see rnn_cell.hpp
//   output      y = residual_in + dropout_mask * h'
// `sums` (W_hh h) and `xs` (W_ih x) are (gate, row, 16); `x_gate` is the distance between gates of `xs`.
template <int K, typename T>
static void forward_cells(const LayerForward& a, const ThreadSlice& slice, const ThreadContext& thread, int t,
                          int group, const float* sums, const float* xs, size_t x_gate) {
  constexpr int G = gate_count(K), kRow = saved_count(K) * kLanes;
  const LayerShape& s = a.shape;
  const int unit = group * kLanes, count = units_in_group(s, unit), rows = slice.row_end - slice.row_begin;
  const size_t units = static_cast<size_t>(s.units), step = slice.tile_size(),
               first = static_cast<size_t>(slice.row_begin);
  const size_t start = static_cast<size_t>(t) * s.rows + first;  // of what is (T, B)
  const bool final = t + 1 == s.steps;
  T* next = static_cast<T*>(a.hs) + (static_cast<size_t>(t) + 1) * s.rows * a.hs_stride + unit;
  Saved<T>* saved_activations = static_cast<Saved<T>*>(a.saved_activations);
  if (saved_activations != nullptr)
    saved_activations += ((static_cast<size_t>(t) * s.groups() + group) * s.rows + first) * kRow;
  float* carry = slice.carry + slice.offset(group, slice.row_begin);
  float *ys = a.ys + start * units + unit, *h_n = a.h_n + first * units + unit;
  float* c_n = K == kLSTM ? a.c_n + first * units + unit : nullptr;
  const float* dropout_mask = a.dropout_mask == nullptr ? nullptr : a.dropout_mask + first * units + unit;
  const int64_t* ids = a.ids == nullptr ? nullptr : a.ids + start;
  const float* residual = a.residual == nullptr ? nullptr : a.residual + (ids == nullptr ? start * units : 0) + unit;
  const uint8_t* resets = a.resets == nullptr ? nullptr : a.resets + start;
  const float* table = ids == nullptr ? nullptr : a.table + unit;
  const size_t x_stride = ids == nullptr ? x_gate : static_cast<size_t>(s.padded_units);
  Vec16 bias[G + 1];
  for (int g = 0; g < G + (K == kGRU); ++g) bias[g] = load(a.bias + static_cast<size_t>(g) * s.padded_units + unit);
  const PrefetchOffsets ahead(s, thread, group, 1, kRow, a.hs_stride);
  const auto run_rows = [&](auto row_count, size_t row) UNROLLED_LAMBDA {
    constexpr int R = decltype(row_count)::value;
    Cells<K, kIsExact<T>, R> cells;
    Saved<T>* saved_row[R];
    for (int r = 0; r < R; ++r) {
      const size_t at = row + r;
      const float* x = ids == nullptr ? xs + at * kLanes : table + static_cast<size_t>(ids[at]) * G * x_stride;
      for (int g = 0; g < G; ++g) {
        const Vec16 sum = load(sums + g * step + at * kLanes), in = load(x + g * x_stride);
        if (K == kGRU && g == 2) cells.inner[r] = sum + bias[3];
        cells.gates[r][g] = K == kGRU && g == 2 ? in + bias[2] : sum + in + bias[g];
      }
      cells.previous[r] = resets != nullptr && resets[at] ? set1(0.0f) : load(carry + at * kLanes);
      saved_row[r] = saved_activations == nullptr ? nullptr : saved_activations + at * kRow;
    }
    for (int r = 0; r < R; ++r) {  // data of the next group: its rows are too far apart for the hardware prefetcher
      const size_t at = row + r;
      for (size_t i = 0; saved_activations != nullptr && i < kRow; i += 64 / sizeof(Saved<T>))
        __builtin_prefetch(saved_row[r] + ahead.saved_activations + i, 1);
      __builtin_prefetch(ys + at * units + ahead.units, 1);
      if (ahead.new_line) __builtin_prefetch(next + (first + at) * a.hs_stride + ahead.padded, 1);
      if (residual != nullptr && ids == nullptr) __builtin_prefetch(residual + at * units + ahead.units);
      if (ids == nullptr || at + kPrefetchRows >= static_cast<size_t>(rows)) continue;
      for (int g = 0; g < G; ++g)
        __builtin_prefetch(table + (static_cast<size_t>(ids[at + kPrefetchRows]) * G + g) * x_stride);
      if (residual != nullptr) __builtin_prefetch(residual + static_cast<size_t>(ids[at + kPrefetchRows]) * units);
    }
    cells.run([&](int r, int slot, std::initializer_list<Vec16> values) UNROLLED_LAMBDA {
      if (saved_activations == nullptr) return;
      for (const Vec16& value : values) store(saved_row[r] + kLanes * slot++, value);
    });
    for (int r = 0; r < R; ++r) {
      const size_t at = row + r;
      store(carry + at * kLanes, cells.after[r]);
      const bool reset_next = !final && resets != nullptr && resets[at + s.rows];
      store(next + (first + at) * a.hs_stride, reset_next ? set1(0.0f) : cells.h[r]);
      if (count == 0) continue;
      Vec16 y = cells.h[r];  // the output of the layer for the state h of its cell
      if (dropout_mask != nullptr) y = y * load_partial(dropout_mask + at * units, count);
      if (residual != nullptr)
        y = y + load_partial(residual + (ids == nullptr ? at : static_cast<size_t>(ids[at])) * units, count);
      store_partial(ys + at * units, y, count);
      if (!final) continue;
      store_partial(h_n + at * units, cells.h[r], count);
      if (K == kLSTM) store_partial(c_n + at * units, cells.after[r], count);
    }
  };
  int row = 0;
  for (; row + 2 <= rows; row += 2) run_rows(std::integral_constant<int, 2>(), static_cast<size_t>(row));
  if (row < rows) run_rows(std::integral_constant<int, 1>(), static_cast<size_t>(row));
}

template <int K, typename T>
static void init_forward(const LayerForward& a, const ThreadSlice& slice, int group) {
  const LayerShape& s = a.shape;
  T* hs = static_cast<T*>(a.hs);
  const int unit = group * kLanes, count = units_in_group(s, unit);
  for (int row = slice.row_begin; row < slice.row_end; ++row) {
    float* carry = slice.carry + slice.offset(group, row);
    const size_t at = static_cast<size_t>(row) * s.units + unit;
    Vec16 h = set1(0.0f), c = h;
    if (count > 0) {
      h = load_partial(a.h_0 + at, count);
      if (K == kLSTM) c = load_partial(a.c_0 + at, count);
    }
    store(carry, K == kLSTM ? c : h);
    const bool reset = a.resets != nullptr && a.resets[row];
    store(hs + row * a.hs_stride + unit, reset ? set1(0.0f) : h);
  }
}

// The number of steps whose W_ih x is computed at once. By rows it is one: the rows of a slice are not contiguous over
// steps.
static int input_steps_ahead(const LayerForward& a, const ThreadSlice& slice) {
  if (a.xs == nullptr || a.shape.row_slices > 1) return 1;
  const size_t step = slice.tile_size() * slice.groups * gate_count(a.shape.kind) * sizeof(float);
  const int ahead = static_cast<int>(kInputScratchBytes * a.shape.threads / step);
  return ahead < 1 ? 1 : ahead > a.shape.steps ? a.shape.steps : ahead;
}

// The scratch memory of a slice, from the calling thread.
static void allocate_scratch(const LayerForward& a, ThreadSlice& slice) {
  const size_t groups = slice.tile_size() * slice.groups, tiles = groups * gate_count(a.shape.kind);
  slice.carry = static_cast<float*>(thread_scratch(kScratchCarry, groups * sizeof(float)));
  if (a.xs != nullptr)
    slice.input_sums =
        static_cast<float*>(thread_scratch(kScratchInputSums, input_steps_ahead(a, slice) * tiles * sizeof(float)));
}

template <int K, typename T>
static void forward_slice(const LayerForward& a, const ThreadSlice& slice, const ThreadContext& thread) {
  constexpr int G = gate_count(K);
  const LayerShape& s = a.shape;
  const WorkChunks chunks(slice.groups, thread.size, 4, groups_per_chunk<T>(K),
                          kIsExact<T> ? groups_per_chunk<T>(K) : 1);
  const int ahead = input_steps_ahead(a, slice);
  const size_t x_gate = slice.tile_size() * ahead, tile_h = static_cast<size_t>(s.padded_units) * kLanes;
  const size_t tile_x = static_cast<size_t>(a.padded_inputs) * kLanes;
  auto* sums =
      static_cast<float*>(thread_scratch(kScratchGateSums, slice.tile_size() * chunks.size * G * sizeof(float)));
  parallel_for(thread, slice.groups, [&](int group) { init_forward<K, T>(a, slice, group); });
  for (int t = 0; t < s.steps; ++t) {
    const size_t first_row = static_cast<size_t>(t) * s.rows + slice.row_begin;
    if (a.xs != nullptr && t % ahead == 0) {
      const int steps = s.steps - t < ahead ? s.steps - t : ahead;
      parallel_for(thread, chunks.count, [&](int piece) {
        const int tile = chunks.begin(piece) * G;
        gemm(static_cast<const T*>(a.xs) + first_row * a.xs_stride, a.xs_stride, steps * slice.rows(), a.padded_inputs,
             static_cast<const T*>(a.weight_ih) + tile * tile_x, chunks.end(piece) * G - tile,
             slice.input_sums + tile * x_gate, x_gate);
      });
    }
    const T* h = static_cast<const T*>(a.hs) + first_row * a.hs_stride;
    parallel_for(thread, chunks.count, [&](int piece) {
      const int first = chunks.begin(piece), last = chunks.end(piece);
      gemm(h, a.hs_stride, slice.rows(), s.padded_units, static_cast<const T*>(a.weight_hh) + first * G * tile_h,
           (last - first) * G, sums, slice.tile_size());
      for (int group = first; group < last; ++group) {
        const float* xs =
            a.xs == nullptr ? nullptr : slice.input_sums + group * G * x_gate + (t % ahead) * slice.tile_size();
        forward_cells<K, T>(a, slice, thread, t, group, sums + (group - first) * G * slice.tile_size(), xs, x_gate);
      }
    });
  }
}

template <int K, typename T>
static void forward_layer(const LayerForward& a) {
  ThreadSlice layer_slice = whole_layer(a.shape);
  if (a.shape.row_slices == 1) allocate_scratch(a, layer_slice);
  parallel_region(a.shape.threads, [&](const ThreadContext& thread) {
    [[maybe_unused]] AmxTileConfig registers(a.shape.rows);
    for_each_slice(a.shape, thread, layer_slice, [&](ThreadSlice slice, const ThreadContext& at) {
      if (a.shape.row_slices > 1) allocate_scratch(a, slice);
      forward_slice<K, T>(a, slice, at);
    });
  });
}

template <typename T>
static void layer_forward(const LayerForward& a) {
  if (a.shape.kind == kRNN) forward_layer<kRNN, T>(a);
  if (a.shape.kind == kGRU) forward_layer<kGRU, T>(a);
  if (a.shape.kind == kLSTM) forward_layer<kLSTM, T>(a);
}

template <typename T>
static void input_products(const InputProducts& a) {
  const LayerShape& s = a.shape;
  const int G = gate_count(s.kind);
  const size_t tile = static_cast<size_t>(a.padded_inputs) * kLanes, x_stride = static_cast<size_t>(s.rows) * kLanes;
  parallel_region(s.threads, [&](const ThreadContext& thread) {
    [[maybe_unused]] AmxTileConfig tiles;
    int first, last;
    static_range(s.groups(), thread, first, last);
    auto* sums = static_cast<float*>(thread_scratch(kScratchInputSums, x_stride * G * sizeof(float)));
    for (int group = first; group < last; ++group) {
      gemm(static_cast<const T*>(a.xs), a.xs_stride, s.rows, a.padded_inputs,
           static_cast<const T*>(a.weight_ih) + group * G * tile, G, sums, x_stride);
      for (int row = 0; row < s.rows; ++row)
        for (int g = 0; g < G; ++g)
          store(a.table + (static_cast<size_t>(row) * G + g) * s.padded_units + group * kLanes,
                load(sums + g * x_stride + row * kLanes));
    }
  });
}

}  // namespace UNROLLED_ISA
}  // namespace unrolled
