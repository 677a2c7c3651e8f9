#include "isa/cpu_features.hpp"

#include <atomic>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace unrolled {

const Kernels* plain_kernels();
void run_portable_plain(const PortableCall&, int, int);

namespace {

bool always() { return true; }

#if defined(__x86_64__)
struct CpuidLeaf {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

CpuidLeaf cpuid_leaf(unsigned number, unsigned subleaf = 0) {
  CpuidLeaf registers;
  if (!__get_cpuid_count(number, subleaf, &registers.a, &registers.b, &registers.c, &registers.d)) return {};
  return registers;
}

bool has_bit(unsigned word, int index) { return (word >> index & 1u) != 0; }

// Which registers the operating system saves for us; without that an instruction set is there but not usable.
unsigned long long os_saved_registers() {
  if (!has_bit(cpuid_leaf(1).c, 27)) return 0;
  unsigned low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<unsigned long long>(high) << 32 | low;
}

bool os_saves(unsigned long long mask) { return (os_saved_registers() & mask) == mask; }

bool has_avx2() {
  return os_saves(0x6) && has_bit(cpuid_leaf(7).b, 5) && has_bit(cpuid_leaf(1).c, 12) &&
         has_bit(cpuid_leaf(1).c, 29);  // with FMA and F16C
}

bool has_avx512() {
  const CpuidLeaf leaf7 = cpuid_leaf(7);
  return has_avx2() && os_saves(0xe6) && has_bit(leaf7.b, 16) && has_bit(leaf7.b, 17) && has_bit(leaf7.b, 30) &&
         has_bit(leaf7.b, 31);
}

bool has_avx512_bf16() {
  return has_avx512() && has_bit(cpuid_leaf(7, 1).a, 5) && has_bit(cpuid_leaf(7).c, 11);
}  // with VNNI

// Linux gives the tile registers to a process that asks for them.
bool has_amx() {
  const CpuidLeaf leaf7 = cpuid_leaf(7);
  if (!has_avx512_bf16() || !os_saves(0x600e6) || !has_bit(leaf7.d, 22) || !has_bit(leaf7.d, 24) ||
      !has_bit(leaf7.d, 25))
    return false;
#if defined(__linux__)
  constexpr long kRequest = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
#else
  return false;
#endif
}
#endif

}  // namespace

#if defined(__x86_64__)
const Kernels* avx2_kernels();
const Kernels* avx512_kernels();
const Kernels* avx512_bf16_kernels();
const Kernels* amx_kernels();
void run_portable_avx2(const PortableCall&, int, int);
void run_portable_avx512(const PortableCall&, int, int);
void run_portable_avx512_vnni(const PortableCall&, int, int);

const InstructionSet kInstructionSets[] = {
    {"plain", always, plain_kernels, run_portable_plain},
    {"avx2", has_avx2, avx2_kernels, run_portable_avx2},
    {"avx512", has_avx512, avx512_kernels, run_portable_avx512},
    {"avx512_bf16", has_avx512_bf16, avx512_bf16_kernels, run_portable_avx512_vnni},
    {"amx", has_amx, amx_kernels, run_portable_avx512_vnni},
};
#elif defined(__aarch64__)
const InstructionSet kInstructionSets[] = {{"neon", always, plain_kernels, run_portable_plain}};
#else
const InstructionSet kInstructionSets[] = {{"plain", always, plain_kernels, run_portable_plain}};
#endif
const int kInstructionSetCount = sizeof(kInstructionSets) / sizeof(kInstructionSets[0]);

namespace {

int best_available(int last) {
  for (int index = last; index > 0; --index)
    if (kInstructionSets[index].present()) return index;
  return 0;
}

std::atomic<int> selected{-1};

int active_index() {
  int index = selected.load(std::memory_order_relaxed);
  if (index < 0) {
    index = best_available(kInstructionSetCount - 1);
    selected.store(index, std::memory_order_relaxed);
  }
  return index;
}

}  // namespace

const Kernels& kernels() { return *kInstructionSets[active_index()].kernels(); }

PortableRun portable_run() { return kInstructionSets[active_index()].portable; }

const char* active_isa() { return kInstructionSets[active_index()].name; }

bool set_isa(const char* name) {
  if (*name == '\0') {
    selected.store(best_available(kInstructionSetCount - 1), std::memory_order_relaxed);
    return true;
  }
  for (int index = 0; index < kInstructionSetCount; ++index) {
    if (std::strcmp(kInstructionSets[index].name, name) == 0 && kInstructionSets[index].present()) {
      selected.store(index, std::memory_order_relaxed);
      return true;
    }
  }
  return false;
}

}  // namespace unrolled
