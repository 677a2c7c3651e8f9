// A recurrent layer backward through time. See args/layer_args.hpp for what is where.
#pragma once

#include "kernels/rnn_layer.hpp"

namespace unrolled {
namespace UNROLLED_ISA {

// Gradients of the gate sums (before the activation) of one row's 16 units, from the gradient `dh` of the new state.
// The equations are the derivatives of `step` in nn/cells/gated.py:
//   RNN    h' = tanh(a)                  da = dh (1 - h'^2)
//   GRU    h' = n + z (h - n)            dn = dh (1 - z) (1 - n^2), dz = dh (h - n) z (1 - z), dr = dn inner r (1 - r)
//   LSTM   c' = f c + i g, h' = o tanh c'   dc' = dh o (1 - tanh^2 c') + dc, then i, f, g, o from dc' and dh
// `carry` is the part of the gradient that reaches the previous state without a product: an LSTM's dc' f, a GRU's dh z.
template <int K, typename T>
UNROLLED_INLINE void cell_backward(const Saved<T>* saved_activations, const Vec16& dh, float* carry, Vec16* out) {
  if constexpr (K == kRNN) {
    const Vec16 h = load(saved_activations);
    out[0] = dh * one_minus(h * h);
    store(carry, set1(0.0f));
  } else if constexpr (K == kGRU) {
    const Vec16 r = load(saved_activations), z = load(saved_activations + kLanes),
                n = load(saved_activations + 2 * kLanes);
    const Vec16 inner = load(saved_activations + 3 * kLanes), previous = load(saved_activations + 4 * kLanes);
    const Vec16 dn = dh * one_minus(z) * one_minus(n * n);
    out[0] = dn * r;
    out[1] = dn * inner * r * one_minus(r);
    out[2] = dh * (previous - n) * z * one_minus(z);
    out[3] = dn;
    store(carry, dh * z);
  } else {
    const Vec16 i = load(saved_activations), f = load(saved_activations + kLanes),
                g = load(saved_activations + 2 * kLanes), o = load(saved_activations + 3 * kLanes);
    const Vec16 t = load(saved_activations + 4 * kLanes), previous = load(saved_activations + 5 * kLanes);
    const Vec16 dc = fma(dh * o, one_minus(t * t), load(carry));
    out[0] = dc * g * i * one_minus(i);
    out[1] = dc * previous * f * one_minus(f);
    out[2] = dc * i * one_minus(g * g);
    out[3] = dh * t * o * one_minus(o);
    store(carry, dc * f);
  }
}

UNROLLED_INLINE void accumulate(float* sum, const Vec16& value) { store(sum, load(sum) + value); }

static float* bias_grad_at(const LayerBackward& a, int part, int block, int unit) {
  return a.dbias + (static_cast<size_t>(part) * grad_block_count(a.shape.kind) + block) * a.shape.padded_units + unit;
}

template <int K, typename T>
static void backward_cells(const LayerBackward& a, const ThreadSlice& slice, const ThreadContext& thread, int part,
                           int t, int group) {
  constexpr int G = gate_count(K), N = grad_block_count(K), kSlots = saved_count(K);
  const LayerShape& s = a.shape;
  const int unit = group * kLanes, count = units_in_group(s, unit);
  float* dtable = a.dtable == nullptr ? nullptr : a.dtable + part * a.vocab_size * G * s.padded_units;
  float* dresidual = a.dresidual == nullptr ? nullptr : a.dresidual + part * a.vocab_size * s.padded_units;
  const Saved<T>* saved_activations = static_cast<const Saved<T>*>(a.saved_activations) +
                                      (static_cast<size_t>(t) * s.groups() + group) * s.rows * kSlots * kLanes;
  T* to = static_cast<T*>(a.dgates) + static_cast<size_t>(t) * s.rows * a.dgates_stride + unit;
  const PrefetchOffsets ahead(s, thread, group, -1, kSlots * kLanes, a.dgates_stride);
  Vec16 bias[N];  // of this step only: one float32 sum over all steps and rows would lose precision
  for (int n = 0; n < N; ++n) bias[n] = set1(0.0f);
  for (int row = s.parts().begin(part), end = s.parts().begin(part + 1); row < end; ++row) {
    const size_t at = static_cast<size_t>(t) * s.rows + row;
    __builtin_prefetch(a.dys + at * s.units + unit + ahead.units);
    for (int n = 0; n < N && ahead.new_line; ++n)
      __builtin_prefetch(to + row * a.dgates_stride + static_cast<size_t>(n) * s.padded_units + ahead.padded, 1);
    if (dtable != nullptr && row + kPrefetchRows < static_cast<size_t>(slice.row_end)) {
      const size_t id = static_cast<size_t>(a.ids[at + kPrefetchRows]);
      for (int g = 0; g < G; ++g) __builtin_prefetch(dtable + (id * G + g) * s.padded_units + unit, 1);
      if (dresidual != nullptr) __builtin_prefetch(dresidual + id * s.padded_units + unit, 1);
    }
    float* carry = slice.carry + slice.offset(group, row);
    Vec16 dh = load(slice.state_grads + slice.offset(group, row));
    if (t + 1 < s.steps) {
      if (K != kLSTM) dh = dh + load(carry);
      if (a.resets != nullptr && a.resets[at + s.rows]) {  // the next step started from a zero state
        dh = set1(0.0f);
        store(carry, dh);
      }
    }
    if (count > 0) {
      Vec16 dy = load_partial(a.dys + at * s.units + unit, count);
      if (dresidual != nullptr) accumulate(dresidual + static_cast<size_t>(a.ids[at]) * s.padded_units + unit, dy);
      if (a.dropout_mask != nullptr)
        dy = dy * load_partial(a.dropout_mask + static_cast<size_t>(row) * s.units + unit, count);
      dh = dh + dy;
    }
    Vec16 out[N];
    cell_backward<K, T>(saved_activations + static_cast<size_t>(row) * kSlots * kLanes, dh, carry, out);
    for (int n = 0; n < N; ++n) {
      store(to + row * a.dgates_stride + static_cast<size_t>(n) * s.padded_units, out[n]);
      bias[n] = bias[n] + out[n];
    }
    if (dtable != nullptr) {
      float* into = dtable + static_cast<size_t>(a.ids[at]) * G * s.padded_units + unit;
      for (int g = 0; g < G; ++g) accumulate(into + static_cast<size_t>(g) * s.padded_units, out[N - G + g]);
    }
  }
  for (int n = 0; n < N; ++n) {
    accumulate(bias_grad_at(a, part, n, unit), bias[n]);
  }
}

// Before the last step: gradients of the last states, (B, H) each.
template <int K>
static void init_backward(const LayerBackward& a, const ThreadSlice& slice, int group) {
  const int unit = group * kLanes, count = units_in_group(a.shape, unit);
  for (int part = slice.part_begin; part < slice.part_end; ++part)
    for (int n = 0; n < grad_block_count(K); ++n) store(bias_grad_at(a, part, n, unit), set1(0.0f));
  for (int row = slice.row_begin; row < slice.row_end; ++row) {
    const size_t at = static_cast<size_t>(row) * a.shape.units + unit;
    const Vec16 zero = set1(0.0f);
    store(slice.state_grads + slice.offset(group, row), count > 0 ? load_partial(a.dh_n + at, count) : zero);
    store(slice.carry + slice.offset(group, row), K == kLSTM && count > 0 ? load_partial(a.dc_n + at, count) : zero);
  }
}

// After the first step: gradients of the first states, (B, H) each.
template <int K>
static void finish_backward(const LayerBackward& a, const ThreadSlice& slice, int group) {
  const int unit = group * kLanes, count = units_in_group(a.shape, unit);
  for (int row = slice.row_begin; row < slice.row_end && count > 0; ++row) {
    const size_t at = static_cast<size_t>(row) * a.shape.units + unit;
    const bool reset = a.resets != nullptr && a.resets[row];
    const Vec16 carry = load(slice.carry + slice.offset(group, row));
    Vec16 dh = load(slice.state_grads + slice.offset(group, row));
    if (K != kLSTM) dh = dh + carry;
    store_partial(a.dh_0 + at, reset ? set1(0.0f) : dh, count);
    if (K == kLSTM) store_partial(a.dc_0 + at, reset ? set1(0.0f) : carry, count);
  }
}

constexpr int kBackwardGroups = 16;  // groups that share one pass over the gate gradients of all rows

template <int K, typename T>
static void backward_slice(const LayerBackward& a, const ThreadSlice& slice, const ThreadContext& thread) {
  const LayerShape& s = a.shape;
  const WorkChunks chunks(slice.groups, thread.size, 2, kBackwardGroups, kIsExact<T> ? kBlockTiles : 1);
  const int depth = gate_count(K) * s.padded_units;
  const size_t tile = static_cast<size_t>(depth) * kLanes;
  parallel_for(thread, slice.groups, [&](int group) { init_backward<K>(a, slice, group); });
  for (int t = s.steps - 1; t >= 0; --t) {
    parallel_for(thread, slice.groups, [&](int group) {
      for (int part = slice.part_begin; part < slice.part_end; ++part)
        backward_cells<K, T>(a, slice, thread, part, t, group);
    });
    parallel_for(thread, chunks.count, [&](int piece) {
      const int first = chunks.begin(piece), last = chunks.end(piece);
      gemm(static_cast<const T*>(a.dgates) + (static_cast<size_t>(t) * s.rows + slice.row_begin) * a.dgates_stride,
           a.dgates_stride, slice.rows(), depth, static_cast<const T*>(a.weight_transposed) + first * tile,
           last - first, slice.state_grads + first * slice.tile_size(), slice.tile_size());
    });
  }
  parallel_for(thread, slice.groups, [&](int group) { finish_backward<K>(a, slice, group); });
}

static void allocate_scratch(ThreadSlice& slice) {
  slice.carry = static_cast<float*>(thread_scratch(kScratchCarry, slice.tile_size() * slice.groups * sizeof(float)));
  slice.state_grads =
      static_cast<float*>(thread_scratch(kScratchStateGrads, slice.tile_size() * slice.groups * sizeof(float)));
}

template <int K, typename T>
static void backward_layer(const LayerBackward& a) {
  ThreadSlice layer_slice = whole_layer(a.shape);
  if (a.shape.row_slices == 1) allocate_scratch(layer_slice);
  parallel_region(a.shape.threads, [&](const ThreadContext& thread) {
    [[maybe_unused]] AmxTileConfig registers(a.shape.rows);
    for_each_slice(a.shape, thread, layer_slice, [&](ThreadSlice slice, const ThreadContext& at) {
      if (a.shape.row_slices > 1) allocate_scratch(slice);
      backward_slice<K, T>(a, slice, at);
    });
  });
}

template <typename T>
static void layer_backward(const LayerBackward& a) {
  if (a.shape.kind == kRNN) backward_layer<kRNN, T>(a);
  if (a.shape.kind == kGRU) backward_layer<kGRU, T>(a);
  if (a.shape.kind == kLSTM) backward_layer<kLSTM, T>(a);
}

}  // namespace UNROLLED_ISA
}  // namespace unrolled
