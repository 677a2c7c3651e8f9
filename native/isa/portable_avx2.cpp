#define UNROLLED_ISA portable_avx2
#include "kernels/portable_step.hpp"

namespace unrolled {
void run_portable_avx2(const PortableCall& call, int first, int count) { portable_avx2::portable_run(call, first, count); }
}  // namespace unrolled
