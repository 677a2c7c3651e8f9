#define UNROLLED_ISA amx
#include "isa/kernel_table_isa.hpp"

namespace unrolled {
const Kernels* amx_kernels() { return &amx::kKernelTable; }
}  // namespace unrolled
