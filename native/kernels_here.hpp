// The kernels, compiled for the instruction set of the file that includes this one.
#pragma once

#include "kernels.hpp"
#include "gradients_body.hpp"
#include "layer_body.hpp"
#include "pack.hpp"
#include "polar_body.hpp"
#include "step_body.hpp"

namespace unrolled {
namespace UNROLLED_SET {

template <typename T>
constexpr LayerKernels layer_kernels() {
  return {pack_forward<T>, pack_backward<T>, layer_forward<T>, layer_backward<T>, nullptr, nullptr};
}

static const Kernels kKernels = {
    layer_kernels<float>(),
#if defined(__AVX512BF16__)
#if defined(__AMX_TILE__)
    {pack_forward<bfloat16>, pack_backward<bfloat16>, layer_forward<bfloat16>, layer_backward<bfloat16>, weight_gradients,
     input_gradients},
#else
    layer_kernels<bfloat16>(),
#endif
#else
    {},
#endif
    {step_run, step_read},
#if defined(__AMX_TILE__)
    polar,
#else
    nullptr,
#endif
};

}  // namespace UNROLLED_SET
}  // namespace unrolled
