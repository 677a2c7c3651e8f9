#define UNROLLED_SET amx
#include "kernels_here.hpp"

namespace unrolled {
const Kernels* amx_kernels() { return &amx::kKernels; }
}  // namespace unrolled
