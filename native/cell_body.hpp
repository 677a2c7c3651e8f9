// The arithmetic of a cell, for 16 units of some rows at a time: layers through time and sampling have the same.
#pragma once

#include <initializer_list>

#include "layer.hpp"
#include "vector.hpp"

namespace unrolled {
namespace UNROLLED_SET {

// What R rows begin with and come to. While one row waits for its last steps, which follow from each other, another's go on.
template <int kind, bool exact, int R>
struct Cells {
  Lanes gates[R][gates_of(kind)];  // sums of products and biases; a GRU's third without those inside the reset gate, which are
  Lanes inner[R];                  //
  Lanes before[R];                 // an LSTM's c, others' h
  Lanes after[R];
  Lanes h[R];                      // what comes out

  // `keep(row, slot, values)` is given what the way back needs of a row, as `slots_of` counts it.
  template <typename Keep>
  UNROLLED_INLINE_MEMBER void run(const Keep& keep) {
    if constexpr (kind == kRNN) {
      for (int r = 0; r < R; ++r) {
        h[r] = tangent<exact>(gates[r][0]);
        keep(r, 0, {h[r]});
      }
    } else if constexpr (kind == kGRU) {
      Lanes reads[R], z[R];
      for (int r = 0; r < R; ++r) {
        reads[r] = sigmoid<exact>(gates[r][0]);
        z[r] = sigmoid<exact>(gates[r][1]);
      }
      for (int r = 0; r < R; ++r) {
        const Lanes n = tangent<exact>(fma(reads[r], inner[r], gates[r][2]));
        h[r] = fma(z[r], before[r] - n, n);
        keep(r, 0, {reads[r], z[r], n, inner[r], before[r]});
      }
    } else {
      Lanes o[R];
      for (int r = 0; r < R; ++r) {
        const Lanes i = sigmoid<exact>(gates[r][0]), f = sigmoid<exact>(gates[r][1]), g = tangent<exact>(gates[r][2]);
        o[r] = sigmoid<exact>(gates[r][3]);
        after[r] = fma(f, before[r], i * g);
        keep(r, 0, {i, f, g, o[r]});
      }
      for (int r = 0; r < R; ++r) {
        const Lanes t = tangent<exact>(after[r]);
        keep(r, 4, {t, before[r]});
        h[r] = o[r] * t;
      }
      return;
    }
    for (int r = 0; r < R; ++r) after[r] = h[r];
  }
};

}  // namespace UNROLLED_SET
}  // namespace unrolled
