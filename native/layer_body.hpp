// A recurrent layer forward and backward through time. See layer.hpp for what is where.
//
// One parallel region for the whole sequence, the arithmetic of a cell done on its sums while they are hot. Threads share a
// layer in one of two ways. By rows: each has some rows and all units, and never meets another; but each reads all weights at
// every step, which must fit its cache. By units: each has some units of all gates and reads their weights alone; but all
// meet at every step, since the next product needs all units, and read each other's. What a unit's sums are does not depend on
// who makes them, so a thread that is ahead may take some of another's.
#pragma once

#include <type_traits>

#include "cell_body.hpp"
#include "layer.hpp"
#include "product.hpp"
#include "team.hpp"

namespace unrolled {
namespace UNROLLED_SET {

template <typename T>
constexpr bool kExact = kIsFloat<T>;

template <typename T>
using Saved = std::conditional_t<kExact<T>, float, half>;

// Groups of 16 units whose gates make a product wide enough: for the registers, or, where tiles have registers, for the rows
// that stay in the first-level cache while the weights pass by.
template <typename T>
constexpr int groups_at_once(int kind) {
#if defined(__AMX_TILE__)
  if (!kExact<T>) return kind == kRNN ? 16 : kind == kGRU ? 5 : 4;
#endif
  return kind == kLSTM ? 1 : 4;
}

constexpr size_t kInputScratch = 1 << 21;  // bytes of input products that a thread makes ahead: they should stay in its cache

// What threads have together that share a layer by units, or one has by itself: all groups, and rows `row` to `row_end`.
struct Own {
  int groups, row, row_end;
  float* carry;   // (groups, rows, 16): an LSTM's c, a GRU's h; on the way back what flows into the step before
  float* inputs;  // (tiles, steps, rows, 16), the products of all tiles with the inputs of some steps
  float* sums;    // (groups, rows, 16), on the way back: the products with the gates' gradients
  int rows() const { return row_end - row; }
  size_t step() const { return static_cast<size_t>(rows()) * kLanes; }  // floats of a tile
  size_t at(int group, int r) const { return group * step() + static_cast<size_t>(r - row) * kLanes; }
};

// Groups in pieces that threads take one by one: at least `each` for a thread, so that all end together, of at most `most` groups;
// of a multiple of `whole`, what a product takes at once.
struct Pieces {
  int groups, size, count;
  Pieces(int all, int threads, int each, int most, int whole)
      : groups(all), size(threads == 1 ? most : (all / (threads * each) + whole - 1) / whole * whole) {
    size = size < whole ? whole : size > most ? most : size;
    count = (groups + size - 1) / size;
  }
  int first(int piece) const { return piece * size; }
  int last(int piece) const { return first(piece) + size < groups ? first(piece) + size : groups; }
};

// Calls `work` with what this thread takes part in: the whole layer, with all other threads, or some of the rows, alone.
template <typename F>
static void each_share(const LayerShape& s, const Place& place, const Own& whole, F&& work) {
  if (s.parts == 1) return work(whole, place, 0);
  for (int part = place.index; part < s.parts; part += place.size) {
    const Alone alone;
    Own own{};
    own.groups = s.groups();
    share((s.rows + 15) / 16, part, s.parts, own.row, own.row_end);
    own.row *= 16;
    own.row_end = own.row_end * 16 < s.rows ? own.row_end * 16 : s.rows;
    work(own, alone.place, part);
  }
}

UNROLLED_INLINE int count_at(const LayerShape& shape, int unit) {
  const int left = shape.units - unit;
  return left < 0 ? 0 : left < kLanes ? left : kLanes;
}

constexpr size_t kCalled = 4;  // rows ahead of which a table's rows are called for

// How far it is from what belongs to a row and group to what a thread needs next: the same row's next group, or, after its own
// last one, its first one of the step after (`steps` 1) or before (-1). Rows lie so far apart that no cache foresees it.
struct Soon {
  ptrdiff_t units, saved, wide;  // in numbers of (T, B, H), of (T, groups, B, a row) and of (T, B, stride)
  bool fresh;                    // whether it is another line of `wide`, which two groups share
  Soon(const LayerShape& s, const Place& place, int group, int steps, int saved_row, size_t stride) {
    int own_first, own_last;
    share(s.groups(), place, own_first, own_last);
    const bool last = group + 1 == own_last;
    const ptrdiff_t groups = last ? own_first - group : 1, rows = last ? steps * s.rows : 0;
    units = rows * s.units + groups * kLanes;
    saved = (rows * s.groups() + groups * s.rows) * saved_row;
    wide = rows * static_cast<ptrdiff_t>(stride) + groups * kLanes;
    fresh = last || group % 2 == 1;
  }
};

// The cells of one group at step `t`, for all rows. `sums` and `xs` are (gate, row, 16); `x_gate` lies between gates.
template <int K, typename T>
static void cells_forward(const LayerForward& a, const Own& own, const Place& place, int t, int group, const float* sums,
                          const float* xs, size_t x_gate) {
  constexpr int G = gates_of(K), kRow = slots_of(K) * kLanes;
  const LayerShape& s = a.shape;
  const int unit = group * kLanes, count = count_at(s, unit), rows = own.row_end - own.row;
  const size_t units = static_cast<size_t>(s.units), step = own.step(), first = static_cast<size_t>(own.row);
  const size_t start = static_cast<size_t>(t) * s.rows + first;  // of what is (T, B)
  const bool final = t + 1 == s.steps;
  T* next = static_cast<T*>(a.hs) + (static_cast<size_t>(t) + 1) * s.rows * a.stride_h + unit;
  Saved<T>* saved = static_cast<Saved<T>*>(a.saved);
  if (saved != nullptr) saved += ((static_cast<size_t>(t) * s.groups() + group) * s.rows + first) * kRow;
  float* carry = own.carry + own.at(group, own.row);
  float *ys = a.ys + start * units + unit, *h_last = a.h_last + first * units + unit;
  float* c_last = K == kLSTM ? a.c_last + first * units + unit : nullptr;
  const float* mask = a.mask == nullptr ? nullptr : a.mask + first * units + unit;
  const int64_t* ids = a.ids == nullptr ? nullptr : a.ids + start;
  const float* below = a.below == nullptr ? nullptr : a.below + (ids == nullptr ? start * units : 0) + unit;
  const uint8_t* resets = a.resets == nullptr ? nullptr : a.resets + start;
  const float* table = ids == nullptr ? nullptr : a.table + unit;
  const size_t apart = ids == nullptr ? x_gate : static_cast<size_t>(s.padded_units);
  Lanes bias[G + 1];
  for (int g = 0; g < G + (K == kGRU); ++g) bias[g] = read(a.bias + static_cast<size_t>(g) * s.padded_units + unit);
  const Soon soon(s, place, group, 1, kRow, a.stride_h);
  const auto some = [&](auto at_once, size_t row) UNROLLED_LAMBDA {
    constexpr int R = decltype(at_once)::value;
    Cells<K, kExact<T>, R> cells;
    Saved<T>* kept[R];
    for (int r = 0; r < R; ++r) {
      const size_t at = row + r;
      const float* x = ids == nullptr ? xs + at * kLanes : table + static_cast<size_t>(ids[at]) * G * apart;
      for (int g = 0; g < G; ++g) {
        const Lanes sum = read(sums + g * step + at * kLanes), in = read(x + g * apart);
        if (K == kGRU && g == 2) cells.inner[r] = sum + bias[3];
        cells.gates[r][g] = K == kGRU && g == 2 ? in + bias[2] : sum + in + bias[g];
      }
      cells.before[r] = resets != nullptr && resets[at] ? splat(0.0f) : read(carry + at * kLanes);
      kept[r] = saved == nullptr ? nullptr : saved + at * kRow;
    }
    for (int r = 0; r < R; ++r) {  // what the next group will read and write there: no cache has it, and its rows are far apart
      const size_t at = row + r;
      for (size_t i = 0; saved != nullptr && i < kRow; i += 64 / sizeof(Saved<T>))
        __builtin_prefetch(kept[r] + soon.saved + i, 1);
      __builtin_prefetch(ys + at * units + soon.units, 1);
      if (soon.fresh) __builtin_prefetch(next + (first + at) * a.stride_h + soon.wide, 1);
      if (below != nullptr && ids == nullptr) __builtin_prefetch(below + at * units + soon.units);
      if (ids == nullptr || at + kCalled >= static_cast<size_t>(rows)) continue;
      for (int g = 0; g < G; ++g) __builtin_prefetch(table + (static_cast<size_t>(ids[at + kCalled]) * G + g) * apart);
      if (below != nullptr) __builtin_prefetch(below + static_cast<size_t>(ids[at + kCalled]) * units);
    }
    cells.run([&](int r, int slot, std::initializer_list<Lanes> values) UNROLLED_LAMBDA {
      if (saved == nullptr) return;
      for (const Lanes& value : values) write(kept[r] + kLanes * slot++, value);
    });
    for (int r = 0; r < R; ++r) {
      const size_t at = row + r;
      write(carry + at * kLanes, cells.after[r]);
      const bool reset_next = !final && resets != nullptr && resets[at + s.rows];
      write(next + (first + at) * a.stride_h, reset_next ? splat(0.0f) : cells.h[r]);
      if (count == 0) continue;
      Lanes y = cells.h[r];  // what a layer gives out where its cell gives h
      if (mask != nullptr) y = y * read_some(mask + at * units, count);
      if (below != nullptr) y = y + read_some(below + (ids == nullptr ? at : static_cast<size_t>(ids[at])) * units, count);
      write_some(ys + at * units, y, count);
      if (!final) continue;
      write_some(h_last + at * units, cells.h[r], count);
      if (K == kLSTM) write_some(c_last + at * units, cells.after[r], count);
    }
  };
  int row = 0;
  for (; row + 2 <= rows; row += 2) some(std::integral_constant<int, 2>(), static_cast<size_t>(row));
  if (row < rows) some(std::integral_constant<int, 1>(), static_cast<size_t>(row));
}

template <int K, typename T>
static void start_forward(const LayerForward& a, const Own& own, int group) {
  const LayerShape& s = a.shape;
  T* hs = static_cast<T*>(a.hs);
  const int unit = group * kLanes, count = count_at(s, unit);
  for (int row = own.row; row < own.row_end; ++row) {
    float* carry = own.carry + own.at(group, row);
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
}

// How many steps' input products are made ahead: by rows they do not lie side by side.
static int steps_ahead(const LayerForward& a, const Own& own) {
  if (a.xs == nullptr || a.shape.parts > 1) return 1;
  const size_t step = own.step() * own.groups * gates_of(a.shape.kind) * sizeof(float);
  const int ahead = static_cast<int>(kInputScratch * a.shape.threads / step);
  return ahead < 1 ? 1 : ahead > a.shape.steps ? a.shape.steps : ahead;
}

// Own memory of the calling thread.
static void make_room(const LayerForward& a, Own& own) {
  const size_t groups = own.step() * own.groups, tiles = groups * gates_of(a.shape.kind);
  own.carry = static_cast<float*>(thread_memory(0, groups * sizeof(float)));
  if (a.xs != nullptr) own.inputs = static_cast<float*>(thread_memory(1, steps_ahead(a, own) * tiles * sizeof(float)));
}

template <int K, typename T>
static void forward_share(const LayerForward& a, const Own& own, const Place& place) {
  constexpr int G = gates_of(K);
  const LayerShape& s = a.shape;
  const Pieces pieces(own.groups, place.size, 4, groups_at_once<T>(K), kExact<T> ? groups_at_once<T>(K) : 1);
  const int ahead = steps_ahead(a, own);
  const size_t x_gate = own.step() * ahead, tile_h = static_cast<size_t>(s.padded_units) * kLanes;
  const size_t tile_x = static_cast<size_t>(a.padded_inputs) * kLanes;
  auto* sums = static_cast<float*>(thread_memory(2, own.step() * pieces.size * G * sizeof(float)));
  each(place, own.groups, [&](int group) { start_forward<K, T>(a, own, group); });
  for (int t = 0; t < s.steps; ++t) {
    const size_t first_row = static_cast<size_t>(t) * s.rows + own.row;
    if (a.xs != nullptr && t % ahead == 0) {
      const int steps = s.steps - t < ahead ? s.steps - t : ahead;
      each(place, pieces.count, [&](int piece) {
        const int tile = pieces.first(piece) * G;
        product(static_cast<const T*>(a.xs) + first_row * a.stride_x, a.stride_x, steps * own.rows(), a.padded_inputs,
                static_cast<const T*>(a.weight_x) + tile * tile_x, pieces.last(piece) * G - tile, own.inputs + tile * x_gate, x_gate);
      });
    }
    const T* h = static_cast<const T*>(a.hs) + first_row * a.stride_h;
    each(place, pieces.count, [&](int piece) {
      const int first = pieces.first(piece), last = pieces.last(piece);
      product(h, a.stride_h, own.rows(), s.padded_units, static_cast<const T*>(a.weight_h) + first * G * tile_h, (last - first) * G,
              sums, own.step());
      for (int group = first; group < last; ++group) {
        const float* xs = a.xs == nullptr ? nullptr : own.inputs + group * G * x_gate + (t % ahead) * own.step();
        cells_forward<K, T>(a, own, place, t, group, sums + (group - first) * G * own.step(), xs, x_gate);
      }
    });
  }
}

template <int K, typename T>
static void forward_of(const LayerForward& a) {
  Own whole{};
  whole.groups = a.shape.groups();
  whole.row_end = a.shape.rows;
  if (a.shape.parts == 1) make_room(a, whole);
  together(a.shape.threads, [&](const Place& place) {
    [[maybe_unused]] Tiles registers(a.shape.rows);
    each_share(a.shape, place, whole, [&](Own own, const Place& at, int) {
      if (a.shape.parts > 1) make_room(a, own);
      forward_share<K, T>(a, own, at);
    });
  });
}

template <typename T>
static void layer_forward(const LayerForward& a) {
  if (a.shape.kind == kRNN) forward_of<kRNN, T>(a);
  if (a.shape.kind == kGRU) forward_of<kGRU, T>(a);
  if (a.shape.kind == kLSTM) forward_of<kLSTM, T>(a);
}

template <typename T>
static void input_products(const InputProducts& a) {
  const LayerShape& s = a.shape;
  const int G = gates_of(s.kind);
  const size_t tile = static_cast<size_t>(a.padded_inputs) * kLanes, apart = static_cast<size_t>(s.rows) * kLanes;
  together(s.threads, [&](const Place& place) {
    [[maybe_unused]] Tiles tiles;
    int first, last;
    share(s.groups(), place, first, last);
    auto* sums = static_cast<float*>(thread_memory(1, apart * G * sizeof(float)));
    for (int group = first; group < last; ++group) {
      product(static_cast<const T*>(a.xs), a.stride_x, s.rows, a.padded_inputs,
              static_cast<const T*>(a.weight_x) + group * G * tile, G, sums, apart);
      for (int row = 0; row < s.rows; ++row)
        for (int g = 0; g < G; ++g)
          write(a.table + (static_cast<size_t>(row) * G + g) * s.padded_units + group * kLanes,
                read(sums + g * apart + row * kLanes));
    }
  });
}

// The gradients before the gates of one row's 16 units, given that of h; `carry` is what flows into the step before beside
// the product: dc, or a GRU's share of dh.
template <int K, typename T>
UNROLLED_INLINE void cell_back(const Saved<T>* saved, const Lanes& dh, float* carry, Lanes* out) {
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

UNROLLED_INLINE void add_to(float* sum, const Lanes& value) { write(sum, read(sum) + value); }

static float* bias_of(const LayerBackward& a, int part, int block, int unit) {
  return a.dbias + (static_cast<size_t>(part) * blocks_of(a.shape.kind) + block) * a.shape.padded_units + unit;
}

template <int K, typename T>
static void cells_backward(const LayerBackward& a, const Own& own, const Place& place, int part, int t, int group) {
  constexpr int G = gates_of(K), N = blocks_of(K), kSlots = slots_of(K);
  const LayerShape& s = a.shape;
  const int unit = group * kLanes, count = count_at(s, unit);
  float* dtable = a.dtable == nullptr ? nullptr : a.dtable + part * a.symbols * G * s.padded_units;
  float* dbelow = a.dbelow == nullptr ? nullptr : a.dbelow + part * a.symbols * s.padded_units;
  const Saved<T>* saved = static_cast<const Saved<T>*>(a.saved) +
                          (static_cast<size_t>(t) * s.groups() + group) * s.rows * kSlots * kLanes;
  T* to = static_cast<T*>(a.dgates) + static_cast<size_t>(t) * s.rows * a.stride_g + unit;
  const Soon soon(s, place, group, -1, kSlots * kLanes, a.stride_g);
  Lanes bias[N];  // of this step alone: one sum over all steps and rows would be as wrong as it is long
  for (int n = 0; n < N; ++n) bias[n] = splat(0.0f);
  for (int row = own.row; row < own.row_end; ++row) {
    const size_t at = static_cast<size_t>(t) * s.rows + row;
    __builtin_prefetch(a.dys + at * s.units + unit + soon.units);
    for (int n = 0; n < N && soon.fresh; ++n)
      __builtin_prefetch(to + row * a.stride_g + static_cast<size_t>(n) * s.padded_units + soon.wide, 1);
    if (dtable != nullptr && row + kCalled < static_cast<size_t>(own.row_end)) {
      const size_t id = static_cast<size_t>(a.ids[at + kCalled]);
      for (int g = 0; g < G; ++g) __builtin_prefetch(dtable + (id * G + g) * s.padded_units + unit, 1);
      if (dbelow != nullptr) __builtin_prefetch(dbelow + id * s.padded_units + unit, 1);
    }
    float* carry = own.carry + own.at(group, row);
    Lanes dh = read(own.sums + own.at(group, row));
    if (t + 1 < s.steps) {
      if (K != kLSTM) dh = dh + read(carry);
      if (a.resets != nullptr && a.resets[at + s.rows]) {  // the step after began from zero
        dh = splat(0.0f);
        write(carry, dh);
      }
    }
    if (count > 0) {
      Lanes dy = read_some(a.dys + at * s.units + unit, count);
      if (dbelow != nullptr) add_to(dbelow + static_cast<size_t>(a.ids[at]) * s.padded_units + unit, dy);
      if (a.mask != nullptr) dy = dy * read_some(a.mask + static_cast<size_t>(row) * s.units + unit, count);
      dh = dh + dy;
    }
    Lanes out[N];
    cell_back<K, T>(saved + static_cast<size_t>(row) * kSlots * kLanes, dh, carry, out);
    for (int n = 0; n < N; ++n) {
      write(to + row * a.stride_g + static_cast<size_t>(n) * s.padded_units, out[n]);
      bias[n] = bias[n] + out[n];
    }
    if (dtable != nullptr) {
      float* into = dtable + static_cast<size_t>(a.ids[at]) * G * s.padded_units + unit;
      for (int g = 0; g < G; ++g) add_to(into + static_cast<size_t>(g) * s.padded_units, out[N - G + g]);
    }
  }
  for (int n = 0; n < N; ++n) {
    add_to(bias_of(a, part, n, unit), bias[n]);
  }
}

// Before the last step: what comes from beyond the end.
template <int K>
static void start_backward(const LayerBackward& a, const Own& own, int part, int group) {
  const int unit = group * kLanes, count = count_at(a.shape, unit);
  for (int n = 0; n < blocks_of(K); ++n) write(bias_of(a, part, n, unit), splat(0.0f));
  for (int row = own.row; row < own.row_end; ++row) {
    const size_t at = static_cast<size_t>(row) * a.shape.units + unit;
    const Lanes zero = splat(0.0f);
    write(own.sums + own.at(group, row), count > 0 ? read_some(a.dh_last + at, count) : zero);
    write(own.carry + own.at(group, row), K == kLSTM && count > 0 ? read_some(a.dc_last + at, count) : zero);
  }
}

// After the first step: what flows into the state before it.
template <int K>
static void end_backward(const LayerBackward& a, const Own& own, int group) {
  const int unit = group * kLanes, count = count_at(a.shape, unit);
  for (int row = own.row; row < own.row_end && count > 0; ++row) {
    const size_t at = static_cast<size_t>(row) * a.shape.units + unit;
    const bool reset = a.resets != nullptr && a.resets[row];
    const Lanes carry = read(own.carry + own.at(group, row));
    Lanes dh = read(own.sums + own.at(group, row));
    if (K != kLSTM) dh = dh + carry;
    write_some(a.dh_first + at, reset ? splat(0.0f) : dh, count);
    if (K == kLSTM) write_some(a.dc_first + at, reset ? splat(0.0f) : carry, count);
  }
}

constexpr int kBackAtOnce = 16;  // groups: the gates' gradients of all rows pass by once for all of them

template <int K, typename T>
static void backward_share(const LayerBackward& a, const Own& own, const Place& place, int part) {
  const LayerShape& s = a.shape;
  const Pieces pieces(own.groups, place.size, 2, kBackAtOnce, kExact<T> ? kTiles : 1);
  const int deep = gates_of(K) * s.padded_units;
  const size_t tile = static_cast<size_t>(deep) * kLanes;
  each(place, own.groups, [&](int group) { start_backward<K>(a, own, part, group); });
  for (int t = s.steps - 1; t >= 0; --t) {
    each(place, own.groups, [&](int group) { cells_backward<K, T>(a, own, place, part, t, group); });
    each(place, pieces.count, [&](int piece) {
      const int first = pieces.first(piece), last = pieces.last(piece);
      product(static_cast<const T*>(a.dgates) + (static_cast<size_t>(t) * s.rows + own.row) * a.stride_g, a.stride_g, own.rows(), deep,
              static_cast<const T*>(a.weight_back) + first * tile, last - first, own.sums + first * own.step(), own.step());
    });
  }
  each(place, own.groups, [&](int group) { end_backward<K>(a, own, group); });
}

static void make_room(Own& own) {
  own.carry = static_cast<float*>(thread_memory(0, own.step() * own.groups * sizeof(float)));
  own.sums = static_cast<float*>(thread_memory(1, own.step() * own.groups * sizeof(float)));
}

template <int K, typename T>
static void backward_of(const LayerBackward& a) {
  Own whole{};
  whole.groups = a.shape.groups();
  whole.row_end = a.shape.rows;
  if (a.shape.parts == 1) make_room(whole);
  together(a.shape.threads, [&](const Place& place) {
    [[maybe_unused]] Tiles registers(a.shape.rows);
    each_share(a.shape, place, whole, [&](Own own, const Place& at, int part) {
      if (a.shape.parts > 1) make_room(own);
      backward_share<K, T>(a, own, at, part);
    });
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
