// Packs weights into tiles of 16 columns, in the order in which products read them: see gemm.hpp.
#pragma once

#include "args/layer_args.hpp"
#include "kernels/gemm.hpp"
#include "threads/parallel.hpp"

namespace unrolled {
namespace UNROLLED_ISA {

static inline void store_element(float* tile, int k, int lane, float value) {
  tile[static_cast<size_t>(k) * kLanes + lane] = value;
}
static inline void store_element(bfloat16* tile, int k, int lane, float value) {
  tile[(static_cast<size_t>(k / 2) * kLanes + lane) * 2 + k % 2] = to_bfloat16(value);
}

#if defined(__AVX512BF16__)
static inline __m512i interleave_pairs(const float* even, const float* odd) {  // 16 pairs (even[i], odd[i])
  const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(even)));
  const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(odd)));
  return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

// A 16 x 16 matrix of words, turned in place.
UNROLLED_INLINE void transpose_words(__m512i* rows) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    rows[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    rows[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    rows[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    rows[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 16; i += 8)
    for (int j = i; j < i + 4; ++j) {
      t[j] = _mm512_shuffle_i32x4(rows[j], rows[j + 4], 0x88);
      t[j + 4] = _mm512_shuffle_i32x4(rows[j], rows[j + 4], 0xdd);
    }
  for (int j = 0; j < 8; ++j) {
    rows[j] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0x88);
    rows[j + 8] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0xdd);
  }
}

// A tile whose columns are rows of `from`, `stride` apart: 32 numbers of each of 16 rows, turned.
static inline void transpose_tile(const float* from, size_t stride, bfloat16* tile) {
  __m512i words[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) {
    const float* row = from + lane * stride;
    words[lane] = (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(row + 16), _mm512_loadu_ps(row));
  }
  transpose_words(words);
  for (int pair = 0; pair < kLanes; ++pair) _mm512_storeu_si512(tile + pair * 32, words[pair]);
}
#endif

// The tile of `units` from `unit` on of one gate, whose weights are `from` (H, depth): a column a unit.
template <typename T>
static void pack_tile_columns(const float* from, int unit, int units, int depth, int padded, T* tile) {
  const int lanes = units - unit < kLanes ? units - unit : kLanes;
  int k = 0;
#if defined(__AVX512BF16__)
  if constexpr (!kIsFloat32<T>) {
    if (lanes == kLanes)
      for (; k + 32 <= depth; k += 32)
        transpose_tile(from + static_cast<size_t>(unit) * depth + k, depth, tile + static_cast<size_t>(k) * kLanes);
  }
#endif
  for (; k < padded; ++k)
    for (int lane = 0; lane < kLanes; ++lane)
      store_element(tile, k, lane,
                    k < depth && lane < lanes ? from[static_cast<size_t>(unit + lane) * depth + k] : 0.0f);
}

// One gate's depth of some tiles for the way back, each `stride` behind the one before: a row for each unit of the
// gate, `from` (H, columns), from `column` on. Rows are read from end to end.
template <typename T>
static void pack_tile_rows(const float* from, int column, int columns, int units, int padded, int tiles, size_t stride,
                           T* tile) {
  for (int k = 0; k < padded; k += 2)
    for (int n = 0; n < tiles; ++n) {
      const int first = column + n * kLanes, lanes = columns - first < kLanes ? columns - first : kLanes;
      T* to = tile + n * stride;
#if defined(__AVX512BF16__)
      if constexpr (!kIsFloat32<T>) {
        if (lanes == kLanes && k + 2 <= units) {
          const float* row = from + static_cast<size_t>(k) * columns + first;
          _mm512_storeu_si512(to + static_cast<size_t>(k) * kLanes, interleave_pairs(row, row + columns));
          continue;
        }
      }
#endif
      for (int row = k; row < k + 2; ++row)
        for (int lane = 0; lane < kLanes; ++lane)
          store_element(to, row, lane,
                        row < units && lane < lanes ? from[static_cast<size_t>(row) * columns + first + lane] : 0.0f);
    }
}

// `weight` (G H, depth) to the tiles of a forward product, `padded` deep.
template <typename T>
static void pack_forward(const LayerShape& s, const float* weight, int depth, int padded, void* to) {
  const int G = gate_count(s.kind);
  parallel_region(s.threads, [&](const ThreadContext& place) {
    int first, last;
    static_range(s.groups(), place, first, last);
    for (int group = first; group < last; ++group)
      for (int g = 0; g < G; ++g)
        pack_tile_columns(weight + static_cast<size_t>(g) * s.units * depth, group * kLanes, s.units, depth, padded,
                          static_cast<T*>(to) + (static_cast<size_t>(group) * G + g) * padded * kLanes);
  });
}

// `weight` (G H, columns) to the tiles of a product on the way back. Of the weights of a GRU's state, where columns are
// units, gate n comes first: see `dgates` in args/layer_args.hpp.
template <typename T>
static void pack_backward(const LayerShape& s, const float* weight, int columns, bool is_hidden, void* to) {
  const int G = gate_count(s.kind), tiles = (columns + 31) / 32 * 2;
  parallel_region(s.threads, [&](const ThreadContext& place) {
    int first, last;
    static_range(tiles, place, first, last);
    const size_t depth = static_cast<size_t>(s.padded_units) * kLanes;
    for (int g = 0; g < G; ++g) {
      const int gate = s.kind == kGRU && is_hidden ? (g + 2) % 3 : g;
      pack_tile_rows(weight + static_cast<size_t>(gate) * s.units * columns, first * kLanes, columns, s.units,
                     s.padded_units, last - first, depth * G,
                     static_cast<T*>(to) + (static_cast<size_t>(first) * G + g) * depth);
    }
  });
}

}  // namespace UNROLLED_ISA
}  // namespace unrolled
