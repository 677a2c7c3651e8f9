// One draw: filters and choice as `inference/generate.py` has them, in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "step.hpp"

namespace unrolled {
namespace UNROLLED_SET {

constexpr double kNever = -std::numeric_limits<double>::infinity();

// e^x for x <= 0, to the last bit or two; nothing below -708. Without branches, so that compilers do many at once.
static inline double fading(double x) {
  const double shift = 6755399441055744.0;  // 1.5 * 2^52: what is added to it becomes whole
  const double bounded = x < -708.0 ? -708.0 : x;
  const double shifted = bounded * 1.4426950408889634 + shift;
  const double n = shifted - shift;
  const double r = (bounded - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
  double p = 1.0 / 6227020800.0;
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  int64_t power, bits;
  std::memcpy(&power, &shifted, 8);
  std::memcpy(&bits, &p, 8);
  bits += static_cast<int64_t>(static_cast<uint64_t>(power) << 52);
  std::memcpy(&p, &bits, 8);
  return x < -708.0 ? 0.0 : p;
}

constexpr int kDraws = 8;  // numbers that are looked at together: a processor has registers for so many

static inline double largest(const double* values, int count) {
  double most[kDraws], all = kNever;
  for (int j = 0; j < kDraws; ++j) most[j] = kNever;
  int i = 0;
  for (; i + kDraws <= count; i += kDraws)
    for (int j = 0; j < kDraws; ++j) most[j] = values[i + j] > most[j] ? values[i + j] : most[j];
  for (; i < count; ++i) all = values[i] > all ? values[i] : all;
  for (int j = 0; j < kDraws; ++j) all = most[j] > all ? most[j] : all;
  return all;
}

static inline bool has_no_number(const double* values, int count) {
  int64_t none = 0;
  for (int i = 0; i < count; ++i) none |= values[i] != values[i];
  return none != 0;
}

// Chances that are not yet divided by their sum, which is returned.
static inline double weigh(const double* values, int count, double* chances) {
  const double most = largest(values, count);
  for (int i = 0; i < count; ++i) chances[i] = fading(values[i] - most);
  double sums[kDraws] = {}, sum = 0;
  int i = 0;
  for (; i + kDraws <= count; i += kDraws)
    for (int j = 0; j < kDraws; ++j) sums[j] += chances[i + j];
  for (; i < count; ++i) sum += chances[i];
  for (int half = kDraws / 2; half > 0; half /= 2)
    for (int j = 0; j < half; ++j) sums[j] += sums[j + half];
  return sums[0] + sum;
}

// Symbols in the order of their likelihood; equals as they come.
struct Likelier {
  const double* values;
  bool operator()(int32_t a, int32_t b) const { return values[a] > values[b] || (values[a] == values[b] && a < b); }
};

static inline int32_t* each_symbol(int32_t* order, int count) {
  for (int i = 0; i < count; ++i) order[i] = i;
  return order + count;
}

static inline void keep_top_k(double* values, int count, int64_t k, int32_t* order) {
  int32_t* end = each_symbol(order, count);
  std::nth_element(order, order + k, end, Likelier{values});
  for (int32_t* at = order + k; at < end; ++at) values[*at] = kNever;
}

static inline void keep_top_p(double* values, int count, double p, double* chances, int32_t* order) {
  const double sum = weigh(values, count, chances);
  int32_t* end = each_symbol(order, count);
  std::sort(order, end, Likelier{values});
  double before = 0;
  for (int32_t* at = order; at < end; ++at) {
    if (before >= p) values[*at] = kNever;
    before += chances[*at] / sum;
  }
}

static inline void keep_min_p(double* values, int count, double share, double* chances) {
  weigh(values, count, chances);
  for (int i = 0; i < count; ++i)  // the likeliest weighs 1
    if (chances[i] < share) values[i] = kNever;
}

// The first symbol at which the sum of the chances passes its share; one that has no chance is never drawn.
static inline int choose(const double* chances, int count, double level) {
  double sum = 0;
  int i = 0;
  for (; i + kDraws <= count; i += kDraws) {
    const double* c = chances + i;
    const double next = sum + (((c[0] + c[1]) + (c[2] + c[3])) + ((c[4] + c[5]) + (c[6] + c[7])));
    if (next > level) break;
    sum = next;
  }
  for (; i < count; ++i) {
    sum += chances[i];
    if (sum > level && chances[i] > 0) return i;
  }
  int last = count - 1;
  while (last > 0 && !(chances[last] > 0)) --last;
  return last;
}

// `values` and `chances` have room for all symbols, `order` too.
static inline int draw(double* values, int count, double number, const Filters& filters, double* chances, int32_t* order) {
  if (has_no_number(values, count)) {  // no order, and no odds
    if (filters.temperature != 0) return count - 1;
    return static_cast<int>(std::find_if(values, values + count, [](double value) { return std::isnan(value); }) - values);
  }
  const double most = largest(values, count), heat = filters.temperature;
  if (heat == 0 || !(most / heat < std::numeric_limits<double>::infinity()))
    return static_cast<int>(std::find(values, values + count, most) - values);
  if (heat != 1)
    for (int i = 0; i < count; ++i) values[i] /= heat;
  if (filters.top_k > 0 && filters.top_k < count) keep_top_k(values, count, filters.top_k, order);
  if (filters.top_p < 1) keep_top_p(values, count, filters.top_p, chances, order);
  if (filters.min_p > 0) keep_min_p(values, count, filters.min_p, chances);
  const double sum = weigh(values, count, chances);
  return choose(chances, count, number * sum);
}

}  // namespace UNROLLED_SET
}  // namespace unrolled
