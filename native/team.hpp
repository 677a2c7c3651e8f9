// Threads that work on one thing together: torch's own if they can be had, since two pools on the same cores fight.
#pragma once

#include <atomic>
#include <cstddef>

namespace unrolled {

// Tells the processor that a loop only waits.
inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

struct Broken {};

// A meeting point of `size` threads that is passed thousands of times a second: it spins first, and yields when others
// do not come because the machine is busy.
class Barrier {
 public:
  explicit Barrier(int size) : size_(size) {}
  void wait();
  // A thread failed and will not come: the others' waits throw `Broken`.
  void break_up() { broken_.store(true, std::memory_order_release); }

 private:
  const int size_;
  alignas(64) std::atomic<int> waiting_{0};
  alignas(64) std::atomic<unsigned> round_{0};
  std::atomic<bool> broken_{false};
};

struct Place {
  int index;         // of this thread
  int size;          // threads there are
  Barrier& barrier;  // of all of them
};

using Work = void (*)(const Place&, void*);

// Run `work` on up to `threads` threads, and return when all are done. There may be fewer: `Place` tells. What one of them
// throws is thrown here.
void run_together(int threads, Work work, void* context);

// The same with a callable.
template <typename F>
void together(int threads, F&& body) {
  run_together(threads, [](const Place& place, void* context) { (*static_cast<F*>(context))(place); }, &body);
}

// Use the OpenMP library that is already loaded from this file; return whether it has what is needed.
bool adopt_openmp(const char* path);

// A thread's share of `count` things: [first, last).
inline void share(int count, const Place& place, int& first, int& last) {
  first = static_cast<int>(static_cast<long>(count) * place.index / place.size);
  last = static_cast<int>(static_cast<long>(count) * (place.index + 1) / place.size);
}

// Memory of this thread that is kept from call to call, aligned to a cache line and not cleared. `slot` tells several apart.
void* thread_memory(int slot, std::size_t bytes);

}  // namespace unrolled
