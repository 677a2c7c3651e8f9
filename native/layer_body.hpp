// A recurrent layer forward and backward through time. See layer.hpp for what is where.
//
// One parallel region for the whole sequence. Each thread owns some units, for all their gates, so that the arithmetic of a
// cell is done on its sums while they are hot; the threads meet once a step, since the next product needs all units.
#pragma once

#include <type_traits>

#include "layer.hpp"
#include "product.hpp"
#include "team.hpp"

namespace unrolled {
namespace UNROLLED_SET {

template <typename T>
constexpr bool kExact = kIsFloat<T>;

template <typename T>
using Saved = std::conditional_t<kExact<T>, float, half>;

// Groups of 16 units whose gates make a product wide enough for the registers.
constexpr int groups_at_once(int kind) { return kind == kRNN ? 4 : kind == kGRU ? 2 : 1; }

constexpr size_t kInputScratch = 1 << 20;  // bytes of input products that a thread makes ahead: they should stay in its cache

// What a thread has of its own. `first` to `last` are its groups.
struct Own {
  int first, last;
  float* carry;   // (groups, B, 16): an LSTM's c, a GRU's h; on the way back what flows into the step before
  float* sums;    // the products of some groups with the state
  float* inputs;  // the products of all own tiles with the inputs of some steps
};

// Copies (B, H) into the groups of a thread, or back.
template <typename Copy>
static void each_own(const LayerShape& shape, const Own& own, Copy&& copy) {
  for (int group = own.first; group < own.last; ++group) {
    const int unit = group * kLanes;
    const int count = shape.units - unit < kLanes ? shape.units - unit : kLanes;
    if (count <= 0) break;
    for (int row = 0; row < shape.rows; ++row)
      copy(own.carry + (static_cast<size_t>(group - own.first) * shape.rows + row) * kLanes,
           static_cast<size_t>(row) * shape.units + unit, row, count);
  }
}

static inline int count_at(const LayerShape& shape, int unit) {
  const int left = shape.units - unit;
  return left < 0 ? 0 : left < kLanes ? left : kLanes;
}

// What enters a step, and zero for the rows that only fill up the last tile.
template <typename T>
static inline void clear_padding(T* rows, size_t stride, const LayerShape& shape, int column) {
  for (int row = shape.rows; row < shape.padded_rows; ++row) write(rows + row * stride + column, splat(0.0f));
}

template <int K, typename T>
static inline Lanes cell(const Lanes* sums, const Lanes* xs, const Lanes* bias, float* carry, bool reset, Saved<T>* saved) {
  constexpr bool E = kExact<T>;
  const Lanes before = reset ? splat(0.0f) : read(carry);
  if constexpr (K == kRNN) {
    const Lanes h = tangent<E>(sums[0] + xs[0] + bias[0]);
    if (saved != nullptr) write(saved, h);
    write(carry, h);
    return h;
  } else if constexpr (K == kGRU) {
    const Lanes r = sigmoid<E>(sums[0] + xs[0] + bias[0]);
    const Lanes z = sigmoid<E>(sums[1] + xs[1] + bias[1]);
    const Lanes inner = sums[2] + bias[3];
    const Lanes n = tangent<E>(fma(r, inner, xs[2] + bias[2]));
    const Lanes h = fma(z, before - n, n);
    if (saved != nullptr) {
      write(saved, r);
      write(saved + kLanes, z);
      write(saved + 2 * kLanes, n);
      write(saved + 3 * kLanes, inner);
      write(saved + 4 * kLanes, before);
    }
    write(carry, h);
    return h;
  } else {
    const Lanes i = sigmoid<E>(sums[0] + xs[0] + bias[0]);
    const Lanes f = sigmoid<E>(sums[1] + xs[1] + bias[1]);
    const Lanes g = tangent<E>(sums[2] + xs[2] + bias[2]);
    const Lanes o = sigmoid<E>(sums[3] + xs[3] + bias[3]);
    const Lanes c = fma(f, before, i * g);
    const Lanes t = tangent<E>(c);
    if (saved != nullptr) {
      write(saved, i);
      write(saved + kLanes, f);
      write(saved + 2 * kLanes, g);
      write(saved + 3 * kLanes, o);
      write(saved + 4 * kLanes, t);
      write(saved + 5 * kLanes, before);
    }
    write(carry, c);
    return o * t;
  }
}

// The cells of one group at step `t`, for all rows. `sums` and `xs` are (gate, row, 16); `x_gate` lies between gates.
template <int K, typename T>
static void cells_forward(const LayerForward& a, const Own& own, int t, int group, const float* sums, const float* xs,
                          size_t x_gate) {
  constexpr int G = gates_of(K);
  const LayerShape& s = a.shape;
  const int unit = group * kLanes, count = count_at(s, unit);
  const size_t sum_gate = static_cast<size_t>(s.padded_rows) * kLanes;
  const bool final = t + 1 == s.steps;
  T* next = static_cast<T*>(a.hs) + (static_cast<size_t>(t) + 1) * s.padded_rows * a.stride_h;
  Saved<T>* saved = static_cast<Saved<T>*>(a.saved);
  if (saved != nullptr)
    saved += (static_cast<size_t>(t) * s.groups() + group) * s.padded_rows * slots_of(K) * kLanes;
  Lanes bias[G + 1];
  for (int g = 0; g < G + (K == kGRU); ++g) bias[g] = read(a.bias + static_cast<size_t>(g) * s.padded_units + unit);
  for (int row = 0; row < s.rows; ++row) {
    const float* x = xs + static_cast<size_t>(row) * kLanes;
    size_t apart = x_gate;
    if (a.ids != nullptr) {
      apart = static_cast<size_t>(s.padded_units);
      x = a.table + static_cast<size_t>(a.ids[static_cast<size_t>(t) * s.rows + row]) * G * apart + unit;
    }
    Lanes sum[G], in[G];
    for (int g = 0; g < G; ++g) {
      sum[g] = read(sums + g * sum_gate + row * kLanes);
      in[g] = read(x + g * apart);
    }
    const size_t at = static_cast<size_t>(t) * s.rows + row;
    const bool reset = a.resets != nullptr && a.resets[at];
    float* carry = own.carry + (static_cast<size_t>(group - own.first) * s.rows + row) * kLanes;
    const Lanes h =
        cell<K, T>(sum, in, bias, carry, reset, saved == nullptr ? nullptr : saved + row * slots_of(K) * kLanes);
    const bool reset_next = !final && a.resets != nullptr && a.resets[at + s.rows];
    write(next + row * a.stride_h + unit, reset_next ? splat(0.0f) : h);
    if (count == 0) continue;
    write_some(static_cast<T*>(a.ys) + at * s.units + unit, h, count);
    if (final) write_some(a.h_last + static_cast<size_t>(row) * s.units + unit, h, count);
  }
  clear_padding(next, a.stride_h, s, unit);
}

template <int K, typename T>
static void start_forward(const LayerForward& a, const Own& own) {
  const LayerShape& s = a.shape;
  T* hs = static_cast<T*>(a.hs);
  for (int group = own.first; group < own.last; ++group) {
    const int unit = group * kLanes, count = count_at(s, unit);
    for (int row = 0; row < s.rows; ++row) {
      float* carry = own.carry + (static_cast<size_t>(group - own.first) * s.rows + row) * kLanes;
      const size_t at = static_cast<size_t>(row) * s.units + unit;
      Lanes h = splat(0.0f), c = h;
      if (count > 0) {
        h = read_some(a.h_first + at, count);
        if (K == kLSTM) c = read_some(a.c_first + at, count);
      }
      write(carry, K == kLSTM ? c : h);
      const bool reset = a.resets != nullptr && a.resets[row];
      write(hs + row * a.stride_h + unit, reset ? splat(0.0f) : h);
    }
    clear_padding(hs, a.stride_h, s, unit);
  }
}

template <int K, typename T>
static void forward_of(const LayerForward& a) {
  constexpr int G = gates_of(K), Q = groups_at_once(K);
  const LayerShape& s = a.shape;
  together(s.threads, [&](const Place& place) {
    Own own;
    share(s.groups(), place, own.first, own.last);
    const int groups = own.last - own.first;
    const size_t step_floats = static_cast<size_t>(s.padded_rows) * kLanes;
    int ahead = 1;
    if (a.xs != nullptr && groups > 0) {
      ahead = static_cast<int>(kInputScratch / (step_floats * groups * G * sizeof(float)));
      ahead = ahead < 1 ? 1 : ahead > s.steps ? s.steps : ahead;
    }
    own.carry = static_cast<float*>(thread_memory(0, (static_cast<size_t>(groups) * s.rows + 1) * kLanes * sizeof(float)));
    own.sums = static_cast<float*>(thread_memory(1, step_floats * Q * G * sizeof(float)));
    const size_t x_gate = step_floats * ahead;
    if (a.xs != nullptr) own.inputs = static_cast<float*>(thread_memory(2, x_gate * (groups * G + 1) * sizeof(float)));
    [[maybe_unused]] Tiles tiles;
    start_forward<K, T>(a, own);
    place.barrier.wait();
    const size_t tile_h = static_cast<size_t>(s.padded_units) * kLanes;
    const size_t tile_x = static_cast<size_t>(a.padded_inputs) * kLanes;
    for (int t = 0; t < s.steps; ++t) {
      if (a.xs != nullptr && t % ahead == 0) {
        const int steps = s.steps - t < ahead ? s.steps - t : ahead;
        product(static_cast<const T*>(a.xs) + static_cast<size_t>(t) * s.padded_rows * a.stride_x, a.stride_x,
                steps * s.padded_rows, a.padded_inputs, static_cast<const T*>(a.weight_x) + own.first * G * tile_x,
                groups * G, own.inputs, x_gate);
      }
      const T* h = static_cast<const T*>(a.hs) + static_cast<size_t>(t) * s.padded_rows * a.stride_h;
      for (int group = own.first; group < own.last; group += Q) {
        const int some = own.last - group < Q ? own.last - group : Q;
        product(h, a.stride_h, s.padded_rows, s.padded_units, static_cast<const T*>(a.weight_h) + group * G * tile_h,
                some * G, own.sums, step_floats);
        for (int one = 0; one < some; ++one) {
          const float* xs = nullptr;
          if (a.xs != nullptr) xs = own.inputs + (group + one - own.first) * G * x_gate + (t % ahead) * step_floats;
          cells_forward<K, T>(a, own, t, group + one, own.sums + one * G * step_floats, xs, x_gate);
        }
      }
      place.barrier.wait();
    }
    if constexpr (K == kLSTM)
      each_own(s, own, [&](float* carry, size_t at, int, int count) { write_some(a.c_last + at, read(carry), count); });
  });
}

template <typename T>
static void layer_forward(const LayerForward& a) {
  if (a.shape.kind == kRNN) forward_of<kRNN, T>(a);
  if (a.shape.kind == kGRU) forward_of<kGRU, T>(a);
  if (a.shape.kind == kLSTM) forward_of<kLSTM, T>(a);
}

// The gradients before the gates of one row's 16 units, given that of h; `carry` is what flows into the step before beside
// the product: dc, or a GRU's share of dh.
template <int K, typename T>
static inline void cell_back(const Saved<T>* saved, const Lanes& dh, float* carry, Lanes* out) {
  if constexpr (K == kRNN) {
    const Lanes h = read(saved);
    out[0] = dh * complement(h * h);
    write(carry, splat(0.0f));
  } else if constexpr (K == kGRU) {
    const Lanes r = read(saved), z = read(saved + kLanes), n = read(saved + 2 * kLanes);
    const Lanes inner = read(saved + 3 * kLanes), before = read(saved + 4 * kLanes);
    const Lanes dn = dh * complement(z) * complement(n * n);
    out[0] = dn * r;
    out[1] = dn * inner * r * complement(r);
    out[2] = dh * (before - n) * z * complement(z);
    out[3] = dn;
    write(carry, dh * z);
  } else {
    const Lanes i = read(saved), f = read(saved + kLanes), g = read(saved + 2 * kLanes), o = read(saved + 3 * kLanes);
    const Lanes t = read(saved + 4 * kLanes), before = read(saved + 5 * kLanes);
    const Lanes dc = fma(dh * o, complement(t * t), read(carry));
    out[0] = dc * g * i * complement(i);
    out[1] = dc * before * f * complement(f);
    out[2] = dc * i * complement(g * g);
    out[3] = dh * t * o * complement(o);
    write(carry, dc * f);
  }
}

static inline void add_to(float* sum, const Lanes& value) { write(sum, read(sum) + value); }

template <int K, typename T>
static void cells_backward(const LayerBackward& a, const Own& own, int t, int group, float* dbias) {
  constexpr int G = gates_of(K), N = blocks_of(K), kSlots = slots_of(K);
  const LayerShape& s = a.shape;
  const int unit = group * kLanes, count = count_at(s, unit);
  const Saved<T>* saved = static_cast<const Saved<T>*>(a.saved) +
                          (static_cast<size_t>(t) * s.groups() + group) * s.padded_rows * kSlots * kLanes;
  T* to = static_cast<T*>(a.dgates) + static_cast<size_t>(t) * s.padded_rows * a.stride_g + unit;
  Lanes bias[N];
  for (int n = 0; n < N; ++n) bias[n] = read(dbias + n * kLanes);
  for (int row = 0; row < s.rows; ++row) {
    const size_t at = static_cast<size_t>(t) * s.rows + row;
    float* carry = own.carry + (static_cast<size_t>(group - own.first) * s.rows + row) * kLanes;
    Lanes dh = read(own.sums + (static_cast<size_t>(group - own.first) * s.padded_rows + row) * kLanes);
    if (t + 1 < s.steps) {
      if (K != kLSTM) dh = dh + read(carry);
      if (a.resets != nullptr && a.resets[at + s.rows]) {  // the step after began from zero
        dh = splat(0.0f);
        write(carry, dh);
      }
    }
    if (count > 0) dh = dh + read_some(static_cast<const T*>(a.dys) + at * s.units + unit, count);
    Lanes out[N];
    cell_back<K, T>(saved + static_cast<size_t>(row) * kSlots * kLanes, dh, carry, out);
    for (int n = 0; n < N; ++n) {
      write(to + row * a.stride_g + static_cast<size_t>(n) * s.padded_units, out[n]);
      bias[n] = bias[n] + out[n];
    }
    if (a.dtable != nullptr) {
      float* into = a.dtable + static_cast<size_t>(a.ids[at]) * G * s.padded_units + unit;
      for (int g = 0; g < G; ++g) add_to(into + static_cast<size_t>(g) * s.padded_units, out[N - G + g]);
    }
  }
  for (int n = 0; n < N; ++n) {
    write(dbias + n * kLanes, bias[n]);
    clear_padding(to, a.stride_g, s, n * s.padded_units);
  }
}

// Before the last step: what comes from beyond the end.
template <int K>
static void start_backward(const LayerBackward& a, const Own& own, float* dbias) {
  const LayerShape& s = a.shape;
  for (int group = own.first; group < own.last; ++group) {
    const int unit = group * kLanes, count = count_at(s, unit), own_group = group - own.first;
    for (int n = 0; n < blocks_of(K); ++n) write(dbias + (own_group * blocks_of(K) + n) * kLanes, splat(0.0f));
    for (int row = 0; row < s.rows; ++row) {
      const size_t at = static_cast<size_t>(row) * s.units + unit;
      const Lanes zero = splat(0.0f);
      write(own.sums + (static_cast<size_t>(own_group) * s.padded_rows + row) * kLanes,
            count > 0 ? read_some(a.dh_last + at, count) : zero);
      write(own.carry + (static_cast<size_t>(own_group) * s.rows + row) * kLanes,
            K == kLSTM && count > 0 ? read_some(a.dc_last + at, count) : zero);
    }
  }
}

// After the first step: what flows into the state before it.
template <int K>
static void end_backward(const LayerBackward& a, const Own& own, const float* dbias) {
  const LayerShape& s = a.shape;
  each_own(s, own, [&](float* carry, size_t at, int row, int count) {
    const int group = static_cast<int>(at % s.units) / kLanes;
    const bool reset = a.resets != nullptr && a.resets[row];
    Lanes dh = read(own.sums + (static_cast<size_t>(group - own.first) * s.padded_rows + row) * kLanes);
    if (K != kLSTM) dh = dh + read(carry);
    write_some(a.dh_first + at, reset ? splat(0.0f) : dh, count);
    if (K == kLSTM) write_some(a.dc_first + at, reset ? splat(0.0f) : read(carry), count);
  });
  for (int group = own.first; group < own.last; ++group)
    for (int n = 0; n < blocks_of(K); ++n)
      write(a.dbias + static_cast<size_t>(n) * s.padded_units + group * kLanes,
            read(dbias + ((group - own.first) * blocks_of(K) + n) * kLanes));
}

template <int K, typename T>
static void backward_of(const LayerBackward& a) {
  constexpr int G = gates_of(K);
  const LayerShape& s = a.shape;
  together(s.threads, [&](const Place& place) {
    Own own;
    share(s.groups(), place, own.first, own.last);
    const int groups = own.last - own.first;
    const size_t step_floats = static_cast<size_t>(s.padded_rows) * kLanes;
    own.carry = static_cast<float*>(thread_memory(0, (static_cast<size_t>(groups) * s.rows + 1) * kLanes * sizeof(float)));
    own.sums = static_cast<float*>(thread_memory(1, step_floats * (groups + 1) * sizeof(float)));
    float* dbias = static_cast<float*>(thread_memory(2, (groups + 1) * blocks_of(K) * kLanes * sizeof(float)));
    [[maybe_unused]] Tiles tiles;
    start_backward<K>(a, own, dbias);
    const int deep = G * s.padded_units;
    const T* weights = static_cast<const T*>(a.weight_back) + static_cast<size_t>(own.first) * deep * kLanes;
    for (int t = s.steps - 1; t >= 0; --t) {
      for (int group = own.first; group < own.last; ++group)
        cells_backward<K, T>(a, own, t, group, dbias + (group - own.first) * blocks_of(K) * kLanes);
      place.barrier.wait();
      product(static_cast<const T*>(a.dgates) + static_cast<size_t>(t) * s.padded_rows * a.stride_g, a.stride_g,
              s.padded_rows, deep, weights, groups, own.sums, step_floats);
    }
    end_backward<K>(a, own, dbias);
  });
}

template <typename T>
static void layer_backward(const LayerBackward& a) {
  if (a.shape.kind == kRNN) backward_of<kRNN, T>(a);
  if (a.shape.kind == kGRU) backward_of<kGRU, T>(a);
  if (a.shape.kind == kLSTM) backward_of<kLSTM, T>(a);
}

}  // namespace UNROLLED_SET
}  // namespace unrolled
