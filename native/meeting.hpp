// A meeting of processes of one machine, over numbers in memory that they share.
#pragma once

#include <cstdint>

namespace unrolled {

// Says in `board` (`ranks`) that this rank has come to `round`, and waits for the others. Returns false if they had not all
// come after `seconds`: then it may be asked again. What a rank wrote before it came, the others see after.
bool meet(std::int64_t* board, int ranks, int rank, std::int64_t round, double seconds);

}  // namespace unrolled
