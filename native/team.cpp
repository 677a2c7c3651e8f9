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

// Threads that are about to work: how many there are is known only when they have come.
class Team {
 public:
  Team(Work work, void* context) : work_(work), context_(context) {}
  ~Team() { delete barrier_.load(); }

  // What each thread does. The first one says how many there are.
  void take_part(int index, int size) noexcept {
    Barrier* barrier = nullptr;
    if (index == 0) begin(size);
    while ((barrier = barrier_.load(std::memory_order_acquire)) == nullptr) pause();
    try {
      work_(Place{index, size_, *barrier}, context_);
    } catch (const Broken&) {  // another thread's failure is the reason
    } catch (...) {
      if (!failed_.exchange(true)) failure_ = std::current_exception();
      barrier->break_up();
    }
  }

  void begin(int size) {
    size_ = size;
    barrier_.store(new Barrier(size), std::memory_order_release);
  }

  void end() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  const Work work_;
  void* const context_;
  int size_ = 0;
  std::atomic<Barrier*> barrier_{nullptr};
  std::atomic<bool> failed_{false};
  std::exception_ptr failure_;
};

}  // namespace

void run_together(int threads, Work work, void* context) {
  if (threads <= 1) {
    Barrier barrier(1);
    work(Place{0, 1, barrier}, context);
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
