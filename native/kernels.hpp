// The table of kernels that each instruction set has.
#pragma once

#include "layer.hpp"
#include "step.hpp"
#include "update.hpp"

namespace unrolled {

struct LayerKernels {
  void (*pack_forward)(const LayerShape&, const float* weight, int depth, int padded, void* to);
  void (*pack_backward)(const LayerShape&, const float* weight, int columns, bool of_state, void* to);
  void (*forward)(const LayerForward&);
  void (*backward)(const LayerBackward&);
  void (*weight_gradients)(const WeightGradients&);  // null in bfloat16 where torch's products do as well
  void (*input_gradients)(const InputGradients&);    // the same
  void (*input_products)(const InputProducts&);
  void (*norm_forward)(const NormForward&);
  void (*norm_backward)(const NormBackward&);
  void (*head)(const Head&);
};

// What the processor can do at best. `multiply` does so many operations a round, and leaves 1 KiB changed; in bfloat16 it is null
// where the processor has no products of them.
struct Ceilings {
  float (*read)(const float* from, std::size_t count);
  void (*multiply)(int rounds, float* out);
  double operations;
  void (*multiply_narrow)(int rounds, float* out);
  double narrow_operations;
};

struct Kernels {
  LayerKernels float32;
  LayerKernels bfloat16;  // null where the processor has no products in bfloat16
  void (*step)(const StepCall&, const Place&);
  void (*polar)(const Polar&);  // null where torch's products do as well
  void (*muon)(const Muon&);    // the same
  void (*turn)(const Turn&);    // the same
  void (*adamw)(const AdamW&);
  void (*squares)(int threads, int tensors, const float* const* values, const std::size_t* sizes, double* sums);  // a piece each
  void (*mean)(const Mean&);
  void (*narrow)(const Narrow&);  // null where the processor has no bfloat16
  Ceilings ceilings;
};

}  // namespace unrolled
