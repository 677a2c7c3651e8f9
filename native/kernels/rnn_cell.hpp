// The equations of the cells in nn/cells/gated.py, for 16 units of R rows at a time. Training and sampling use the same
// code.
//   RNN    h' = tanh(a)
//   GRU    r = sigmoid(a_r), z = sigmoid(a_z), n = tanh(a_n + r * inner), h' = n + z * (h - n)
//   LSTM   i, f, o = sigmoid(a_i, a_f, a_o), g = tanh(a_g), c' = f * c + i * g, h' = o * tanh(c')
#pragma once

#include <initializer_list>

#include "args/layer_args.hpp"
#include "kernels/simd.hpp"

namespace unrolled {
namespace UNROLLED_ISA {

// Inputs and results of R rows. With two rows at a time, one row's chain of dependent operations overlaps with the
// other's.
template <int kind, bool exact, int R>
struct Cells {
  Vec16 gates[R][gate_count(
      kind)];         // sums of products and biases; a GRU's third without those inside the reset gate, which are
  Vec16 inner[R];     //
  Vec16 previous[R];  // an LSTM's c, others' h
  Vec16 after[R];
  Vec16 h[R];  // what comes out

  // `keep(row, slot, values)` is given what the way back needs of a row, as `saved_count` counts it.
  template <typename Keep>
  UNROLLED_INLINE_MEMBER void run(const Keep& save) {
    if constexpr (kind == kRNN) {
      for (int r = 0; r < R; ++r) {
        h[r] = tanh<exact>(gates[r][0]);
        save(r, 0, {h[r]});
      }
    } else if constexpr (kind == kGRU) {
      Vec16 reset[R], z[R];
      for (int r = 0; r < R; ++r) {
        reset[r] = sigmoid<exact>(gates[r][0]);
        z[r] = sigmoid<exact>(gates[r][1]);
      }
      for (int r = 0; r < R; ++r) {
        const Vec16 n = tanh<exact>(fma(reset[r], inner[r], gates[r][2]));
        h[r] = fma(z[r], previous[r] - n, n);
        save(r, 0, {reset[r], z[r], n, inner[r], previous[r]});
      }
    } else {
      Vec16 o[R];
      for (int r = 0; r < R; ++r) {
        const Vec16 i = sigmoid<exact>(gates[r][0]), f = sigmoid<exact>(gates[r][1]), g = tanh<exact>(gates[r][2]);
        o[r] = sigmoid<exact>(gates[r][3]);
        after[r] = fma(f, previous[r], i * g);
        save(r, 0, {i, f, g, o[r]});
      }
      for (int r = 0; r < R; ++r) {
        const Vec16 t = tanh<exact>(after[r]);
        save(r, 4, {t, previous[r]});
        h[r] = o[r] * t;
      }
      return;
    }
    for (int r = 0; r < R; ++r) after[r] = h[r];
  }
};

}  // namespace UNROLLED_ISA
}  // namespace unrolled
