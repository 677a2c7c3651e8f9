#include "team.hpp"

#include <dlfcn.h>
#include <sched.h>

#include <cstdlib>
#include <exception>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace unrolled {

namespace {

constexpr int kSpins = 4000;  // some 100 microseconds, many times what a step takes

// GNU's OpenMP, as torch's Linux wheels carry it. The functions are those that compilers call for `#pragma omp parallel`.
void (*gomp_parallel)(void (*)(void*), void*, unsigned, unsigned) = nullptr;
int (*thread_number)() = nullptr;
int (*team_size)() = nullptr;


}  // namespace

void Barrier::wait() {
  if (size_ == 1) return;
  if (broken_.load(std::memory_order_acquire)) throw Broken();
  const unsigned round = round_.load(std::memory_order_acquire);
  if (waiting_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
    waiting_.store(0, std::memory_order_relaxed);
    round_.store(round + 1, std::memory_order_release);
    return;
  }
  for (int spins = 0; round_.load(std::memory_order_acquire) == round; ++spins) {
    if (broken_.load(std::memory_order_acquire)) throw Broken();
    if (spins < kSpins)
      pause();
    else
      sched_yield();
  }
}

namespace {

constexpr int kCountBits = 20;
constexpr uint64_t kCountMask = (1u << kCountBits) - 1;

uint64_t packed(unsigned round, int first, int last) {
  return static_cast<uint64_t>(round) << 2 * kCountBits | static_cast<uint64_t>(first) << kCountBits | static_cast<uint64_t>(last);
}

}  // namespace

int Shares::take_of(int owner, bool own, int count, unsigned round) {
  round &= (1u << (64 - 2 * kCountBits)) - 1;
  std::atomic<uint64_t>& left = ranges_[static_cast<std::size_t>(owner)].left;
  uint64_t seen = left.load(std::memory_order_acquire);
  while (true) {
    int first, last;
    if (seen >> 2 * kCountBits == round) {
      first = static_cast<int>(seen >> kCountBits & kCountMask);
      last = static_cast<int>(seen & kCountMask);
    } else {  // whoever comes first in a round begins it
      share(count, owner, size_, first, last);
    }
    if (first >= last) return -1;
    const uint64_t after = own ? packed(round, first + 1, last) : packed(round, first, last - 1);
    if (left.compare_exchange_weak(seen, after, std::memory_order_acq_rel, std::memory_order_acquire)) return own ? first : last - 1;
  }
}

int Shares::take(int index, int count, unsigned round) {
  for (int i = 0; i < size_; ++i) {
    const int taken = take_of((index + i) % size_, i == 0, count, round);
    if (taken >= 0) return taken;
  }
  return -1;
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

namespace {

struct Meeting {
  explicit Meeting(int size) : barrier(size), shares(size) {}
  Barrier barrier;
  Shares shares;
};

// Threads that are about to work: how many there are is known only when they have come.
class Team {
 public:
  Team(Work work, void* context) : work_(work), context_(context) {}
  ~Team() { delete meeting_.load(); }

  // What each thread does. The first one says how many there are.
  void take_part(int index, int size) noexcept {
    Meeting* meeting = nullptr;
    if (index == 0) begin(size);
    while ((meeting = meeting_.load(std::memory_order_acquire)) == nullptr) pause();
    try {
      work_(Place{index, size_, meeting->barrier, meeting->shares}, context_);
    } catch (const Broken&) {  // another thread's failure is the reason
    } catch (...) {
      if (!failed_.exchange(true)) failure_ = std::current_exception();
      meeting->barrier.break_up();
    }
  }

  void begin(int size) {
    size_ = size;
    meeting_.store(new Meeting(size), std::memory_order_release);
  }

  void end() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  const Work work_;
  void* const context_;
  int size_ = 0;
  std::atomic<Meeting*> meeting_{nullptr};
  std::atomic<bool> failed_{false};
  std::exception_ptr failure_;
};

}  // namespace

void run_together(int threads, Work work, void* context) {
  if (threads <= 1) {
    const Alone alone;
    work(alone.place, context);
    return;
  }
  Team team(work, context);
  if (gomp_parallel != nullptr) {
    gomp_parallel([](void* own) { static_cast<Team*>(own)->take_part(thread_number(), team_size()); }, &team,
                  static_cast<unsigned>(threads), 0);
  } else {
    std::vector<std::thread> others;
    others.reserve(static_cast<std::size_t>(threads - 1));
    try {
      for (int index = 1; index < threads; ++index) others.emplace_back([&team, index] { team.take_part(index, 0); });
    } catch (const std::system_error&) {  // no more of them: those that came do it all
    }
    team.take_part(0, static_cast<int>(others.size()) + 1);
    for (auto& other : others) other.join();
  }
  team.end();
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
