// Weights of a network into tiles.
#define UNROLLED_SET packing
#include "step_pack.hpp"

#include <algorithm>
#include <cmath>

#include "vector.hpp"

namespace unrolled {

namespace {

int rounded_up(int value, int to) { return (value + to - 1) / to * to; }

std::size_t tile_bytes(int precision, int K) {
  const std::size_t bytes = precision == kInFloat32 ? 4 : precision == kInBfloat16 ? 2 : 1;
  return bytes * kColumns * static_cast<std::size_t>(K);
}

void place(Packed& matrix, int tiles, const StepModel& model, std::size_t& bytes, std::size_t& columns) {
  matrix.tiles = tiles;
  matrix.K = depth(model);
  matrix.tile = tile_bytes(model.precision, matrix.K);
  matrix.data = reinterpret_cast<const char*>(bytes);  // offsets, until there is memory
  matrix.scales = reinterpret_cast<const float*>(columns);
  bytes += matrix.tile * static_cast<std::size_t>(tiles);
  columns += static_cast<std::size_t>(tiles) * kColumns;
}

// Calls `visit` with every matrix in the order in which they are read.
template <typename Visit>
void each_matrix(StepModel& model, Visit&& visit) {
  const int tiles = model.groups() * gates_of(model.kind);
  for (int index = 0; index < model.layers; ++index) {
    visit(model.layer[static_cast<std::size_t>(index)].h, tiles);
    if (index > 0) visit(model.layer[static_cast<std::size_t>(index)].x, tiles);
  }
  visit(model.head, model.symbol_tiles());
}

// The rows of a matrix that are the columns of one tile; none where it is only filled up.
struct Columns {
  const float* row[kColumns] = {};
};

void pack_float32(const Columns& from, int count, char* tile) {
  auto* to = reinterpret_cast<float*>(tile);
  for (int k = 0; k < count; ++k)
    for (int column = 0; column < kColumns; ++column)
      if (from.row[column] != nullptr) to[static_cast<std::size_t>(k) * kColumns + column] = from.row[column][k];
}

void pack_bfloat16(const Columns& from, int count, char* tile) {
  auto* to = reinterpret_cast<packing::bfloat16*>(tile);
  for (int k = 0; k < count; ++k)
    for (int column = 0; column < kColumns; ++column)
      if (from.row[column] != nullptr)
        to[(static_cast<std::size_t>(k / 2) * kColumns + column) * 2 + k % 2] = packing::narrow(from.row[column][k]);
}

// Symmetric, the largest weight of a column at the largest number. Rounding is by adding what leaves no bits for a fraction.
int whole(float weight, float per_unit) {
  const float scaled = weight * per_unit;
  constexpr float kMost = kMostWhole;
  const float bounded = scaled > kMost ? kMost : scaled >= -kMost ? scaled : -kMost;  // what is no number, too
  return static_cast<int>((bounded + 12582912.0f) - 12582912.0f);
}

void pack_int8(const Columns& from, int count, char* tile, float* scales, int32_t* middle) {
  auto* to = reinterpret_cast<int8_t*>(tile);
  for (int column = 0; column < kColumns; ++column) {
    const float* row = from.row[column];
    if (row == nullptr) continue;
    float most = 1e-30f;
    for (int k = 0; k < count; ++k) most = std::fabs(row[k]) > most ? std::fabs(row[k]) : most;
    int32_t sum = 0;
    for (int k = 0; k < count; ++k) {
      const int number = whole(row[k], kMostWhole / most);
      to[(static_cast<std::size_t>(k / 4) * kColumns + column) * 4 + k % 4] = static_cast<int8_t>(number);
      sum += number;
    }
    scales[column] = most / kMostWhole;
    middle[column] = kMiddleWhole * sum;
  }
}

void pack_tile(StepModel& model, Packed& matrix, int tile, const Columns& from) {
  char* to = const_cast<char*>(matrix.data) + static_cast<std::size_t>(tile) * matrix.tile;
  if (model.precision == kInFloat32) return pack_float32(from, model.units, to);
  if (model.precision == kInBfloat16) return pack_bfloat16(from, model.units, to);
  const std::size_t at = static_cast<std::size_t>(tile) * kColumns;
  pack_int8(from, model.units, to, const_cast<float*>(matrix.scales) + at, const_cast<int32_t*>(matrix.middle) + at);
}

}  // namespace

int depth(const StepModel& model) {
  return rounded_up(model.units, model.precision == kInFloat32 ? 16 : model.precision == kInBfloat16 ? 32 : 64);
}

void lay_out(StepModel& model) {
  const std::size_t groups = static_cast<std::size_t>(model.groups()), G = static_cast<std::size_t>(gates_of(model.kind));
  const std::size_t K = static_cast<std::size_t>(depth(model)), V = static_cast<std::size_t>(model.symbols);
  model.layer = std::vector<StepLayer>(static_cast<std::size_t>(model.layers));
  std::size_t bytes = 0, columns = 0;
  each_matrix(model, [&](Packed& matrix, int tiles) { place(matrix, tiles, model, bytes, columns); });
  model.weights = Memory(bytes);
  model.scales = Memory(columns * 8);
  each_matrix(model, [&](Packed& matrix, int) {
    matrix.data = model.weights.as<char>() + reinterpret_cast<std::size_t>(matrix.data);
    const std::size_t first = reinterpret_cast<std::size_t>(matrix.scales);
    matrix.scales = model.scales.as<float>() + first;
    matrix.middle = model.scales.as<int32_t>() + columns + first;
  });
  for (StepLayer& own : model.layer) {
    own.bias = Memory(groups * G * kColumns * sizeof(float));
    own.bias_inside = Memory(groups * kColumns * sizeof(float));
    own.norm_weight = Memory(K * sizeof(float));
    own.norm_bias = Memory(K * sizeof(float));
  }
  model.head_bias = Memory(static_cast<std::size_t>(model.symbol_tiles()) * kColumns * sizeof(float));
  model.table = Memory(V * groups * G * kColumns * sizeof(float));
  if (model.residual) model.embedding = Memory(V * groups * kColumns * sizeof(float));
}

void pack_gates(StepModel& model, Packed& matrix, const float* weight) {
  const int G = gates_of(model.kind), H = model.units;
  for (int tile = 0; tile < matrix.tiles; ++tile) {
    Columns from;
    for (int unit = tile / G * kColumns; unit < std::min(H, (tile / G + 1) * kColumns); ++unit)
      from.row[unit % kColumns] = weight + (static_cast<std::size_t>(tile % G) * H + unit) * H;
    pack_tile(model, matrix, tile, from);
  }
}

void pack_head(StepModel& model, const float* weight) {
  for (int tile = 0; tile < model.head.tiles; ++tile) {
    Columns from;
    for (int symbol = tile * kColumns; symbol < std::min(model.symbols, (tile + 1) * kColumns); ++symbol)
      from.row[symbol % kColumns] = weight + static_cast<std::size_t>(symbol) * model.units;
    pack_tile(model, model.head, tile, from);
  }
}

void order_gates(const StepModel& model, const float* from, float* to) {
  const int G = gates_of(model.kind), H = model.units;
  for (int gate = 0; gate < G; ++gate)
    for (int unit = 0; unit < H; ++unit)
      to[(unit / kColumns * G + gate) * kColumns + unit % kColumns] = from[gate * H + unit];
}

}  // namespace unrolled
