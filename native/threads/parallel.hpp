// Threads that work on one thing together: torch's own if they can be had, since two pools on the same cores fight.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "threads/scratch_slots.hpp"

namespace unrolled {

// Tells the processor that a loop only waits.
inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

struct BarrierBroken {};

// A meeting point of `size` threads that is passed thousands of times a second: it spins first, and yields when others
// do not come because the machine is busy.
class Barrier {
 public:
  explicit Barrier(int size) : size_(size) {}
  void wait();
  // A thread failed and will not come: the others' waits throw `BarrierBroken`.
  void abort() { broken_.store(true, std::memory_order_release); }

 private:
  const int size_;
  alignas(64) std::atomic<int> waiting_{0};
  alignas(64) std::atomic<unsigned> round_{0};
  std::atomic<bool> broken_{false};
};

// Things that threads take one by one, each from its own share first, and then from the ends of others': cores are seldom
// equally fast where others use them, too.
class WorkStealingRanges {
 public:
  explicit WorkStealingRanges(int threads) : size_(threads), ranges_(new Range[static_cast<std::size_t>(threads)]) {}
  // One of `count` things for thread `index`, or -1 when all are taken. Rounds are told apart by their numbers.
  int take(int index, int count, unsigned round);

 private:
  struct alignas(64) Range {
    std::atomic<uint64_t> remaining{0};  // round, first and last
  };
  int take_from(int owner, bool is_owner, int count, unsigned round);
  const int size_;
  std::unique_ptr<Range[]> ranges_;
};

struct ThreadContext {
  int index;         // of this thread
  int size;          // threads there are
  Barrier& barrier;  // of all of them
  WorkStealingRanges& ranges;    // too
  mutable unsigned round = 0;
};

// A thread that works alone.
struct SingleThread {
  Barrier barrier{1};
  WorkStealingRanges ranges{1};
  const ThreadContext context{0, 1, barrier, ranges};
};

using RegionBody = void (*)(const ThreadContext&, void*);

// Run `work` on up to `threads` threads, and return when all are done. There may be fewer: `ThreadContext` tells. What one of them
// throws is thrown here.
void run_parallel_region(int threads, RegionBody work, void* context);

// The same with a callable.
template <typename F>
void parallel_region(int threads, F&& body) {
  run_parallel_region(threads, [](const ThreadContext& place, void* context) { (*static_cast<F*>(context))(place); }, &body);
}

// Use the OpenMP library that is already loaded from this file; return whether it has what is needed.
bool adopt_openmp(const char* path);

// The share of `count` things, [first, last), that is the `index`th of `size`.
inline void static_range(int count, int index, int size, int& first, int& last) {
  first = static_cast<int>(static_cast<long>(count) * index / size);
  last = static_cast<int>(static_cast<long>(count) * (index + 1) / size);
}

// A thread's.
inline void static_range(int count, const ThreadContext& place, int& first, int& last) { static_range(count, place.index, place.size, first, last); }

// Call `work` for each of `count` things, fewer than a million, on whichever thread is free, and return when all are done. All
// threads must come, with the same count.
template <typename F>
void parallel_for(const ThreadContext& place, int count, F&& work) {
  if (place.size == 1) {
    for (int i = 0; i < count; ++i) work(i);
    return;
  }
  ++place.round;
  for (int i; (i = place.ranges.take(place.index, count, place.round)) >= 0;) work(i);
  place.barrier.wait();
}

// Memory of this thread that is kept from call to call, aligned to a cache line and not cleared. `slot` tells several apart.
void* thread_scratch(ScratchSlot slot, std::size_t bytes);

}  // namespace unrolled
