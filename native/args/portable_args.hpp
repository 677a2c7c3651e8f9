// Arguments of the portable step (docs/portable.md): a text model with int8 weights in arithmetic that every processor
// does alike.
//
//   B rows   H units   G gates   L layers   V symbols   E numbers of an embedding
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "args/decoder_args.hpp"

namespace unrolled {

enum PortableKind {
  kPortableRNN = 0, kPortableGRU = 1, kPortableGRUResetBefore = 2, kPortableLSTM = 3,
  kPortableMinGRU = 4, kPortableMinLSTM = 5, kPortableRGLRU = 6, kPortableSLSTM = 7
};

inline int portable_gates(int kind) {
  const bool has_four = kind == kPortableLSTM || kind == kPortableSLSTM;
  return kind == kPortableRNN ? 1 : kind == kPortableMinGRU ? 2 : has_four ? 4 : 3;
}

// Whether the gates depend on the input only, so that there is no matrix for h.
inline bool portable_is_linear(int kind) { return kind >= kPortableMinGRU && kind <= kPortableRGLRU; }

// Parts of the state besides h: c of an LSTM; c, n and m of an sLSTM.
inline int portable_others(int kind) { return kind == kPortableLSTM ? 1 : kind == kPortableSLSTM ? 3 : 0; }

constexpr int kPortableBlock = 512;    // columns whose products are added as one integer
constexpr int kPortableMaxRows = 16;   // rows that one thread takes through a step together
constexpr int kPortablePadding = 16;   // floats behind a row that a vector may read

inline int round_up_16(int value) { return (value + 15) / 16 * 16; }

// A matrix of int8 weights with a scale for each of its rows, in tiles of 16 rows: [columns / 2][16][2], the last column
// and the last rows filled with zeros.
struct Int8Tiles {
  AlignedBuffer data, scale;
  int rows = 0, columns = 0;
  int tiles() const { return (rows + 15) / 16; }
  int pairs() const { return (columns + 1) / 2; }
  std::size_t tile_bytes() const { return static_cast<std::size_t>(pairs()) * 32; }
};

// `weight` is (rows, columns), `scale` (rows).
Int8Tiles pack_int8_tiles(const int8_t* weight, const float* scale, int rows, int columns);

// `count` floats, with zeros behind them; empty without `values`.
AlignedBuffer padded_floats(const float* values, int count);

struct PortableLayer {
  Int8Tiles input;        // (G H, E or H); without rows for the first layer of one-hot inputs
  Int8Tiles recurrent;    // (G H, H); of a GRU with the reset before the product (2 H, H); without rows for a linear cell
  Int8Tiles recurrent_n;  // (H, H) of such a GRU
  AlignedBuffer bias;     // (G H)
  AlignedBuffer bias_hh;  // (G H), or empty
  AlignedBuffer norm_weight, norm_bias;  // (H), or empty
  std::vector<Int8Tiles> rounds;  // of a Mogrifier: (E or H, H) for its input and (H, E or H) for h in turn
  AlignedBuffer decay;            // (H) of an RG-LRU, or empty
};

struct PortableClamp {
  int layer, unit;
  float value;
};

struct PortableModel {
  int kind = kPortableLSTM, units = 0, vocab_size = 0;
  int embedding_size = 0;  // E; 0 for one-hot inputs, of which `input` has the products of the first layer
  bool residual = false;
  std::vector<PortableLayer> layers;
  std::vector<int8_t> input;  // (V, E), or (V, G H)
  AlignedBuffer input_scale;  // (V), or (G H)
  Int8Tiles head;             // (V, H)
  AlignedBuffer head_bias;    // (V)
  std::vector<PortableClamp> clamps;

  // The products of the first layer's input with the bias added, (V, width), each written when its symbol is first read.
  AlignedBuffer first_gates;
  std::unique_ptr<std::atomic<bool>[]> has_first_gates;
  std::mutex mutex;  // of who writes them

  int gate_columns() const { return portable_gates(kind) * units; }
  int gate_width() const { return round_up_16(gate_columns()) + kPortablePadding; }
  int max_columns() const { return embedding_size > units ? embedding_size : units; }
};

struct PortableCall {
  PortableModel* model;
  int steps, rows;
  float *h, *c;          // (L, B, H), replaced by the next state; c of an LSTM; c, n and m of an sLSTM, (3, L, B, H)
  const int64_t* ids;    // (T, B) symbols to read; null where they are drawn
  const uint8_t* resets; // (T, B) or null: the state is zero before that step
  float* logits;         // (T, B, V) where symbols are read; (B, V) where they are drawn: those of the first draw, replaced
  int64_t* sampled;      // (T, B)
  const uint64_t* seeds; // (B)
  uint64_t position;     // of the first draw
  Filters filters;
};

// Take the rows from `first` to `first + count` of a call through all its steps; count is at most kPortableMaxRows.
using PortableRun = void (*)(const PortableCall& call, int first, int count);

}  // namespace unrolled
