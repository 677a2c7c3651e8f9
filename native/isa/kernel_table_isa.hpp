// The kernels, compiled for the instruction set of the file that includes this one.
#pragma once

#include "isa/kernel_table.hpp"
#include "kernels/decoder.hpp"
#include "kernels/gradient_gemm.hpp"
#include "kernels/gradient_gemm_bfloat16.hpp"
#include "kernels/layer_norm.hpp"
#include "kernels/linear_cross_entropy.hpp"
#include "kernels/muon.hpp"
#include "kernels/optim.hpp"
#include "kernels/pack_weights.hpp"
#include "kernels/rnn_backward.hpp"
#include "kernels/rnn_forward.hpp"
#include "kernels/roofline.hpp"

namespace unrolled {
namespace UNROLLED_ISA {

template <typename T>
constexpr LayerKernels layer_kernels() {
  return {pack_forward<T>,    pack_backward<T>,  layer_forward<T>, layer_backward<T>, weight_gradients<T>,
          input_gradients<T>, input_products<T>, norm_forward<T>,  norm_backward,     linear_cross_entropy<T>};
}

static const Kernels kKernelTable = {
    layer_kernels<float>(),
#if defined(__AVX512BF16__)
    layer_kernels<bfloat16>(),
#else
    {},
#endif
    decoder_step,
#if defined(__AVX512BF16__)
    polar_express,
    muon,
    apply_updates,
#else
    nullptr,
    nullptr,
    nullptr,
#endif
    adamw,
    sum_of_squares,
#if defined(__AVX512BF16__)
    {stream_read, peak_multiply, kOperations, peak_multiply_bfloat16, kBfloat16Operations},
#else
    {stream_read, peak_multiply, kOperations, nullptr, 0},
#endif
};

}  // namespace UNROLLED_ISA
}  // namespace unrolled
