#define UNROLLED_SET avx512_bf16
#include "kernels_here.hpp"

namespace unrolled {
const Kernels* avx512_bf16_kernels() { return &avx512_bf16::kKernels; }
}  // namespace unrolled
