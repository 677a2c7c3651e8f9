#include "meeting.hpp"

#include <sched.h>

#include <chrono>
#include <thread>

#include "team.hpp"

namespace unrolled {

namespace {

constexpr int kSpins = 2000, kYields = 2000;  // some 50 microseconds, then about a millisecond
constexpr auto kNap = std::chrono::microseconds(200);

}  // namespace

bool meet(std::int64_t* board, int ranks, int rank, std::int64_t round, double seconds) {
  __atomic_store_n(board + rank, round, __ATOMIC_RELEASE);
  const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  long waits = 0;
  for (int other = 0; other < ranks; ++other)
    for (; __atomic_load_n(board + other, __ATOMIC_ACQUIRE) < round; ++waits) {
      if (waits < kSpins) {
        pause();
      } else if (waits < kSpins + kYields) {
        sched_yield();
      } else {
        if (std::chrono::steady_clock::now() > until) return false;
        std::this_thread::sleep_for(kNap);
      }
    }
  return true;
}

}  // namespace unrolled
