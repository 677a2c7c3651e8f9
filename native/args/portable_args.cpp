#include "args/portable_args.hpp"

#include <cstring>

namespace unrolled {

Int8Tiles pack_int8_tiles(const int8_t* weight, const float* scale, int rows, int columns) {
  Int8Tiles tiles;
  tiles.rows = rows, tiles.columns = columns;
  tiles.data = AlignedBuffer(static_cast<std::size_t>(tiles.tiles()) * tiles.tile_bytes());
  tiles.scale = padded_floats(scale, rows);
  for (int row = 0; row < rows; ++row) {
    const int8_t* from = weight + static_cast<std::size_t>(row) * static_cast<std::size_t>(columns);
    int8_t* to = tiles.data.as<int8_t>() + static_cast<std::size_t>(row / 16) * tiles.tile_bytes() + row % 16 * 2;
    for (int k = 0; k < columns; ++k) to[k / 2 * 32 + k % 2] = from[k];
  }
  return tiles;
}

AlignedBuffer padded_floats(const float* values, int count) {
  if (values == nullptr) return {};
  AlignedBuffer buffer(static_cast<std::size_t>(round_up_16(count) + kPortablePadding) * sizeof(float));
  std::memcpy(buffer.as<float>(), values, static_cast<std::size_t>(count) * sizeof(float));
  return buffer;
}

}  // namespace unrolled
