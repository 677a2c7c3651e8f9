// The nearest orthogonal matrix of each of many squares, by odd polynomials of degree five (Muon's step), in tile registers.
//
// torch's batched product of such squares leaves the tiles waiting; here a thread keeps one square in its cache from its
// gradient to its direction. Products are in bfloat16 with sums in float32, as torch's are.
#pragma once

#include "gradients_body.hpp"
#include "update_body.hpp"

#if defined(__AMX_TILE__)
namespace unrolled {
namespace UNROLLED_SET {

// A thread's room for one square of H rows: matrices of rows `lda` apart, one packed as columns, and sums of some rows in tiles
// of 16 columns, which stay in the first-level cache.
struct PolarRoom {
  static constexpr int kRows = 32;
  int H;
  size_t lda;
  bfloat16 *x, *square, *factor, *packed;
  float* sums;

  // Sums of `kRows` rows of a times what is packed, from a column on, and of one row and 16 columns of them.
  void multiply(const bfloat16* a, int row, int column) const {
    product(a + row * lda, lda, kRows, H, packed + static_cast<size_t>(column) * H, (H - column) / kLanes, sums_at(0, column),
            kRows * kLanes);
  }
  float* sums_at(int row, int column) const { return sums + (static_cast<size_t>(column) * kRows + row * kLanes); }
};

static PolarRoom polar_room(int H) {
  const size_t lda = H + 32, matrix = H * lda * sizeof(bfloat16), packed = static_cast<size_t>(H) * H * sizeof(bfloat16);
  auto* memory = static_cast<char*>(thread_memory(3, 3 * matrix + packed + PolarRoom::kRows * H * sizeof(float)));
  const auto at = [&](size_t offset) { return reinterpret_cast<bfloat16*>(memory + offset); };
  return {H, lda, at(0), at(matrix), at(2 * matrix), at(3 * matrix), reinterpret_cast<float*>(memory + 3 * matrix + packed)};
}

// to = scale from + more a p, rounded, where p is what is packed and both sides are symmetric: the blocks from the diagonal on
// are made, and turned. `from` may be nothing.
static void combine_symmetric(const PolarRoom& room, const bfloat16* a, float scale, const bfloat16* from, float more, bfloat16* to) {
  for (int first = 0; first < room.H; first += PolarRoom::kRows) {
    room.multiply(a, first, first);
    for (int column = first; column < room.H; column += kLanes)
      for (int row = 0; row < PolarRoom::kRows; row += kLanes) {
        __m512i words[kLanes];
        for (int i = 0; i < kLanes; ++i) {
          const size_t at = (first + row + i) * room.lda + column;
          Lanes value = splat(more) * read(room.sums_at(row + i, column));
          if (from != nullptr) value = fma(splat(scale), read(from + at), value);
          write(to + at, value);
          words[i] = _mm512_castps_si512(value.part[0]);
        }
        if (column < first + PolarRoom::kRows) continue;
        turn_words(words);
        for (int i = 0; i < kLanes; ++i)
          write(to + (column + i) * room.lda + first + row, Lanes{{reinterpret_cast<Vec>(words[i])}});
      }
  }
}

// to = scale to + a p, rounded, where p is what is packed.
static void combine(const PolarRoom& room, const bfloat16* a, float scale, bfloat16* to) {
  for (int first = 0; first < room.H; first += PolarRoom::kRows) {
    room.multiply(a, first, 0);
    for (int row = 0; row < PolarRoom::kRows; ++row)
      for (int column = 0; column < room.H; column += kLanes) {
        bfloat16* at = to + (first + row) * room.lda + column;
        write(at, fma(splat(scale), read(at), read(room.sums_at(row, column))));
      }
  }
}

static void pack_columns_of(const PolarRoom& room, const bfloat16* from) {
  for (int n = 0; n < room.H; n += kLanes)
    pack_pairs(from + n, room.lda, room.H, room.H, room.packed + static_cast<size_t>(n) * room.H);
}

// The same of what is `from` turned: pairs of numbers along its rows.
static void pack_rows_of(const PolarRoom& room, const bfloat16* from) {
  for (int n = 0; n < room.H; n += kLanes)
    for (int k = 0; k < room.H; k += 32) {
      __m512i words[16];
      for (int i = 0; i < 16; ++i) words[i] = _mm512_loadu_si512(from + (n + i) * room.lda + k);
      turn_words(words);
      bfloat16* tile = room.packed + static_cast<size_t>(n) * room.H + static_cast<size_t>(k) * kLanes;
      for (int i = 0; i < 16; ++i) _mm512_storeu_si512(tile + i * 32, words[i]);
    }
}

// Leaves what it found in `room.x`.
static void polar_of(const Polar& a, const PolarRoom& room, const float* from) {
  const int H = room.H;
  double total = 0.0;
  for (int row = 0; row < H; ++row) {
    Lanes sum = splat(0.0f);
    for (int column = 0; column < H; column += kLanes) {
      const Lanes value = read(from + static_cast<size_t>(row) * H + column);
      sum = fma(value, value, sum);
    }
    total += sum_of(sum);
  }
  const float scale = 1.0f / (static_cast<float>(__builtin_sqrt(total)) * a.margin + 1e-7f);
  for (int row = 0; row < H; ++row)
    for (int column = 0; column < H; column += kLanes)
      write(room.x + row * room.lda + column, splat(scale) * read(from + static_cast<size_t>(row) * H + column));
  for (int step = 0; step < a.steps; ++step) {
    const float* c = a.coefficients + 3 * step;
    pack_rows_of(room, room.x);
    combine_symmetric(room, room.x, 0.0f, nullptr, 1.0f, room.square);  // x x^T
    pack_columns_of(room, room.square);
    combine_symmetric(room, room.square, c[1], room.square, c[2], room.factor);  // b s + c s s
    pack_columns_of(room, room.x);
    combine(room, room.factor, c[0], room.x);  // a x + (b s + c s s) x
  }
}

static void leave(const PolarRoom& room, void* to, int index) {
  auto* square = static_cast<bfloat16*>(to) + static_cast<size_t>(index) * room.H * room.H;
  for (int row = 0; row < room.H; ++row)
    std::memcpy(square + static_cast<size_t>(row) * room.H, room.x + row * room.lda, room.H * sizeof(bfloat16));
}

static void polar(const Polar& a) {
  together(a.threads, [&](const Place& place) {
    Tiles tiles;
    const PolarRoom room = polar_room(a.size);
    const size_t apart = static_cast<size_t>(a.size) * a.size;
    each(place, a.squares, [&](int index) {
      polar_of(a, room, a.from + index * apart);
      leave(room, a.to, index);
    });
  });
}

// Leaves the direction in `room.x`.
static void direction_of(const Muon& a, const PolarRoom& room, const float* gradient, float* mean) {
  const size_t count = static_cast<size_t>(room.H) * room.H;
  const Lanes scale = splat(a.scale), share = splat(1.0f - a.momentum);
  auto* ahead = reinterpret_cast<float*>(room.square);  // of the momentum, as Nesterov's; the room is not needed yet
  for (size_t at = 0; at < count; at += kLanes) {
    const Lanes g = read(gradient + at) * scale, before = read(mean + at);
    const Lanes m = fma(share, g - before, before);
    write(mean + at, m);
    write(ahead + at, fma(share, g - m, m));
  }
  polar_of(a.polar, room, ahead);
}

static void change(const Muon& a, const PolarRoom& room, float* weight) {
  const Lanes keep = splat(a.keep), rate = splat(-a.rate);
  for (int row = 0; row < room.H; ++row)
    for (int column = 0; column < room.H; column += kLanes) {
      float* to = weight + static_cast<size_t>(row) * room.H + column;
      write(to, fma(rate, read(room.x + row * room.lda + column), keep * read(to)));
    }
}

static void muon(const Muon& a) {
  together(a.polar.threads, [&](const Place& place) {
    Tiles tiles;
    const PolarRoom room = polar_room(a.polar.size);
    each(place, a.polar.squares, [&](int i) {
      direction_of(a, room, a.gradients[i], a.means[i]);
      if (a.polar.to != nullptr)
        leave(room, a.polar.to, i);
      else
        change(a, room, a.weights[i]);
    });
  });
}

static void turn_weights(const Turn& a) {
  together(a.threads, [&](const Place& place) {
    const Lanes keep = splat(a.keep), rate = splat(a.rate);
    each_piece([&](int i) { return a.sizes[i]; }, a.count, place, [&](int, int i, size_t from, size_t to) {
      for (size_t at = from; at < to; at += kLanes) {
        const int count = to - at < kLanes ? static_cast<int>(to - at) : kLanes;
        const Lanes before = read_some(a.weights[i] + at, count);
        const Lanes direction = read_some(static_cast<const bfloat16*>(a.directions[i]) + at, count);
        write_some(a.weights[i] + at, fma(rate, direction, keep * before), count);
      }
    });
  });
}

}  // namespace UNROLLED_SET
}  // namespace unrolled
#endif
