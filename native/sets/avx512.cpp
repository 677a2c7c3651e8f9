#define UNROLLED_SET avx512
#include "kernels_here.hpp"

namespace unrolled {
const Kernels* avx512_kernels() { return &avx512::kKernels; }
}  // namespace unrolled
