#include "meeting.hpp"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "team.hpp"

namespace unrolled {

namespace {

constexpr int kSpins = 2000, kYields = 2000;  // some 50 microseconds, then about a millisecond
constexpr std::chrono::microseconds kNap(50), kLongestNap(2000);  // twice as long each time: a look takes seconds

}  // namespace

bool meet(std::int64_t* board, int ranks, int rank, std::int64_t round, double seconds) {
  __atomic_store_n(board + rank, round, __ATOMIC_RELEASE);
  const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  long waits = 0;
  auto nap = kNap;
  for (int other = 0; other < ranks; ++other)
    for (; __atomic_load_n(board + other, __ATOMIC_ACQUIRE) < round; ++waits) {
      if (waits < kSpins) {
        pause();
      } else if (waits < kSpins + kYields) {
        sched_yield();
      } else {
        if (std::chrono::steady_clock::now() > until) return false;
        std::this_thread::sleep_for(nap);
        nap = std::min(2 * nap, kLongestNap);
      }
    }
  return true;
}

}  // namespace unrolled
