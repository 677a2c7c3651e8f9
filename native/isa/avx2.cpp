#define UNROLLED_ISA avx2
#include "isa/kernel_table_isa.hpp"

namespace unrolled {
const Kernels* avx2_kernels() { return &avx2::kKernelTable; }
}  // namespace unrolled
