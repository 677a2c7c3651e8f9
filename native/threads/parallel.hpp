// Parallel regions. They run on torch's OpenMP threads if those are found: two thread pools on the same cores would
// compete.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "threads/scratch_slots.hpp"

namespace unrolled {

// A hint to the processor that this loop only waits.
inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

struct BarrierBroken {};

// A barrier of `size` threads that is passed thousands of times a second: a thread spins first, and sleeps when another is
// so late that the machine must be busy.
class Barrier {
 public:
  explicit Barrier(int size) : size_(size) {}
  void wait();
  // Called by a thread that failed: the waits of the others throw `BarrierBroken`.
  void abort() { broken_.store(true, std::memory_order_release); }

 private:
  void sleep(unsigned round);
  const int size_;
  alignas(64) std::atomic<int> waiting_{0};
  std::atomic<int> sleeping_{0};
  alignas(64) std::atomic<unsigned> round_{0};
  std::atomic<bool> broken_{false};
};

// Work stealing: a thread takes items from its own range first, then from the ends of the others' ranges, because cores
// are seldom equally fast on a shared machine.
class WorkStealingRanges {
 public:
  explicit WorkStealingRanges(int threads) : size_(threads), ranges_(new Range[static_cast<std::size_t>(threads)]) {}
  // One of `count` things for thread `index`, or -1 when all are taken. `round` is a number that differs from that of
  // the round before.
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
  int index;                   // of this thread
  int size;                    // threads there are
  Barrier& barrier;            // of all of them
  WorkStealingRanges& ranges;  // too
  mutable unsigned round = 0;
};

// A thread that works alone.
struct SingleThread {
  Barrier barrier{1};
  WorkStealingRanges ranges{1};
  const ThreadContext context{0, 1, barrier, ranges};
};

using RegionBody = void (*)(const ThreadContext&, void*);

// Run `work` on up to `threads` threads, and return when all are done. There may be fewer, see `ThreadContext`. An
// exception in one of them is thrown again here.
void run_parallel_region(int threads, RegionBody work, void* context);

// The same with a callable.
template <typename F>
void parallel_region(int threads, F&& body) {
  run_parallel_region(
      threads, [](const ThreadContext& place, void* context) { (*static_cast<F*>(context))(place); }, &body);
}

// Use the OpenMP library that is already loaded from this file; return whether it has what is needed.
bool adopt_openmp(const char* path);

// The share of `count` things, [first, last), that is the `index`th of `size`.
inline void static_range(int count, int index, int size, int& first, int& last) {
  first = static_cast<int>(static_cast<long>(count) * index / size);
  last = static_cast<int>(static_cast<long>(count) * (index + 1) / size);
}

// A thread's.
inline void static_range(int count, const ThreadContext& place, int& first, int& last) {
  static_range(count, place.index, place.size, first, last);
}

// Call `work` for each of `count` things, fewer than a million, on whichever thread is free, and return when all are
// done. All threads must come, with the same count.
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

// Memory of this thread that is kept from call to call, aligned to a cache line and not cleared. `slot` tells several
// apart.
void* thread_scratch(ScratchSlot slot, std::size_t bytes);

}  // namespace unrolled
