#include "threads/parallel.hpp"

#include <dlfcn.h>
#include <sched.h>
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>
#endif

#include <cstdlib>
#include <exception>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace unrolled {

namespace {

constexpr int kSpins = 4000;  // some 100 microseconds, many times what a step takes

// GNU's OpenMP, as torch's Linux wheels carry it. The functions are those that compilers call for `#pragma omp
// parallel`.
void (*gomp_parallel)(void (*)(void*), void*, unsigned, unsigned) = nullptr;
int (*omp_thread_number)() = nullptr;
int (*omp_team_size)() = nullptr;

}  // namespace

void Barrier::wait() {
  if (size_ == 1) return;
  if (broken_.load(std::memory_order_acquire)) throw BarrierBroken();
  const unsigned round = round_.load(std::memory_order_acquire);
  if (waiting_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
    waiting_.store(0, std::memory_order_relaxed);
    round_.store(round + 1);
#if defined(__linux__)
    if (sleeping_.load() > 0) syscall(SYS_futex, &round_, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
#endif
    return;
  }
  for (int spins = 0; round_.load(std::memory_order_acquire) == round; ++spins) {
    if (broken_.load(std::memory_order_acquire)) throw BarrierBroken();
    if (spins < kSpins)
      pause();
    else
      sleep(round);
  }
}

// Sleep until the round ends, or for a millisecond: a thread that failed wakes nobody. A thread that slept goes on at
// once when it is woken; one that yielded waits for a turn of the other program (LOG.md has the figures).
void Barrier::sleep([[maybe_unused]] unsigned round) {
#if defined(__linux__)
  constexpr timespec kNap{0, 1000000};
  sleeping_.fetch_add(1);
  syscall(SYS_futex, &round_, FUTEX_WAIT_PRIVATE, round, &kNap, nullptr, 0);
  sleeping_.fetch_sub(1);
#else
  sched_yield();
#endif
}

namespace {

constexpr int kCountBits = 20;
constexpr uint64_t kCountMask = (1u << kCountBits) - 1;

uint64_t pack_range(unsigned round, int first, int last) {
  return static_cast<uint64_t>(round) << 2 * kCountBits | static_cast<uint64_t>(first) << kCountBits |
         static_cast<uint64_t>(last);
}

}  // namespace

int WorkStealingRanges::take_from(int owner, bool is_owner, int count, unsigned round) {
  round &= (1u << (64 - 2 * kCountBits)) - 1;
  std::atomic<uint64_t>& remaining = ranges_[static_cast<std::size_t>(owner)].remaining;
  uint64_t observed = remaining.load(std::memory_order_acquire);
  while (true) {
    int first, last;
    if (observed >> 2 * kCountBits == round) {
      first = static_cast<int>(observed >> kCountBits & kCountMask);
      last = static_cast<int>(observed & kCountMask);
    } else {  // the first thread of a round initializes the range
      static_range(count, owner, size_, first, last);
    }
    if (first >= last) return -1;
    const uint64_t after = is_owner ? pack_range(round, first + 1, last) : pack_range(round, first, last - 1);
    if (remaining.compare_exchange_weak(observed, after, std::memory_order_acq_rel, std::memory_order_acquire))
      return is_owner ? first : last - 1;
  }
}

int WorkStealingRanges::take(int index, int count, unsigned round) {
  for (int i = 0; i < size_; ++i) {
    const int taken = take_from((index + i) % size_, i == 0, count, round);
    if (taken >= 0) return taken;
  }
  return -1;
}

bool adopt_openmp(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
  if (library == nullptr) return false;
  auto parallel = reinterpret_cast<decltype(gomp_parallel)>(dlsym(library, "GOMP_parallel"));
  auto number = reinterpret_cast<decltype(omp_thread_number)>(dlsym(library, "omp_get_thread_num"));
  auto size = reinterpret_cast<decltype(omp_team_size)>(dlsym(library, "omp_get_num_threads"));
  if (parallel == nullptr || number == nullptr || size == nullptr) return false;
  gomp_parallel = parallel;
  omp_thread_number = number;
  omp_team_size = size;
  return true;
}

namespace {

struct RegionState {
  explicit RegionState(int size) : barrier(size), ranges(size) {}
  Barrier barrier;
  WorkStealingRanges ranges;
};

// Threads that are about to work: how many there are is known only when they have come.
class ParallelRegion {
 public:
  ParallelRegion(RegionBody work, void* context) : work_(work), context_(context) {}
  ~ParallelRegion() { delete state_.load(); }

  // What each thread does. The first one says how many there are.
  void run_thread(int index, int size) noexcept {
    RegionState* state = nullptr;
    if (index == 0) begin(size);
    while ((state = state_.load(std::memory_order_acquire)) == nullptr) pause();
    try {
      work_(ThreadContext{index, size_, state->barrier, state->ranges}, context_);
    } catch (const BarrierBroken&) {  // another thread's failure is the reason
    } catch (...) {
      if (!failed_.exchange(true)) failure_ = std::current_exception();
      state->barrier.abort();
    }
  }

  void begin(int size) {
    size_ = size;
    state_.store(new RegionState(size), std::memory_order_release);
  }

  void end() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  const RegionBody work_;
  void* const context_;
  int size_ = 0;
  std::atomic<RegionState*> state_{nullptr};
  std::atomic<bool> failed_{false};
  std::exception_ptr failure_;
};

}  // namespace

void run_parallel_region(int threads, RegionBody work, void* context) {
  if (threads <= 1) {
    const SingleThread alone;
    work(alone.context, context);
    return;
  }
  ParallelRegion team(work, context);
  if (gomp_parallel != nullptr) {
    gomp_parallel(
        [](void* is_owner) {
          static_cast<ParallelRegion*>(is_owner)->run_thread(omp_thread_number(), omp_team_size());
        },
        &team, static_cast<unsigned>(threads), 0);
  } else {
    std::vector<std::thread> threads_started;
    threads_started.reserve(static_cast<std::size_t>(threads - 1));
    try {
      for (int index = 1; index < threads; ++index)
        threads_started.emplace_back([&team, index] { team.run_thread(index, 0); });
    } catch (const std::system_error&) {  // no more of them: those that came do it all
    }
    team.run_thread(0, static_cast<int>(threads_started.size()) + 1);
    for (auto& thread : threads_started) thread.join();
  }
  team.end();
}

void* thread_scratch(ScratchSlot slot, std::size_t bytes) {
  struct Block {
    void* start = nullptr;
    std::size_t size = 0;
    ~Block() { std::free(start); }
  };
  thread_local Block blocks[kScratchSlotCount];
  Block& block = blocks[slot];
  if (block.size < bytes) {
    std::free(block.start);
    const std::size_t size = (bytes + 4095) / 4096 * 4096;
    block.start = nullptr;
    block.size = 0;
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, size) != 0) throw std::bad_alloc();
    block.start = memory;
    block.size = size;
  }
  return block.start;
}

}  // namespace unrolled
