#define UNROLLED_ISA portable_avx512
#include "kernels/portable_step.hpp"

namespace unrolled {
void run_portable_avx512(const PortableCall& call, int first, int count) { portable_avx512::portable_run(call, first, count); }
}  // namespace unrolled
