// The table of kernels: one for each instruction set.
#pragma once

#include "args/decoder_args.hpp"
#include "args/layer_args.hpp"
#include "args/optim_args.hpp"

namespace unrolled {

struct LayerKernels {
  void (*pack_forward)(const LayerShape&, const float* weight, int depth, int padded, void* packed);
  void (*pack_backward)(const LayerShape&, const float* weight, int columns, bool is_hidden, void* packed);
  void (*forward)(const LayerForward&);
  void (*backward)(const LayerBackward&);
  void (*weight_gradients)(const WeightGradients&);
  void (*input_gradients)(const InputGradients&);
  void (*input_products)(const InputProducts&);
  void (*norm_forward)(const NormForward&);
  void (*norm_backward)(const NormBackward&);
  void (*linear_cross_entropy)(const LinearCrossEntropy&);
};

// What the processor can do at best. `multiply` does so many operations a round, and leaves 1 KiB changed; in bfloat16
// it is null where the processor has no products of them.
struct Roofline {
  float (*stream_read)(const float* from, std::size_t count);
  void (*multiply)(int rounds, float* out);
  double operations;
  void (*multiply_bfloat16)(int rounds, float* out);
  double bfloat16_operations;
};

struct Kernels {
  LayerKernels float32;
  LayerKernels bfloat16;  // null where the processor has no products in bfloat16
  void (*step)(const StepCall&, const ThreadContext&);
  void (*polar_express)(const PolarExpress&);  // null where the processor has no products in bfloat16
  void (*muon)(const Muon&);                   // the same
  void (*apply_updates)(const ApplyUpdates&);  // the same
  void (*adamw)(const AdamW&);
  void (*sum_of_squares)(int threads, int tensors, const float* const* values, const std::size_t* sizes,
                         double* sums);  // a piece each
  Roofline roofline;
};

}  // namespace unrolled
