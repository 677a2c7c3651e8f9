#include "team.hpp"

#include <dlfcn.h>
#include <sched.h>

#include <cstdlib>
#include <memory>
#include <new>
#include <thread>
#include <vector>

namespace unrolled {

namespace {

constexpr int kSpins = 4000;  // some 100 microseconds, many times what a step takes

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// GNU's OpenMP, as torch's Linux wheels carry it. The functions are those that compilers call for `#pragma omp parallel`.
void (*gomp_parallel)(void (*)(void*), void*, unsigned, unsigned) = nullptr;
int (*thread_number)() = nullptr;
int (*team_size)() = nullptr;


}  // namespace

void Barrier::wait() {
  if (size_ == 1) return;
  const unsigned round = round_.load(std::memory_order_acquire);
  if (waiting_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
    waiting_.store(0, std::memory_order_relaxed);
    round_.store(round + 1, std::memory_order_release);
    return;
  }
  for (int spins = 0; round_.load(std::memory_order_acquire) == round; ++spins) {
    if (spins < kSpins)
      pause();
    else
      sched_yield();
  }
}

bool adopt_openmp(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
  if (library == nullptr) return false;
  auto parallel = reinterpret_cast<decltype(gomp_parallel)>(dlsym(library, "GOMP_parallel"));
  auto number = reinterpret_cast<decltype(thread_number)>(dlsym(library, "omp_get_thread_num"));
  auto size = reinterpret_cast<decltype(team_size)>(dlsym(library, "omp_get_num_threads"));
  if (parallel == nullptr || number == nullptr || size == nullptr) return false;
  gomp_parallel = parallel;
  thread_number = number;
  team_size = size;
  return true;
}

void run_together(int threads, Work work, void* context) {
  if (threads <= 1) {
    Barrier barrier(1);
    work(Place{0, 1, barrier}, context);
    return;
  }
  if (gomp_parallel != nullptr) {
    // The library may grant fewer threads than were asked for, and a barrier must know how many; so the team is counted first.
    struct Counted {
      Work work;
      void* context;
      std::atomic<Barrier*> barrier{nullptr};
    } counted{work, context};
    gomp_parallel(
        [](void* argument) {
          auto& counted = *static_cast<Counted*>(argument);
          const int index = thread_number(), size = team_size();
          Barrier* barrier = nullptr;
          if (index == 0) {
            barrier = new Barrier(size);
            counted.barrier.store(barrier, std::memory_order_release);
          } else {
            while ((barrier = counted.barrier.load(std::memory_order_acquire)) == nullptr) pause();
          }
          counted.work(Place{index, size, *barrier}, counted.context);
        },
        &counted, static_cast<unsigned>(threads), 0);
    delete counted.barrier.load();
    return;
  }
  Barrier barrier(threads);
  std::vector<std::thread> others;
  others.reserve(static_cast<std::size_t>(threads - 1));
  for (int index = 1; index < threads; ++index)
    others.emplace_back([=, &barrier] { work(Place{index, threads, barrier}, context); });
  work(Place{0, threads, barrier}, context);
  for (auto& other : others) other.join();
}

void* thread_memory(int slot, std::size_t bytes) {
  struct Block {
    void* start = nullptr;
    std::size_t size = 0;
    ~Block() { std::free(start); }
  };
  constexpr int kSlots = 8;
  thread_local Block blocks[kSlots];
  Block& block = blocks[slot % kSlots];
  if (block.size < bytes) {
    std::free(block.start);
    const std::size_t size = (bytes + 4095) / 4096 * 4096;
    block.start = nullptr;
    block.size = 0;
    void* fresh = nullptr;
    if (posix_memalign(&fresh, 64, size) != 0) throw std::bad_alloc();
    block.start = fresh;
    block.size = size;
  }
  return block.start;
}

}  // namespace unrolled
