#define UNROLLED_ISA avx512
#include "isa/kernel_table_isa.hpp"

namespace unrolled {
const Kernels* avx512_kernels() { return &avx512::kKernelTable; }
}  // namespace unrolled
