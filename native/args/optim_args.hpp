// Arguments of the optimizers' kernels. All memory belongs to the caller; sizes were checked by the bindings.
#pragma once

#include <cstddef>

namespace unrolled {

// The nearest orthogonal matrices of squares `from` (squares, size, size), by `steps` polynomials a x + b x^3 + c x^5.
struct PolarExpress {
  int threads, matrices, size, steps;
  float margin;               // of the length that each square is divided by
  const float* coefficients;  // (steps, 3)
  const float* from;
  void* to;  // bfloat16
};

// One step of Muon: of each square, momentum, direction and change while it is in a thread's cache. With a place for
// them in `polar.to`, directions are left there, and the weights as they are.
struct Muon {
  PolarExpress polar_express;     // its sizes and coefficients
  const float* const* gradients;  // a pointer for each square
  float* const* exp_avgs;
  float* const* weights;
  float scale;         // of the gradients
  float momentum;      //
  float decay_factor;  // what is left of the weights
  float lr;            // what the direction is multiplied by and then taken away
};

constexpr std::size_t kOptimBlock = 1 << 12;  // numbers of a weight that a thread does at a time

// One step of AdamW over many weights. `bias_correction1` and `bias_correction2` are 1 - beta^step.
struct AdamWParam {
  float* weight;
  const float* gradient;
  float *exp_avg, *exp_avg_sq;
  std::size_t size;
  float decay, bias_correction1, bias_correction2;
};

// weights = decay_factor * weights + lr * directions, for `count` weights of `sizes` numbers each; directions are bfloat16.
struct ApplyUpdates {
  int threads, count;
  float* const* weights;
  const std::size_t* sizes;
  const void* const* directions;
  float decay_factor, lr;
};

struct AdamW {
  int threads, count;
  const AdamWParam* params;
  float lr, beta1, beta2, epsilon;
  float scale;  // of the gradients
};

}  // namespace unrolled
