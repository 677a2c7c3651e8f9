#define UNROLLED_ISA plain
#include "isa/kernel_table_isa.hpp"

namespace unrolled {
const Kernels* plain_kernels() { return &plain::kKernelTable; }
}  // namespace unrolled
