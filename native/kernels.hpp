// The table of kernels that each instruction set has.
#pragma once

#include "layer.hpp"
#include "step.hpp"

namespace unrolled {

struct LayerKernels {
  void (*pack_forward)(const LayerShape&, const float* weight, int depth, int padded, void* to);
  void (*pack_backward)(const LayerShape&, const float* weight, int columns, bool of_state, void* to);
  void (*forward)(const LayerForward&);
  void (*backward)(const LayerBackward&);
  void (*weight_gradients)(const WeightGradients&);  // null where torch's products do as well
  void (*input_gradients)(const InputGradients&);    // the same
};

struct Kernels {
  LayerKernels float32;
  LayerKernels bfloat16;  // null where the processor has no products in bfloat16
  StepKernels step;
  void (*polar)(const Polar&);  // null where torch's products do as well
};

}  // namespace unrolled
