// Weights of a network into tiles.
#define UNROLLED_SET packing
#include "step_pack.hpp"

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

void pack_float32(const float* row, int count, int column, char* tile) {
  auto* to = reinterpret_cast<float*>(tile);
  for (int k = 0; k < count; ++k) to[static_cast<std::size_t>(k) * kColumns + column] = row[k];
}

void pack_bfloat16(const float* row, int count, int column, char* tile) {
  auto* to = reinterpret_cast<packing::bfloat16*>(tile);
  for (int k = 0; k < count; ++k)
    to[(static_cast<std::size_t>(k / 2) * kColumns + column) * 2 + k % 2] = packing::narrow(row[k]);
}

// Symmetric, the largest weight of a column at 127; returns the scale, and the sum of the whole numbers.
float pack_int8(const float* row, int count, int column, char* tile, int32_t& sum) {
  auto* to = reinterpret_cast<int8_t*>(tile);
  float most = 1e-30f;
  for (int k = 0; k < count; ++k) most = std::fabs(row[k]) > most ? std::fabs(row[k]) : most;
  sum = 0;
  for (int k = 0; k < count; ++k) {
    const float scaled = row[k] * (127.0f / most);
    const float bounded = scaled > 127.0f ? 127.0f : scaled >= -127.0f ? scaled : -127.0f;  // what is no number, too
    const int whole = static_cast<int>(std::nearbyint(bounded));
    to[(static_cast<std::size_t>(k / 4) * kColumns + column) * 4 + k % 4] = static_cast<int8_t>(whole);
    sum += whole;
  }
  return most / 127.0f;
}

void pack_row(StepModel& model, Packed& matrix, int tile, int column, const float* row) {
  char* to = const_cast<char*>(matrix.data) + static_cast<std::size_t>(tile) * matrix.tile;
  if (model.precision == kInFloat32) return pack_float32(row, model.units, column, to);
  if (model.precision == kInBfloat16) return pack_bfloat16(row, model.units, column, to);
  const std::size_t at = static_cast<std::size_t>(tile) * kColumns + static_cast<std::size_t>(column);
  int32_t sum = 0;
  const_cast<float*>(matrix.scales)[at] = pack_int8(row, model.units, column, to, sum);
  const_cast<int32_t*>(matrix.middle)[at] = 128 * sum;
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
  for (int gate = 0; gate < G; ++gate)
    for (int unit = 0; unit < H; ++unit)
      pack_row(model, matrix, unit / kColumns * G + gate, unit % kColumns,
               weight + (static_cast<std::size_t>(gate) * H + unit) * H);
}

void pack_head(StepModel& model, const float* weight) {
  for (int symbol = 0; symbol < model.symbols; ++symbol)
    pack_row(model, model.head, symbol / kColumns, symbol % kColumns, weight + static_cast<std::size_t>(symbol) * model.units);
}

void order_gates(const StepModel& model, const float* from, float* to) {
  const int G = gates_of(model.kind), H = model.units;
  for (int gate = 0; gate < G; ++gate)
    for (int unit = 0; unit < H; ++unit)
      to[(unit / kColumns * G + gate) * kColumns + unit % kColumns] = from[gate * H + unit];
}

}  // namespace unrolled
