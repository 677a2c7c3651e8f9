// The kernels, compiled for the instruction set of the file that includes this one.
#pragma once

#include "kernels.hpp"
#include "ceilings_body.hpp"
#include "gradients_body.hpp"
#include "gradients_float.hpp"
#include "head_body.hpp"
#include "layer_body.hpp"
#include "norm_body.hpp"
#include "pack.hpp"
#include "polar_body.hpp"
#include "step_body.hpp"
#include "update_body.hpp"

namespace unrolled {
namespace UNROLLED_SET {

template <typename T>
constexpr LayerKernels layer_kernels() {
  LayerKernels table{pack_forward<T>, pack_backward<T>, layer_forward<T>, layer_backward<T>, nullptr,
                     nullptr,         input_products<T>, norm_forward<T>,  norm_backward,     head<T>};
  if (kIsFloat<T>) {
    table.weight_gradients = weight_gradients_float;
    table.input_gradients = input_gradients_float;
  }
#if defined(__AMX_TILE__)
  if (!kIsFloat<T>) {
    table.weight_gradients = weight_gradients;
    table.input_gradients = input_gradients;
  }
#endif
  return table;
}

static const Kernels kKernels = {
    layer_kernels<float>(),
#if defined(__AVX512BF16__)
    layer_kernels<bfloat16>(),
#else
    {},
#endif
    step_run,
#if defined(__AMX_TILE__)
    polar, muon, turn_weights,
#else
    nullptr, nullptr, nullptr,
#endif
    adamw, squares, mean,
#if defined(__AVX512BF16__)
    narrow_all,
    {ceiling_read, ceiling_multiply, kOperations, ceiling_multiply_narrow, kNarrowOperations},
#else
    nullptr,
    {ceiling_read, ceiling_multiply, kOperations, nullptr, 0},
#endif
};

}  // namespace UNROLLED_SET
}  // namespace unrolled
