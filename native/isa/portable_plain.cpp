#define UNROLLED_ISA portable_plain
#include "kernels/portable_step.hpp"

namespace unrolled {
void run_portable_plain(const PortableCall& call, int first, int count) { portable_plain::portable_run(call, first, count); }
}  // namespace unrolled
