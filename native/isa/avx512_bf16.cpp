#define UNROLLED_ISA avx512_bf16
#include "isa/kernel_table_isa.hpp"

namespace unrolled {
const Kernels* avx512_bf16_kernels() { return &avx512_bf16::kKernelTable; }
}  // namespace unrolled
