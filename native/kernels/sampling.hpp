// Draws one token from logits: temperature, top-k, top-p and min-p as the Python sampler has them, in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "args/decoder_args.hpp"

namespace unrolled {
namespace UNROLLED_ISA {

constexpr double kNegInf = -std::numeric_limits<double>::infinity();

// e^x for x <= 0, to the last bit or two; nothing below -708. Without branches, so that compilers do many at once.
static inline double exp_nonpositive(double x) {
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

constexpr int kUnroll = 8;  // numbers that are looked at together: a processor has registers for so many

static inline double max_value(const double* values, int count) {
  double maximum[kUnroll], max_all = kNegInf;
  for (int j = 0; j < kUnroll; ++j) maximum[j] = kNegInf;
  int i = 0;
  for (; i + kUnroll <= count; i += kUnroll)
    for (int j = 0; j < kUnroll; ++j) maximum[j] = values[i + j] > maximum[j] ? values[i + j] : maximum[j];
  for (; i < count; ++i) max_all = values[i] > max_all ? values[i] : max_all;
  for (int j = 0; j < kUnroll; ++j) max_all = maximum[j] > max_all ? maximum[j] : max_all;
  return max_all;
}

static inline bool has_nan(const double* values, int count) {
  int64_t nan_bits = 0;
  for (int i = 0; i < count; ++i) nan_bits |= values[i] != values[i];
  return nan_bits != 0;
}

// Chances that are not yet divided by their sum, which is returned.
static inline double softmax_weights(const double* values, int count, double* probs) {
  const double maximum = max_value(values, count);
  for (int i = 0; i < count; ++i) probs[i] = exp_nonpositive(values[i] - maximum);
  double sums[kUnroll] = {}, sum = 0;
  int i = 0;
  for (; i + kUnroll <= count; i += kUnroll)
    for (int j = 0; j < kUnroll; ++j) sums[j] += probs[i + j];
  for (; i < count; ++i) sum += probs[i];
  for (int half = kUnroll / 2; half > 0; half /= 2)
    for (int j = 0; j < half; ++j) sums[j] += sums[j + half];
  return sums[0] + sum;
}

// Symbols in the order of their likelihood; equals as they come.
struct ByProbability {
  const double* values;
  bool operator()(int32_t a, int32_t b) const { return values[a] > values[b] || (values[a] == values[b] && a < b); }
};

static inline int32_t* fill_indices(int32_t* order, int count) {
  for (int i = 0; i < count; ++i) order[i] = i;
  return order + count;
}

static inline void filter_top_k(double* values, int count, int64_t k, int32_t* order) {
  int32_t* end = fill_indices(order, count);
  std::nth_element(order, order + k, end, ByProbability{values});
  for (int32_t* at = order + k; at < end; ++at) values[*at] = kNegInf;
}

static inline void filter_top_p(double* values, int count, double p, double* probs, int32_t* order) {
  const double sum = softmax_weights(values, count, probs);
  int32_t* end = fill_indices(order, count);
  std::sort(order, end, ByProbability{values});
  double cumulative = 0;
  for (int32_t* at = order; at < end; ++at) {
    if (cumulative >= p) values[*at] = kNegInf;
    cumulative += probs[*at] / sum;
  }
}

static inline void filter_min_p(double* values, int count, double threshold, double* probs) {
  softmax_weights(values, count, probs);
  for (int i = 0; i < count; ++i)  // the likeliest weighs 1
    if (probs[i] < threshold) values[i] = kNegInf;
}

// The first symbol at which the sum of the chances passes its share; one that has no chance is never drawn.
static inline int sample_index(const double* probs, int count, double threshold) {
  double sum = 0;
  int i = 0;
  for (; i + kUnroll <= count; i += kUnroll) {
    const double* c = probs + i;
    const double next = sum + (((c[0] + c[1]) + (c[2] + c[3])) + ((c[4] + c[5]) + (c[6] + c[7])));
    if (next > threshold) break;
    sum = next;
  }
  for (; i < count; ++i) {
    sum += probs[i];
    if (sum > threshold && probs[i] > 0) return i;
  }
  int last = count - 1;
  while (last > 0 && !(probs[last] > 0)) --last;
  return last;
}

// `values` and `probs` have room for all symbols, `order` too.
static inline int sample_token(double* values, int count, double uniform, const Filters& filters, double* probs,
                               int32_t* order) {
  if (has_nan(values, count)) {  // no order, and no odds
    if (filters.temperature != 0) return count - 1;
    return static_cast<int>(std::find_if(values, values + count, [](double value) { return std::isnan(value); }) -
                            values);
  }
  const double maximum = max_value(values, count), temperature = filters.temperature;
  if (temperature == 0 || !(maximum / temperature < std::numeric_limits<double>::infinity()))
    return static_cast<int>(std::find(values, values + count, maximum) - values);
  if (temperature != 1)
    for (int i = 0; i < count; ++i) values[i] /= temperature;
  if (filters.top_k > 0 && filters.top_k < count) filter_top_k(values, count, filters.top_k, order);
  if (filters.top_p < 1) filter_top_p(values, count, filters.top_p, probs, order);
  if (filters.min_p > 0) filter_min_p(values, count, filters.min_p, probs);
  const double sum = softmax_weights(values, count, probs);
  return sample_index(probs, count, uniform * sum);
}

}  // namespace UNROLLED_ISA
}  // namespace unrolled
