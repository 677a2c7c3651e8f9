// The arithmetic of the portable step: sums in a fixed order, exp and tanh of our own. One rounding for each operation:
// files that include this one are compiled with -ffp-contract=off, and nothing here calls `fma`.
#pragma once

#include <cmath>
#include <cstring>

#include "kernels/simd.hpp"

namespace unrolled {
namespace UNROLLED_ISA {

constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding and subtracting it rounds to an integer, halves to even

template <int count>
UNROLLED_INLINE Vec polynomial(const float (&coefficients)[count], Vec x) {  // the lowest power first
  Vec result = set1_vec(coefficients[count - 1]);
  for (int i = count - 2; i >= 0; --i) result = result * x + set1_vec(coefficients[i]);
  return result;
}

// The larger and the smaller of two numbers; NaN where x is NaN.
UNROLLED_INLINE Vec at_least(Vec x, float low) { return x < set1_vec(low) ? set1_vec(low) : x; }
UNROLLED_INLINE Vec at_most(Vec x, float high) { return x > set1_vec(high) ? set1_vec(high) : x; }

// e^x for x of at most 88.
UNROLLED_INLINE Vec portable_exp(Vec x) {
  static const float kExp[] = {1, 1, 0.49999994f, 0.1666652f, 0.041668396f, 0.008368797f, 0.0013814433f};
  x = at_least(x, -87.0f);
  const Vec n = (x * set1_vec(1.4426950408889634f) + set1_vec(kRound)) - set1_vec(kRound);
  const Vec r = (x - n * set1_vec(0.693359375f)) - n * set1_vec(-2.12194440e-4f);
  const VecInt power = (__builtin_convertvector(n, VecInt) + 127) << 23;
  return polynomial(kExp, r) * reinterpret_cast<Vec>(power);
}

UNROLLED_INLINE Vec portable_tanh(Vec x) {
  static const float kP[] = {1, 0.13379648327827454f, 0.003493951866403222f, 2.0582119759637862e-05f,
                             1.3317177582905515e-08f};
  static const float kQ[] = {1, 0.467129647731781f, 0.025870759040117264f, 0.0003282957768533379f,
                             7.761245797155425e-07f};
  x = at_most(at_least(x, -9.02f), 9.02f);
  const Vec square = x * x;
  const Vec quotient = (x * polynomial(kP, square)) / polynomial(kQ, square);
  return at_most(at_least(quotient, -1.0f), 1.0f);
}

// ln(1 / (1 + e^-x)).
UNROLLED_INLINE Vec portable_log_sigmoid(Vec x) {
  static const float kLog1p[] = {2, 0.666664183f, 0.400215298f, 0.280017734f, 0.280121565f};
  const Vec zero = set1_vec(0.0f), u = portable_exp(x > zero ? -x : x);
  const Vec s = u / (u + set1_vec(2.0f));
  return (x > zero ? zero : x) - s * polynomial(kLog1p, s * s);
}

// e^x - 1 for x of at most 0.
UNROLLED_INLINE Vec portable_expm1(Vec x) {
  static const float kExpm1[] = {1, 0.49999994f, 0.1666652f, 0.041668396f, 0.008368797f, 0.0013814433f};
  return x > set1_vec(-0.34f) ? x * polynomial(kExpm1, x) : portable_exp(x) - set1_vec(1.0f);
}

// The same of a Vec16: vector by vector.
#define UNROLLED_PORTABLE_OF_VEC16(name)            \
  UNROLLED_INLINE Vec16 name(const Vec16& x) {      \
    Vec16 out;                                      \
    UNROLLED_FOR_EACH_VEC out.vec[i] = name(x.vec[i]); \
    return out;                                     \
  }
UNROLLED_PORTABLE_OF_VEC16(portable_tanh)
UNROLLED_PORTABLE_OF_VEC16(portable_exp)
UNROLLED_PORTABLE_OF_VEC16(portable_log_sigmoid)
#undef UNROLLED_PORTABLE_OF_VEC16

// The root of 1 - e^y, at least of 1e-12, for y of at most 0.
UNROLLED_INLINE Vec16 portable_root(const Vec16& y) {
  Vec16 out;
  UNROLLED_FOR_EACH_VEC {
    const Vec square = -portable_expm1(y.vec[i]), least = set1_vec(1e-12f);
    const Vec bounded = square > least ? square : least;
    for (int lane = 0; lane < kVecWidth; ++lane) out.vec[i][lane] = std::sqrt(bounded[lane]);
  }
  return out;
}

UNROLLED_INLINE Vec16 portable_sigmoid(const Vec16& x) {
  Vec16 out;
  UNROLLED_FOR_EACH_VEC out.vec[i] =
      set1_vec(0.5f) * portable_tanh(set1_vec(0.5f) * x.vec[i]) + set1_vec(0.5f);
  return out;
}

static inline int lanes_from(int k, int count) { return count - k < kLanes ? count - k : kLanes; }

// 16 partial sums, then a tree. `value(k, lanes)` gives the numbers from k on; those beyond the lanes are zero.
template <typename Value>
static inline float ordered_sum(int count, Value&& value) {
  Vec16 sums = set1(0.0f);
  for (int k = 0; k < count; k += kLanes) sums = sums + value(k, lanes_from(k, count));
  return reduce(sums, [](float a, float b) { return a + b; });
}

static inline void portable_layer_norm(const float* x, const float* weight, const float* bias, int count, float* out) {
  const float size = static_cast<float>(count);
  const Vec16 mean = set1(ordered_sum(count, [&](int k, int lanes) { return load_partial(x + k, lanes); }) / size);
  for (int k = 0; k < count; k += kLanes) store(out + k, load(x + k) - mean);
  const auto square = [&](int k, int lanes) {
    const Vec16 centered = load_partial(out + k, lanes);
    return centered * centered;
  };
  const Vec16 factor = set1(1.0f / std::sqrt(ordered_sum(count, square) / size + 1e-5f));
  for (int k = 0; k < count; k += kLanes)
    store(out + k, load(out + k) * factor * load(weight + k) + load(bias + k));
}

}  // namespace UNROLLED_ISA
}  // namespace unrolled
