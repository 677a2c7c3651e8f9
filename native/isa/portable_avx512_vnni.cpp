#define UNROLLED_ISA portable_avx512_vnni
#include "kernels/portable_step.hpp"

namespace unrolled {
void run_portable_avx512_vnni(const PortableCall& call, int first, int count) { portable_avx512_vnni::portable_run(call, first, count); }
}  // namespace unrolled
