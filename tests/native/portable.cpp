// The portable step without Python, for processors that only run under an emulator here: reads a model and ids from a file,
// writes the bits of logits and states and the tokens drawn.
#include <cstdio>
#include <cstring>
#include <vector>

#include "isa/cpu_features.hpp"

using namespace unrolled;

namespace {

std::FILE* file;

template <typename T>
std::vector<T> read(std::size_t count) {
  std::vector<T> values(count);
  if (std::fread(values.data(), sizeof(T), count, file) != count) std::abort();
  return values;
}

int read_int() { return read<int32_t>(1)[0]; }

std::size_t size(int a, int b) { return static_cast<std::size_t>(a) * static_cast<std::size_t>(b); }

Int8Tiles read_tiles() {
  const int rows = read_int(), columns = read_int();
  if (rows == 0) return {};
  const auto weight = read<int8_t>(size(rows, columns));
  const auto scale = read<float>(static_cast<std::size_t>(rows));
  return pack_int8_tiles(weight.data(), scale.data(), rows, columns);
}

AlignedBuffer read_floats() {
  const int count = read_int();
  return count == 0 ? AlignedBuffer() : padded_floats(read<float>(static_cast<std::size_t>(count)).data(), count);
}

void print_bits(const std::vector<float>& values) {
  uint32_t hash = 2166136261u;
  for (float value : values) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    hash = (hash ^ bits) * 16777619u;
  }
  std::printf("%u\n", hash);
}

}  // namespace

int main(int, char** argv) {
  file = std::fopen(argv[1], "rb");
  if (file == nullptr) return 1;
  PortableModel model;
  model.kind = read_int(), model.units = read_int(), model.vocab_size = read_int();
  model.embedding_size = read_int(), model.residual = read_int() != 0;
  model.layers.resize(static_cast<std::size_t>(read_int()));
  const int rows = read_int(), steps = read_int(), draws = read_int();
  const int columns = model.embedding_size == 0 ? model.gate_columns() : model.embedding_size;
  model.input = read<int8_t>(size(model.vocab_size, columns));
  model.input_scale = read_floats();
  for (PortableLayer& layer : model.layers) {
    layer.input = read_tiles(), layer.recurrent = read_tiles(), layer.recurrent_n = read_tiles();
    layer.bias = read_floats(), layer.bias_hh = read_floats();
    layer.norm_weight = read_floats(), layer.norm_bias = read_floats(), layer.decay = read_floats();
    layer.rounds.resize(static_cast<std::size_t>(read_int()));
    for (Int8Tiles& matrix : layer.rounds) matrix = read_tiles();
  }
  model.head = read_tiles(), model.head_bias = read_floats();
  const auto ids = read<int64_t>(size(steps, rows));

  const std::size_t state = model.layers.size() * size(rows, model.units), vocab = static_cast<std::size_t>(model.vocab_size);
  std::vector<float> h(state), c(state * static_cast<std::size_t>(portable_others(model.kind))), logits(size(steps, rows) * vocab);
  PortableCall call{};
  call.model = &model, call.steps = steps, call.rows = rows, call.h = h.data(), call.c = c.data();
  call.ids = ids.data(), call.logits = logits.data();
  portable_run()(call, 0, rows);
  std::printf("%s\n", active_isa());
  print_bits(logits);
  print_bits(h);
  print_bits(c);

  std::vector<float> last(logits.end() - static_cast<std::ptrdiff_t>(static_cast<std::size_t>(rows) * vocab), logits.end());
  std::vector<int64_t> sampled(size(draws, rows));
  std::vector<uint64_t> seeds(static_cast<std::size_t>(rows), 7);
  call.steps = draws, call.ids = nullptr, call.logits = last.data(), call.sampled = sampled.data();
  call.seeds = seeds.data(), call.filters = {0.8, 0.9, 0.01, 12};
  portable_run()(call, 0, rows);
  for (int64_t token : sampled) std::printf("%d ", static_cast<int>(token));
  std::printf("\n");
  return 0;
}
