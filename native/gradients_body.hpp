// The large products of the way back, for processors with tile registers: torch's take twice the time where a side is turned.
#pragma once

#include "layer.hpp"
#include "pack.hpp"
#include "product.hpp"
#include "team.hpp"

#if defined(__AMX_TILE__)
namespace unrolled {
namespace UNROLLED_SET {

constexpr size_t kPackedBytes = 1 << 20;  // of a source, packed: it stays in the second-level cache

// Two rows of 16 numbers as 16 pairs; a row that is not there is zero.
UNROLLED_INLINE __m512i pairs(const bfloat16* row, size_t stride, size_t left) {
  const auto read16 = [](const bfloat16* from) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  };
  if (left == 0) return _mm512_setzero_si512();
  return _mm512_or_si512(read16(row), _mm512_slli_epi32(read16(row + stride), 16));
}

// 16 columns of `deep` rows, of which `rows` are there, as a tile of columns.
static void pack_pairs(const bfloat16* from, size_t stride, size_t rows, int deep, bfloat16* tile) {
  for (int k = 0; k < deep; k += 2)
    _mm512_storeu_si512(tile + static_cast<size_t>(k) * kLanes,
                        pairs(from + k * stride, stride, static_cast<size_t>(k) < rows ? rows - k : 0));
}

// The same 16 columns as 16 rows of `deep` numbers, `lda` apart.
static void turn_columns(const bfloat16* from, size_t stride, size_t rows, int deep, bfloat16* to, size_t lda) {
  for (int k = 0; k < deep; k += 32) {
    __m512i words[16];
    for (int i = 0; i < 16; ++i) {
      const size_t row = static_cast<size_t>(k) + 2 * i;
      words[i] = pairs(from + row * stride, stride, row < rows ? rows - row : 0);
    }
    turn_words(words);
    for (int i = 0; i < 16; ++i) _mm512_storeu_si512(to + i * lda + k, words[i]);
  }
}

// One block of rows: all of a source's columns packed, and 32 columns of dgates turned at a time.
static void add_block(const WeightGradients& a, size_t row, size_t rows, int first, int last, bfloat16* packed,
                      bfloat16* turned) {
  const int deep = static_cast<int>((rows + 31) / 32 * 32);
  const size_t tile = static_cast<size_t>(deep) * kLanes, lda = deep + 32;
  bfloat16* to = packed;
  for (int i = 0; i < a.sources; ++i) {
    const Source& source = a.source[i];
    const auto* from = static_cast<const bfloat16*>(source.values) + row * source.stride;
    for (size_t column = 0; column < source.width; column += kLanes, to += tile)
      pack_pairs(from + column, source.stride, rows, deep, to);
  }
  const auto* dgates = static_cast<const bfloat16*>(a.dgates) + row * a.stride_g;
  for (int column = first; column < last; column += 32) {
    turn_columns(dgates + column, a.stride_g, rows, deep, turned, lda);
    turn_columns(dgates + column + kLanes, a.stride_g, rows, deep, turned + kLanes * lda, lda);
    const bfloat16* b = packed;
    for (int i = 0; i < a.sources; ++i) {
      const Source& source = a.source[i];
      const size_t tiles = source.width / kLanes;
      if (column >= source.first && column < source.last) {
        float* c = source.gradient + (column - source.first) * source.width;
        tiled_block<2>(turned, turned + 16 * lda, lda, deep, b, static_cast<int>(tiles), c, kLanes, source.width, row > 0);
      }
      b += tiles * tile;
    }
  }
}

static void weight_gradients(const WeightGradients& a) {
  int columns = 0;
  size_t width = 0;
  for (int i = 0; i < a.sources; ++i) {
    columns = a.source[i].last > columns ? a.source[i].last : columns;
    width += a.source[i].width;
  }
  size_t rows = kPackedBytes / (width * sizeof(bfloat16)) / 32 * 32;
  rows = rows < 256 ? 256 : rows > 2048 ? 2048 : rows;
  together(a.threads, [&](const Place& place) {
    Tiles tiles;
    int first, last;
    share(columns / 32, place, first, last);
    auto* packed = static_cast<bfloat16*>(thread_memory(3, rows * width * sizeof(bfloat16)));
    auto* turned = static_cast<bfloat16*>(thread_memory(4, (rows + 32) * 32 * sizeof(bfloat16)));
    for (size_t row = 0; row < a.rows; row += rows)
      add_block(a, row, a.rows - row < rows ? a.rows - row : rows, first * 32, last * 32, packed, turned);
  });
}

static void input_gradients(const InputGradients& a) {
  together(a.threads, [&](const Place& place) {
    Tiles tiles;
    int first, last;
    share(static_cast<int>(a.rows / 16), place, first, last);
    product(static_cast<const bfloat16*>(a.dgates) + first * 16ul * a.stride_g + a.first, a.stride_g, (last - first) * 16, a.deep,
            static_cast<const bfloat16*>(a.weight_back), static_cast<int>(a.width / kLanes), a.dinputs + first * 16ul * a.width,
            kLanes, a.width);
  });
}

}  // namespace UNROLLED_SET
}  // namespace unrolled
#endif
