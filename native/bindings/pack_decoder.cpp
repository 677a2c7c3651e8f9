// Weights of a network into tiles.
#define UNROLLED_ISA packing
#include "bindings/pack_decoder.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/simd.hpp"

namespace unrolled {

namespace {

int round_up(int value, int to) { return (value + to - 1) / to * to; }

std::size_t tile_bytes(int precision, int K) {
  const std::size_t bytes = precision == kInFloat32 ? 4 : precision == kInBfloat16 ? 2 : 1;
  return bytes * kTileColumns * static_cast<std::size_t>(K);
}

void assign_offsets(PackedMatrix& matrix, int tiles, const DecoderModel& model, std::size_t& bytes,
                    std::size_t& columns) {
  matrix.tiles = tiles;
  matrix.K = padded_depth(model);
  matrix.tile = tile_bytes(model.precision, matrix.K);
  matrix.data = reinterpret_cast<const char*>(bytes);  // offsets, until there is memory
  matrix.scales = reinterpret_cast<const float*>(columns);
  bytes += matrix.tile * static_cast<std::size_t>(tiles);
  columns += static_cast<std::size_t>(tiles) * kTileColumns;
}

// Calls `visit` with every matrix in the order in which they are read.
template <typename Visit>
void for_each_matrix(DecoderModel& model, Visit&& visit) {
  const int tiles = model.groups() * gate_count(model.kind);
  for (int index = 0; index < model.layers; ++index) {
    visit(model.layer[static_cast<std::size_t>(index)].h, tiles);
    if (index > 0) visit(model.layer[static_cast<std::size_t>(index)].x, tiles);
  }
  visit(model.head, model.vocab_tiles());
}

// The rows of a matrix that are the columns of one tile; none where it is only filled up.
struct Columns {
  const float* row[kTileColumns] = {};
};

void pack_float32(const Columns& from, int count, char* tile) {
  auto* to = reinterpret_cast<float*>(tile);
  for (int k = 0; k < count; ++k)
    for (int column = 0; column < kTileColumns; ++column)
      if (from.row[column] != nullptr) to[static_cast<std::size_t>(k) * kTileColumns + column] = from.row[column][k];
}

void pack_bfloat16(const Columns& from, int count, char* tile) {
  auto* to = reinterpret_cast<packing::bfloat16*>(tile);
  for (int k = 0; k < count; ++k)
    for (int column = 0; column < kTileColumns; ++column)
      if (from.row[column] != nullptr)
        to[(static_cast<std::size_t>(k / 2) * kTileColumns + column) * 2 + k % 2] =
            packing::to_bfloat16(from.row[column][k]);
}

// Symmetric, the largest weight of a column at the largest number. Rounding is by adding what leaves no bits for a
// fraction.
int quantize(float weight, float per_unit) {
  const float scaled = weight * per_unit;
  constexpr float kMax = kInt8Max;
  const float bounded = scaled > kMax ? kMax : scaled >= -kMax ? scaled : -kMax;  // what is no number, too
  return static_cast<int>((bounded + 12582912.0f) - 12582912.0f);
}

void pack_int8(const Columns& from, int count, char* tile, float* scales, int32_t* zero_point_sums) {
  auto* to = reinterpret_cast<int8_t*>(tile);
  for (int column = 0; column < kTileColumns; ++column) {
    const float* row = from.row[column];
    if (row == nullptr) continue;
    float max_abs = 1e-30f;
    for (int k = 0; k < count; ++k) max_abs = std::fabs(row[k]) > max_abs ? std::fabs(row[k]) : max_abs;
    int32_t sum = 0;
    for (int k = 0; k < count; ++k) {
      const int number = quantize(row[k], kInt8Max / max_abs);
      to[(static_cast<std::size_t>(k / 4) * kTileColumns + column) * 4 + k % 4] = static_cast<int8_t>(number);
      sum += number;
    }
    scales[column] = max_abs / kInt8Max;
    zero_point_sums[column] = kInt8ZeroPoint * sum;
  }
}

void pack_tile(DecoderModel& model, PackedMatrix& matrix, int tile, const Columns& from) {
  char* to = const_cast<char*>(matrix.data) + static_cast<std::size_t>(tile) * matrix.tile;
  if (model.precision == kInFloat32) return pack_float32(from, model.units, to);
  if (model.precision == kInBfloat16) return pack_bfloat16(from, model.units, to);
  const std::size_t at = static_cast<std::size_t>(tile) * kTileColumns;
  pack_int8(from, model.units, to, const_cast<float*>(matrix.scales) + at,
            const_cast<int32_t*>(matrix.zero_point_sums) + at);
}

}  // namespace

int padded_depth(const DecoderModel& model) {
  return round_up(model.units, model.precision == kInFloat32 ? 16 : model.precision == kInBfloat16 ? 32 : 64);
}

void allocate_weights(DecoderModel& model) {
  const std::size_t groups = static_cast<std::size_t>(model.groups()),
                    G = static_cast<std::size_t>(gate_count(model.kind));
  const std::size_t K = static_cast<std::size_t>(padded_depth(model)), V = static_cast<std::size_t>(model.vocab_size);
  model.layer = std::vector<DecoderLayer>(static_cast<std::size_t>(model.layers));
  std::size_t bytes = 0, columns = 0;
  for_each_matrix(model,
                  [&](PackedMatrix& matrix, int tiles) { assign_offsets(matrix, tiles, model, bytes, columns); });
  model.weights = AlignedBuffer(bytes);
  model.scales = AlignedBuffer(columns * 8);
  for_each_matrix(model, [&](PackedMatrix& matrix, int) {
    matrix.data = model.weights.as<char>() + reinterpret_cast<std::size_t>(matrix.data);
    const std::size_t first = reinterpret_cast<std::size_t>(matrix.scales);
    matrix.scales = model.scales.as<float>() + first;
    matrix.zero_point_sums = model.scales.as<int32_t>() + columns + first;
  });
  for (DecoderLayer& layer : model.layer) {
    layer.bias = AlignedBuffer(groups * G * kTileColumns * sizeof(float));
    layer.bias_hn = AlignedBuffer(groups * kTileColumns * sizeof(float));
    layer.norm_weight = AlignedBuffer(K * sizeof(float));
    layer.norm_bias = AlignedBuffer(K * sizeof(float));
  }
  model.head_bias = AlignedBuffer(static_cast<std::size_t>(model.vocab_tiles()) * kTileColumns * sizeof(float));
  model.table = AlignedBuffer(V * groups * G * kTileColumns * sizeof(float));
  if (model.residual) model.embedding = AlignedBuffer(V * groups * kTileColumns * sizeof(float));
}

void pack_gates(DecoderModel& model, PackedMatrix& matrix, const float* weight) {
  const int G = gate_count(model.kind), H = model.units;
  for (int tile = 0; tile < matrix.tiles; ++tile) {
    Columns from;
    for (int unit = tile / G * kTileColumns; unit < std::min(H, (tile / G + 1) * kTileColumns); ++unit)
      from.row[unit % kTileColumns] = weight + (static_cast<std::size_t>(tile % G) * H + unit) * H;
    pack_tile(model, matrix, tile, from);
  }
}

void pack_head(DecoderModel& model, const float* weight) {
  for (int tile = 0; tile < model.head.tiles; ++tile) {
    Columns from;
    for (int token = tile * kTileColumns; token < std::min(model.vocab_size, (tile + 1) * kTileColumns); ++token)
      from.row[token % kTileColumns] = weight + static_cast<std::size_t>(token) * model.units;
    pack_tile(model, model.head, tile, from);
  }
}

void interleave_gates(const DecoderModel& model, const float* from, float* to) {
  const int G = gate_count(model.kind), H = model.units;
  for (int gate = 0; gate < G; ++gate)
    for (int unit = 0; unit < H; ++unit)
      to[(unit / kTileColumns * G + gate) * kTileColumns + unit % kTileColumns] = from[gate * H + unit];
}

}  // namespace unrolled
