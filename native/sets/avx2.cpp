#define UNROLLED_SET avx2
#include "kernels_here.hpp"

namespace unrolled {
const Kernels* avx2_kernels() { return &avx2::kKernels; }
}  // namespace unrolled
