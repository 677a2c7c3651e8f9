// Steps of optimisers: what their kernels are given. All memory is the caller's; sizes were checked.
#pragma once

#include <cstddef>

namespace unrolled {

// The nearest orthogonal matrices of squares `from` (squares, size, size), by `steps` polynomials a x + b x^3 + c x^5.
struct Polar {
  int threads, squares, size, steps;
  float margin;               // of the length that each square is divided by
  const float* coefficients;  // (steps, 3)
  const float* from;
  void* to;  // bfloat16
};

// One step of Muon: of each square, momentum, direction and change while it is in a thread's cache. With a place for them in
// `polar.to`, directions are left there, and the weights as they are.
struct Muon {
  Polar polar;  // its sizes and coefficients
  const float* const* gradients;  // a pointer for each square
  float* const* means;
  float* const* weights;
  float scale;     // of the gradients
  float momentum;  //
  float keep;      // what is left of the weights
  float rate;      // what the direction is multiplied by and then taken away
};

constexpr std::size_t kPiece = 1 << 12;  // numbers of a weight that a thread does at a time

// One step of AdamW over many weights. `of_mean` and `of_square` are 1 - beta^step.
struct Moved {
  float* weight;
  const float* gradient;
  float *mean, *square;
  std::size_t size;
  float decay, of_mean, of_square;
};

// weights = keep weights + rate directions, for `count` weights of `sizes` numbers each; directions are bfloat16.
struct Turn {
  int threads, count;
  float* const* weights;
  const std::size_t* sizes;
  const void* const* directions;
  float keep, rate;
};

struct AdamW {
  int threads, count;
  const Moved* moved;
  float rate, beta_mean, beta_square, epsilon;
  float scale;  // of the gradients
};

}  // namespace unrolled
