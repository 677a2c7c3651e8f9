// The draw of the portable step: integer odds, the same filters as `filter_odds`, and Philox4x32-10 (Salmon, Moraes, Dror
// and Shaw, SC 2011).
#pragma once

#include <algorithm>
#include <numeric>

#include "args/portable_args.hpp"
#include "kernels/portable_math.hpp"

namespace unrolled {
namespace UNROLLED_ISA {

static inline void philox(uint32_t (&counter)[4], uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter[0], product1 = uint64_t{0xCD9E8D57} * counter[2];
    const uint32_t next[4] = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key0, static_cast<uint32_t>(product1),
                              static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key1,
                              static_cast<uint32_t>(product0)};
    std::memcpy(counter, next, sizeof(next));
    key0 += 0x9E3779B9, key1 += 0xBB67AE85;
  }
}

// A random number below `limit`, each equally likely.
static inline uint64_t random_below(uint64_t limit, uint64_t seed, uint64_t position) {
  uint64_t mask = limit - 1;
  for (int shift = 1; shift < 64; shift *= 2) mask |= mask >> shift;
  for (uint32_t block = 0;; ++block) {
    uint32_t words[4] = {static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), block, 0};
    philox(words, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
    for (int i = 0; i < 4; i += 2) {
      const uint64_t number = (static_cast<uint64_t>(words[i]) << 32 | words[i + 1]) & mask;
      if (number < limit) return number;
    }
  }
}

// The most likely token; the first of equal ones, and the first that is NaN.
static inline int most_likely(const float* logits, int count) {
  int best = 0;
  for (int i = 1; i < count && logits[best] == logits[best]; ++i)
    if (!(logits[i] <= logits[best])) best = i;
  return best;
}

// Set the odds to zero of all but the tokens that the filters leave. `order` is scratch memory.
static inline void filter_odds(int64_t* odds, int count, const Filters& filters, int32_t* order) {
  const auto is_before = [odds](int32_t a, int32_t b) { return odds[a] != odds[b] ? odds[a] > odds[b] : a < b; };
  if (filters.top_k > 0 && filters.top_k < count) {
    std::iota(order, order + count, 0);
    std::nth_element(order, order + filters.top_k, order + count, is_before);
    for (int i = static_cast<int>(filters.top_k); i < count; ++i) odds[order[i]] = 0;
  }
  if (filters.top_p < 1) {
    int left = 0;
    int64_t total = 0, before = 0;
    for (int i = 0; i < count; ++i)
      if (odds[i] > 0) order[left++] = i, total += odds[i];
    std::sort(order, order + left, is_before);
    const double limit = filters.top_p * static_cast<double>(total);
    for (int i = 0; i < left; ++i) {
      const int64_t own = odds[order[i]];
      if (static_cast<double>(before) >= limit) odds[order[i]] = 0;
      before += own;
    }
  }
  const double least = filters.min_p * static_cast<double>(*std::max_element(odds, odds + count));
  for (int i = 0; i < count; ++i)
    if (!(static_cast<double>(odds[i]) >= least)) odds[i] = 0;
}

// The next token. `logits` and `odds` are padded to 16.
static inline int draw_token(const float* logits, int count, const Filters& filters, uint64_t seed, uint64_t position,
                             int64_t* odds, int32_t* order) {
  const int best = most_likely(logits, count);
  const float divisor = static_cast<float>(filters.temperature), largest = logits[best] / divisor;
  if (divisor == 0 || !std::isfinite(largest)) return best;
  for (int k = 0; k < count; k += kLanes) {
    const Vec16 value = load(logits + k);
    alignas(64) float scaled[kLanes];
    UNROLLED_FOR_EACH_VEC {
      const Vec difference = value.vec[i] / set1_vec(divisor) - set1_vec(largest);
      store_vec(scaled + i * kVecWidth, portable_exp(at_most(difference, 0.0f)) * set1_vec(1073741824.0f));
    }
    for (int i = 0; i < kLanes; ++i) odds[k + i] = static_cast<int64_t>(scaled[i]);
  }
  filter_odds(odds, count, filters, order);
  const int64_t total = std::accumulate(odds, odds + count, int64_t{0});
  const auto number = static_cast<int64_t>(random_below(static_cast<uint64_t>(total), seed, position));
  int64_t cumulative = 0;
  int token = 0;
  while ((cumulative += odds[token]) <= number) ++token;
  return token;
}

}  // namespace UNROLLED_ISA
}  // namespace unrolled
