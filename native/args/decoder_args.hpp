// Arguments of the decoder: a whole network, one token at a time, for one or many streams.
//
//   R streams   H units   G gates   L layers   V symbols   K numbers that a product adds up: H, padded
//
// Weights are in tiles of 16 columns, one after the other as they are read. Tile (unit / 16) * G + gate of a layer has
// 16 units of a gate; tile t of the head has 16 symbols.
//   float32   tile[k][16]           K a multiple of 16
//   bfloat16  tile[k / 2][16][2]    K a multiple of 32
//   int8      tile[k / 4][16][4]    K a multiple of 64; a column's numbers are times a scale of its own
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "args/layer_args.hpp"
#include "threads/parallel.hpp"

namespace unrolled {

enum Precision { kInFloat32 = 0, kInBfloat16 = 1, kInInt8 = 2 };

constexpr int kTileColumns = 16;  // of a tile
constexpr int kRowBlock = 16;
constexpr int kInt8Max = 127,
              kInt8ZeroPoint =
                  128;  // int8: weights are -127 to 127; activations are unsigned with zero point 128, so 1 to 255

// Zeroed memory that starts at a cache line; large blocks in large pages, since weights are read from end to end.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t bytes);
  ~AlignedBuffer();
  AlignedBuffer(AlignedBuffer&& other) noexcept;
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept;
  template <typename T>
  T* as() const {
    return static_cast<T*>(start_);
  }
  std::size_t size() const { return size_; }

 private:
  void* start_ = nullptr;
  std::size_t size_ = 0;
};

// A matrix in tiles.
struct PackedMatrix {
  const char* data = nullptr;
  std::size_t tile = 0;                      // bytes of a tile
  const float* scales = nullptr;             // int8: of each column
  const int32_t* zero_point_sums = nullptr;  // int8: 128 times the sum of each column
  int tiles = 0, K = 0;
};

struct DecoderLayer {
  PackedMatrix h, x;                     // the first layer has no x: its products are in `table`
  AlignedBuffer bias;                    // (G Hp) in the order of the tiles, added to the products of x
  AlignedBuffer bias_hn;                 // (Hp), a GRU's inside the reset gate
  AlignedBuffer norm_weight, norm_bias;  // (K), where the network is residual
};

// The network. It owns its weights.
struct DecoderModel {
  int kind = kLSTM, precision = kInFloat32, units = 0, layers = 0, vocab_size = 0;
  bool residual = false;
  float epsilon = 0;
  int groups() const { return (units + kTileColumns - 1) / kTileColumns; }
  int vocab_tiles() const { return (vocab_size + kTileColumns - 1) / kTileColumns; }
  std::size_t weight_bytes() const;

  std::vector<DecoderLayer> layer;
  PackedMatrix head;
  AlignedBuffer weights;    // of all layers and the head, in the order in which they are read
  AlignedBuffer scales;     // int8
  AlignedBuffer head_bias;  // (V), padded
  AlignedBuffer table;      // (V, Hp / 16, G, 16): the first layer's products of each symbol, its bias included
  AlignedBuffer embedding;  // (V, Hp), where the network is residual
};

// The state of the streams and buffers of the step: nothing is allocated while tokens are sampled.
struct DecoderState {
  int streams = 0, padded = 0;  // padded to 16
  AlignedBuffer h, c;           // float (L, R, Hp)
  AlignedBuffer h_packed;       // (2, L, R, K) of 4 bytes: h as products read it, this step's and the last one's
  AlignedBuffer x;              // float (2, R, Hp): what runs past the layers of a residual network
  AlignedBuffer h_scale;        // float (R): int8, of what is read
  AlignedBuffer normed;         // (R, K) of 4 bytes: rows that threads normalize for each other, as products read them
  AlignedBuffer normed_scale;   // float (R): int8, of those
  AlignedBuffer logits;         // float (V / 16, R, 16)
  AlignedBuffer tokens;         // int32 (R): the last one drawn
};

struct Filters {
  double temperature = 1, top_p = 1, min_p = 0;
  int64_t top_k = 0;
};

struct StepCall {
  const DecoderModel* model;
  const DecoderState* state;
  int first, rows;           // the streams that take part; `first` is a multiple of 16
  int steps, stride;         // of the arrays below, (steps, stride)
  const int64_t* input_ids;  // symbols to read, or null: they are drawn
  const double* uniforms;    // numbers in [0, 1) to draw by
  int64_t* sampled;
  const Filters* filters;  // of each of the streams, or one for all
  bool has_filters_per_stream;
};

}  // namespace unrolled
