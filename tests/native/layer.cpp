// An LSTM layer forward by the kernels against plain loops in double, for processors that only run under an emulator here.
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "isa/cpu_features.hpp"
#include "isa/kernel_table.hpp"

using namespace unrolled;

namespace {

std::mt19937 generator(1);

std::vector<float> draw(std::size_t count, float scale) {
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

constexpr int kSteps = 4, kGates = 4, kSymbols = 5;

struct Case {
  LayerShape shape;
  std::vector<float> weight, table, bias, h, c, ys;
  std::vector<int64_t> ids;
  std::vector<uint8_t> resets;

  Case(int rows, int units, int threads)
      : shape{kLSTM, kSteps, rows, units, (units + 31) / 32 * 32, threads, 1} {
    const std::size_t padded = static_cast<std::size_t>(shape.padded_units), state = static_cast<std::size_t>(rows * units);
    weight = draw(kGates * static_cast<std::size_t>(units * units), 0.3f);
    table = draw(kSymbols * kGates * padded, 1);
    bias = draw(kGates * padded, 0.3f);
    h = draw(state, 1), c = draw(state, 1), ys = draw(kSteps * state, 1);
    for (int i = 0; i < kSteps * rows; ++i) {
      ids.push_back(static_cast<int64_t>(generator() % kSymbols));
      resets.push_back(generator() % 4 == 0);
    }
  }

  void by_kernel() {
    const std::size_t padded = static_cast<std::size_t>(shape.padded_units), rows = static_cast<std::size_t>(shape.rows);
    std::vector<float> tiles(padded * padded * kGates), hs((kSteps + 1) * rows * (padded + 32)), last(h.size()), last_c(h.size());
    std::vector<float> saved(kSteps * padded * rows * saved_count(kLSTM));
    kernels().float32.pack_forward(shape, weight.data(), shape.units, shape.padded_units, tiles.data());
    LayerForward a{};
    a.shape = shape, a.ids = ids.data(), a.table = table.data(), a.weight_hh = tiles.data(), a.bias = bias.data();
    a.resets = resets.data(), a.h_0 = h.data(), a.c_0 = c.data(), a.hs = hs.data(), a.hs_stride = padded + 32;
    a.saved_activations = saved.data(), a.ys = ys.data(), a.h_n = last.data(), a.c_n = last_c.data();
    kernels().float32.forward(a);
  }

  double worst() const {
    double most = 0;
    for (int row = 0; row < shape.rows; ++row) {
      std::vector<double> h_now(h.begin() + row * shape.units, h.begin() + (row + 1) * shape.units);
      std::vector<double> c_now(c.begin() + row * shape.units, c.begin() + (row + 1) * shape.units);
      for (int t = 0; t < kSteps; ++t) {
        const int at = t * shape.rows + row;
        if (resets[static_cast<std::size_t>(at)]) h_now.assign(h_now.size(), 0), c_now.assign(c_now.size(), 0);
        const std::vector<double> before = h_now;
        for (int unit = 0; unit < shape.units; ++unit) {
          double gates[kGates];
          for (int g = 0; g < kGates; ++g) {
            const long symbol = ids[static_cast<std::size_t>(at)];
            gates[g] = table[static_cast<std::size_t>((symbol * kGates + g) * shape.padded_units + unit)] +
                       static_cast<double>(bias[static_cast<std::size_t>(g * shape.padded_units + unit)]);
            for (int k = 0; k < shape.units; ++k)
              gates[g] += weight[static_cast<std::size_t>((g * shape.units + unit) * shape.units + k)] * before[static_cast<std::size_t>(k)];
          }
          double& memory = c_now[static_cast<std::size_t>(unit)];
          memory = sigmoid(gates[1]) * memory + sigmoid(gates[0]) * std::tanh(gates[2]);
          h_now[static_cast<std::size_t>(unit)] = sigmoid(gates[3]) * std::tanh(memory);
          const double found = ys[static_cast<std::size_t>(at * shape.units + unit)];
          most = std::fmax(most, std::fabs(found - h_now[static_cast<std::size_t>(unit)]));
        }
      }
    }
    return most;
  }
};

}  // namespace

int main() {
  double worst = 0;
  for (int threads : {1, 2})
    for (int rows : {3, 33})
      for (int units : {17, 64}) {
        Case one(rows, units, threads);
        one.by_kernel();
        worst = std::fmax(worst, one.worst());
      }
  std::printf("%s %g\n", active_isa(), worst);
  return worst < 1e-5 ? 0 : 1;
}
