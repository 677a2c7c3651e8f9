// Weights in the order in which products read them: tiles of 16 columns, see product.hpp.
#pragma once

#include "layer.hpp"
#include "product.hpp"
#include "team.hpp"

namespace unrolled {
namespace UNROLLED_SET {

static inline void put(float* tile, int k, int lane, float value) { tile[static_cast<size_t>(k) * kLanes + lane] = value; }
static inline void put(bfloat16* tile, int k, int lane, float value) {
  tile[(static_cast<size_t>(k / 2) * kLanes + lane) * 2 + k % 2] = narrow(value);
}

#if defined(__AVX512BF16__)
static inline __m512i pairs_of(const float* even, const float* odd) {  // 16 pairs (even[i], odd[i])
  const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(even)));
  const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(odd)));
  return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

// A tile whose columns are rows of `from`, `apart` apart: 32 numbers of each of 16 rows, turned.
static inline void turn(const float* from, size_t apart, bfloat16* tile) {
  alignas(64) bfloat16 rows[kLanes][32];
  for (int lane = 0; lane < kLanes; ++lane) {
    const float* row = from + lane * apart;
    _mm512_store_si512(rows[lane], (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(row + 16), _mm512_loadu_ps(row)));
  }
  const __m512i first = _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                           _mm512_set1_epi32(16));
  for (int pair = 0; pair < 16; ++pair)
    _mm512_storeu_si512(tile + pair * 32,
                        _mm512_i32gather_epi32(_mm512_add_epi32(first, _mm512_set1_epi32(pair)), rows, 4));
}
#endif

// The tile of `units` from `unit` on of one gate, whose weights are `from` (H, depth): a column a unit.
template <typename T>
static void pack_columns(const float* from, int unit, int units, int depth, int padded, T* tile) {
  const int lanes = units - unit < kLanes ? units - unit : kLanes;
  int k = 0;
#if defined(__AVX512BF16__)
  if constexpr (!kIsFloat<T>) {
    if (lanes == kLanes)
      for (; k + 32 <= depth; k += 32)
        turn(from + static_cast<size_t>(unit) * depth + k, depth, tile + static_cast<size_t>(k) * kLanes);
  }
#endif
  for (; k < padded; ++k)
    for (int lane = 0; lane < kLanes; ++lane)
      put(tile, k, lane, k < depth && lane < lanes ? from[static_cast<size_t>(unit + lane) * depth + k] : 0.0f);
}

// One gate's depth of a tile for the way back: a row for each unit of the gate, `from` (H, columns), 16 columns of it.
template <typename T>
static void pack_rows(const float* from, int column, int columns, int units, int padded, T* tile) {
  const int lanes = columns - column < kLanes ? columns - column : kLanes;
  int k = 0;
#if defined(__AVX512BF16__)
  if constexpr (!kIsFloat<T>) {
    if (lanes == kLanes)
      for (; k + 2 <= units; k += 2) {
        const float* row = from + static_cast<size_t>(k) * columns + column;
        _mm512_storeu_si512(tile + static_cast<size_t>(k) * kLanes, pairs_of(row, row + columns));
      }
  }
#endif
  for (; k < padded; ++k)
    for (int lane = 0; lane < kLanes; ++lane)
      put(tile, k, lane, k < units && lane < lanes ? from[static_cast<size_t>(k) * columns + column + lane] : 0.0f);
}

// `weight` (G H, depth) to the tiles of a forward product, `padded` deep.
template <typename T>
static void pack_forward(const LayerShape& s, const float* weight, int depth, int padded, void* to) {
  const int G = gates_of(s.kind);
  together(s.threads, [&](const Place& place) {
    int first, last;
    share(s.groups(), place, first, last);
    for (int group = first; group < last; ++group)
      for (int g = 0; g < G; ++g)
        pack_columns(weight + static_cast<size_t>(g) * s.units * depth, group * kLanes, s.units, depth, padded,
                     static_cast<T*>(to) + (static_cast<size_t>(group) * G + g) * padded * kLanes);
  });
}

// `weight` (G H, columns) to the tiles of a product on the way back. Of the weights of a GRU's state, where columns are units,
// gate n comes first: see `dgates` in layer.hpp.
template <typename T>
static void pack_backward(const LayerShape& s, const float* weight, int columns, bool of_state, void* to) {
  const int G = gates_of(s.kind), tiles = (columns + 31) / 32 * 2;
  together(s.threads, [&](const Place& place) {
    int first, last;
    share(tiles, place, first, last);
    for (int tile = first; tile < last; ++tile)
      for (int g = 0; g < G; ++g) {
        const int gate = s.kind == kGRU && of_state ? (g + 2) % 3 : g;
        pack_rows(weight + static_cast<size_t>(gate) * s.units * columns, tile * kLanes, columns, s.units, s.padded_units,
                  static_cast<T*>(to) + (static_cast<size_t>(tile) * G + g) * s.padded_units * kLanes);
      }
  });
}

}  // namespace UNROLLED_SET
}  // namespace unrolled
