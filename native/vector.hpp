// Sixteen floats at a time, in as many registers as the instruction set of this file needs for them; exp, sigmoid and tanh.
//
// This file is compiled once for each instruction set, inside a namespace of its own: what is here must not be shared.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define UNROLLED_WIDTH 16
#elif defined(__AVX2__)
#define UNROLLED_WIDTH 8
#else
#define UNROLLED_WIDTH 4
#endif

// Compilers think these too long to be worth it, and a call spills every register.
#define UNROLLED_INLINE static inline __attribute__((always_inline))
#define UNROLLED_INLINE_MEMBER inline __attribute__((always_inline))
#define UNROLLED_LAMBDA __attribute__((always_inline))

// Before a loop over registers: GCC unrolls it too late otherwise, and writes each sum to memory at every step.
#if defined(__clang__)
#define UNROLLED_UNROLL _Pragma("unroll")
#else
#define UNROLLED_UNROLL _Pragma("GCC unroll 16")
#endif

namespace unrolled {
namespace UNROLLED_SET {

constexpr int kWidth = UNROLLED_WIDTH;
constexpr int kLanes = 16;
constexpr int kParts = kLanes / kWidth;

typedef float Vec __attribute__((vector_size(4 * UNROLLED_WIDTH)));
typedef int32_t VecInt __attribute__((vector_size(4 * UNROLLED_WIDTH)));
typedef float VecLoose __attribute__((vector_size(4 * UNROLLED_WIDTH), aligned(4), may_alias));

UNROLLED_INLINE Vec load(const float* from) { return *reinterpret_cast<const VecLoose*>(from); }
UNROLLED_INLINE void store(float* to, Vec value) { *reinterpret_cast<VecLoose*>(to) = value; }
UNROLLED_INLINE Vec all(float value) { return Vec{} + value; }

// The same of a number in memory, in one instruction: compilers keep the addition to zero above, which turns -0 into 0.
UNROLLED_INLINE Vec broadcast(const float* from) {
#if defined(__AVX512F__)
  return _mm512_set1_ps(*from);
#elif defined(__AVX2__)
  return _mm256_broadcast_ss(from);
#else
  return Vec{*from, *from, *from, *from};
#endif
}

// a b + c, in one rounding where the processor has that.
UNROLLED_INLINE Vec multiply_add(Vec a, Vec b, Vec c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

// The clamps let a number that is none pass, so that a network that diverged is seen to have done so.
UNROLLED_INLINE Vec clamp(Vec x, float low, float high) {
#if defined(__AVX512F__)
  return _mm512_min_ps(_mm512_set1_ps(high), _mm512_max_ps(_mm512_set1_ps(low), x));
#else
  x = all(low) > x ? all(low) : x;
  return all(high) < x ? all(high) : x;
#endif
}

// 2^n p for whole n
UNROLLED_INLINE Vec scale(Vec p, Vec n) {
#if defined(__AVX512F__)
  return _mm512_scalef_ps(p, n);
#else
  const VecInt power = __builtin_convertvector(n, VecInt);
  return reinterpret_cast<Vec>(reinterpret_cast<VecInt>(p) + (power << 23));
#endif
}

UNROLLED_INLINE Vec nearest_whole(Vec x) {
#if defined(__AVX512F__)
  return _mm512_roundscale_ps(x, 8);
#elif defined(__AVX2__)
  return _mm256_round_ps(x, 8);
#else
  const Vec magic = all(12582912.0f);  // adding it leaves no bits for a fraction
  return (x + magic) - magic;
#endif
}

// e^x, relative error 1e-7 if Exact, else 3e-6. x = (n + r) ln 2 with |r| <= 1/2; 2^r by its Taylor series.
template <bool Exact>
UNROLLED_INLINE Vec exponential(Vec x) {
  x = clamp(x, -87.0f, 88.0f);
  const Vec log2e = all(1.44269504f);
  const Vec n = nearest_whole(x * log2e);
  Vec r = multiply_add(x, log2e, -n);
  if constexpr (Exact) r = multiply_add(x, all(1.92596299e-8f), r);
  Vec p = all(Exact ? 1.54035304e-4f : 1.33335581e-3f);
  if constexpr (Exact) p = multiply_add(p, r, all(1.33335581e-3f));
  p = multiply_add(p, r, all(9.61812911e-3f));
  p = multiply_add(p, r, all(5.55041087e-2f));
  p = multiply_add(p, r, all(2.40226507e-1f));
  p = multiply_add(p, r, all(6.93147181e-1f));
  p = multiply_add(p, r, all(1.0f));
  return scale(p, n);
}

template <bool Exact>
UNROLLED_INLINE Vec reciprocal(Vec x) {
#if defined(__AVX512F__)
  if constexpr (!Exact) {
    const Vec guess = _mm512_rcp14_ps(x);
    return guess * multiply_add(-x, guess, all(2.0f));
  }
#endif
  return all(1.0f) / x;
}

// 1 / (1 + e^(-slope x)). Not Exact: 3e-6 off, in 12 instructions. 2^z = 2^floor(z) p(z - floor(z)), and the processor's
// scaling takes the floor by itself; the polynomial is the best of degree four that is one at zero.
template <bool Exact>
UNROLLED_INLINE Vec sigmoid_of(Vec x, float slope) {
#if defined(__AVX512F__)
  if constexpr (!Exact) {
    const Vec z = _mm512_min_ps(_mm512_set1_ps(126.0f), x * all(-1.44269504f * slope));
    const Vec r = _mm512_reduce_ps(z, 1);
    Vec p = all(1.342679887e-2f);
    p = multiply_add(p, r, all(5.224224153e-2f));
    p = multiply_add(p, r, all(2.412803547e-1f));
    p = multiply_add(p, r, all(6.930448151e-1f));
    p = multiply_add(p, r, all(1.0f));
    return reciprocal<false>(all(1.0f) + scale(p, z));
  }
#endif
  return reciprocal<Exact>(all(1.0f) + exponential<Exact>(x * all(-slope)));
}

template <bool Exact>
UNROLLED_INLINE Vec sigmoid(Vec x) {
  return sigmoid_of<Exact>(x, 1.0f);
}

// tanh x = 2 sigmoid(2 x) - 1; near zero, where that cancels, an odd polynomial (Cephes).
template <bool Exact>
UNROLLED_INLINE Vec tangent(Vec x) {
  const Vec far = multiply_add(all(2.0f), sigmoid_of<Exact>(x, 2.0f), all(-1.0f));
  if constexpr (!Exact) return far;
  const Vec square = x * x;
  Vec p = all(-5.70498872745e-3f);
  p = multiply_add(p, square, all(2.06390887954e-2f));
  p = multiply_add(p, square, all(-5.37397155531e-2f));
  p = multiply_add(p, square, all(1.33314422036e-1f));
  p = multiply_add(p, square, all(-3.33332819422e-1f));
  const Vec near = multiply_add(p * square, x, x);
  return square < all(0.390625f) ? near : far;
}

// Sixteen floats.
struct Lanes {
  Vec part[kParts];
};

#define UNROLLED_EACH for (int i = 0; i < kParts; ++i)

UNROLLED_INLINE Lanes splat(float value) {
  Lanes out;
  UNROLLED_EACH out.part[i] = all(value);
  return out;
}
UNROLLED_INLINE Lanes read(const float* from) {
  Lanes out;
  UNROLLED_EACH out.part[i] = load(from + i * kWidth);
  return out;
}
UNROLLED_INLINE void write(float* to, const Lanes& value) { UNROLLED_EACH store(to + i * kWidth, value.part[i]); }
UNROLLED_INLINE Lanes operator+(const Lanes& a, const Lanes& b) {
  Lanes out;
  UNROLLED_EACH out.part[i] = a.part[i] + b.part[i];
  return out;
}
UNROLLED_INLINE Lanes operator-(const Lanes& a, const Lanes& b) {
  Lanes out;
  UNROLLED_EACH out.part[i] = a.part[i] - b.part[i];
  return out;
}
UNROLLED_INLINE Lanes operator*(const Lanes& a, const Lanes& b) {
  Lanes out;
  UNROLLED_EACH out.part[i] = a.part[i] * b.part[i];
  return out;
}
UNROLLED_INLINE Lanes fma(const Lanes& a, const Lanes& b, const Lanes& c) {
  Lanes out;
  UNROLLED_EACH out.part[i] = multiply_add(a.part[i], b.part[i], c.part[i]);
  return out;
}
UNROLLED_INLINE Lanes complement(const Lanes& a) {  // 1 - a
  Lanes out;
  UNROLLED_EACH out.part[i] = all(1.0f) - a.part[i];
  return out;
}
UNROLLED_INLINE Lanes larger(const Lanes& a, const Lanes& b) {  // a where one is no number
  Lanes out;
  UNROLLED_EACH out.part[i] = b.part[i] > a.part[i] ? b.part[i] : a.part[i];
  return out;
}
template <typename F>
UNROLLED_INLINE float across(const Lanes& a, F&& both) {  // in pairs, the same on every processor
  alignas(64) float all16[kLanes];
  for (int i = 0; i < kParts; ++i) store(all16 + i * kWidth, a.part[i]);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) all16[i] = both(all16[i], all16[i + half]);
  return all16[0];
}
UNROLLED_INLINE float sum_of(const Lanes& a) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps(a.part[0]);
#else
  return across(a, [](float x, float y) { return x + y; });
#endif
}
UNROLLED_INLINE float largest_of(const Lanes& a) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps(a.part[0]);
#else
  return across(a, [](float x, float y) { return x < y ? y : x; });
#endif
}
template <bool Exact>
UNROLLED_INLINE Lanes exponential(const Lanes& x) {
  Lanes out;
  UNROLLED_EACH out.part[i] = exponential<Exact>(x.part[i]);
  return out;
}
template <bool Exact>
UNROLLED_INLINE Lanes sigmoid(const Lanes& x) {
  Lanes out;
  UNROLLED_EACH out.part[i] = sigmoid<Exact>(x.part[i]);
  return out;
}
template <bool Exact>
UNROLLED_INLINE Lanes tangent(const Lanes& x) {
  Lanes out;
  UNROLLED_EACH out.part[i] = tangent<Exact>(x.part[i]);
  return out;
}

