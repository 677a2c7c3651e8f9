#include "processor.hpp"

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

namespace {

bool always() { return true; }

#if defined(__x86_64__)
struct Leaf {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Leaf leaf(unsigned number, unsigned sub = 0) {
  Leaf found;
  if (!__get_cpuid_count(number, sub, &found.a, &found.b, &found.c, &found.d)) return {};
  return found;
}

bool bit(unsigned word, int index) { return (word >> index & 1u) != 0; }

// Which registers the operating system saves for us; without that an instruction set is there but not usable.
unsigned long long saved_registers() {
  if (!bit(leaf(1).c, 27)) return 0;
  unsigned low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<unsigned long long>(high) << 32 | low;
}

bool saves(unsigned long long mask) { return (saved_registers() & mask) == mask; }

bool has_avx2() {
  return saves(0x6) && bit(leaf(7).b, 5) && bit(leaf(1).c, 12) && bit(leaf(1).c, 29);  // with FMA and F16C
}

bool has_avx512() {
  const Leaf seven = leaf(7);
  return has_avx2() && saves(0xe6) && bit(seven.b, 16) && bit(seven.b, 17) && bit(seven.b, 30) && bit(seven.b, 31);
}

bool has_avx512_bf16() { return has_avx512() && bit(leaf(7, 1).a, 5) && bit(leaf(7).c, 11); }  // with VNNI

// Linux gives the tile registers to a process that asks for them.
bool has_amx() {
  const Leaf seven = leaf(7);
  if (!has_avx512_bf16() || !saves(0x600e6) || !bit(seven.d, 22) || !bit(seven.d, 24) || !bit(seven.d, 25)) return false;
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

const InstructionSet kSets[] = {
    {"plain", always, plain_kernels},
    {"avx2", has_avx2, avx2_kernels},
    {"avx512", has_avx512, avx512_kernels},
    {"avx512_bf16", has_avx512_bf16, avx512_bf16_kernels},
    {"amx", has_amx, amx_kernels},
};
#elif defined(__aarch64__)
const InstructionSet kSets[] = {{"neon", always, plain_kernels}};
#else
const InstructionSet kSets[] = {{"plain", always, plain_kernels}};
#endif
const int kSetCount = sizeof(kSets) / sizeof(kSets[0]);

namespace {

int best_up_to(int last) {
  for (int index = last; index > 0; --index)
    if (kSets[index].present()) return index;
  return 0;
}

std::atomic<int> chosen{-1};

int in_use() {
  int index = chosen.load(std::memory_order_relaxed);
  if (index < 0) {
    index = best_up_to(kSetCount - 1);
    chosen.store(index, std::memory_order_relaxed);
  }
  return index;
}

}  // namespace

const Kernels& kernels() { return *kSets[in_use()].kernels(); }

const char* set_in_use() { return kSets[in_use()].name; }

bool use_set(const char* name) {
  if (*name == '\0') {
    chosen.store(best_up_to(kSetCount - 1), std::memory_order_relaxed);
    return true;
  }
  for (int index = 0; index < kSetCount; ++index) {
    if (std::strcmp(kSets[index].name, name) == 0 && kSets[index].present()) {
      chosen.store(index, std::memory_order_relaxed);
      return true;
    }
  }
  return false;
}

}  // namespace unrolled
