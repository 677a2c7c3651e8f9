#define UNROLLED_SET plain
#include "kernels_here.hpp"

namespace unrolled {
const Kernels* plain_kernels() { return &plain::kKernels; }
}  // namespace unrolled