// Numbers in memory. `count` below 16 reads and writes only so many; the others are zero.
UNROLLED_INLINE Lanes read_some(const float* from, int count) {
  if (count == kLanes) return read(from);
  alignas(64) float all16[kLanes] = {};
  std::memcpy(all16, from, sizeof(float) * static_cast<size_t>(count));
  return read(all16);
}
UNROLLED_INLINE void write_some(float* to, const Lanes& value, int count) {
  if (count == kLanes) return write(to, value);
  alignas(64) float all16[kLanes];
  write(all16, value);
  std::memcpy(to, all16, sizeof(float) * static_cast<size_t>(count));
}

struct bfloat16 {  // the upper half of a float
  uint16_t bits;
};
struct half {  // IEEE half precision
  uint16_t bits;
};

template <typename T>
constexpr bool kIsFloat = sizeof(T) == 4;

UNROLLED_INLINE float widen(bfloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float out;
  std::memcpy(&out, &bits, 4);
  return out;
}
UNROLLED_INLINE bfloat16 narrow(float value) {  // to the nearest, ties to even; what is no number stays none
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if (value != value) return {static_cast<uint16_t>(bits >> 16 | 64)};
  return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

#if defined(__AVX512BF16__)
UNROLLED_INLINE Lanes read(const bfloat16* from) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return {{reinterpret_cast<Vec>(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))}};
}
UNROLLED_INLINE __m256i rounded(const Lanes& value) { return (__m256i)_mm512_cvtneps_pbh(value.part[0]); }
UNROLLED_INLINE void write(bfloat16* to, const Lanes& value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), rounded(value));
}
UNROLLED_INLINE Lanes read_some(const bfloat16* from, int count) {
  if (count == kLanes) return read(from);
  bfloat16 all16[kLanes] = {};
  std::memcpy(all16, from, 2 * static_cast<size_t>(count));
  return read(all16);
}
UNROLLED_INLINE void write_some(bfloat16* to, const Lanes& value, int count) {
  if (count == kLanes) return write(to, value);
  bfloat16 all16[kLanes];
  write(all16, value);
  std::memcpy(to, all16, 2 * static_cast<size_t>(count));
}
UNROLLED_INLINE Lanes read(const half* from) {
  return {{_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)))}};
}
UNROLLED_INLINE void write(half* to, const Lanes& value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph(value.part[0], _MM_FROUND_TO_NEAREST_INT));
}
#endif

}  // namespace UNROLLED_SET
}  // namespace unrolled
