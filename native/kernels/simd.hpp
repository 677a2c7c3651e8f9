// Sixteen floats at a time, in as many registers as the instruction set of this file needs for them; exp, sigmoid and
// tanh.
//
// This file is compiled once for each instruction set, inside a namespace of its own: what is here must not be shared.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define UNROLLED_VEC_WIDTH 16
#elif defined(__AVX2__)
#define UNROLLED_VEC_WIDTH 8
#else
#define UNROLLED_VEC_WIDTH 4
#endif

// Compilers do not inline these on their own, and a call would spill every register.
#define UNROLLED_INLINE static inline __attribute__((always_inline))
#define UNROLLED_INLINE_MEMBER inline __attribute__((always_inline))
#define UNROLLED_LAMBDA __attribute__((always_inline))

// A loop over registers, unrolled early: GCC unrolls it too late otherwise, and then writes each sum to memory at every
// step.
#if defined(__clang__)
#define UNROLLED_UNROLL _Pragma("unroll")
#else
#define UNROLLED_UNROLL _Pragma("GCC unroll 16")
#endif
#define UNROLLED_FOR(index, count) UNROLLED_UNROLL for (int index = 0; index < count; ++index)

namespace unrolled {
namespace UNROLLED_ISA {

constexpr int kVecWidth = UNROLLED_VEC_WIDTH;
constexpr int kLanes = 16;
constexpr int kVecsPer16 = kLanes / kVecWidth;

typedef float Vec __attribute__((vector_size(4 * UNROLLED_VEC_WIDTH)));
typedef int32_t VecInt __attribute__((vector_size(4 * UNROLLED_VEC_WIDTH)));
typedef float UnalignedVec __attribute__((vector_size(4 * UNROLLED_VEC_WIDTH), aligned(4), may_alias));

UNROLLED_INLINE Vec load_vec(const float* from) { return *reinterpret_cast<const UnalignedVec*>(from); }
UNROLLED_INLINE void store_vec(float* to, Vec value) { *reinterpret_cast<UnalignedVec*>(to) = value; }
UNROLLED_INLINE Vec set1_vec(float value) { return Vec{} + value; }

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
UNROLLED_INLINE Vec fma_vec(Vec a, Vec b, Vec c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

// The clamps let NaN pass, so that a network that diverged shows it.
UNROLLED_INLINE Vec clamp(Vec x, float low, float high) {
#if defined(__AVX512F__)
  return _mm512_min_ps(_mm512_set1_ps(high), _mm512_max_ps(_mm512_set1_ps(low), x));
#else
  x = set1_vec(low) > x ? set1_vec(low) : x;
  return set1_vec(high) < x ? set1_vec(high) : x;
#endif
}

// 2^n p for whole n
UNROLLED_INLINE Vec ldexp_vec(Vec p, Vec n) {
#if defined(__AVX512F__)
  return _mm512_scalef_ps(p, n);
#else
  const VecInt power = __builtin_convertvector(n, VecInt);
  return reinterpret_cast<Vec>(reinterpret_cast<VecInt>(p) + (power << 23));
#endif
}

UNROLLED_INLINE Vec round_nearest(Vec x) {
#if defined(__AVX512F__)
  return _mm512_roundscale_ps(x, 8);
#elif defined(__AVX2__)
  return _mm256_round_ps(x, 8);
#else
  const Vec magic = set1_vec(12582912.0f);  // adding it leaves no bits for a fraction
  return (x + magic) - magic;
#endif
}

// e^x, relative error 1e-7 if Exact, else 3e-6. x = (n + r) ln 2 with |r| <= 1/2; 2^r by its Taylor series.
template <bool Exact>
UNROLLED_INLINE Vec exp(Vec x) {
  x = clamp(x, -87.0f, 88.0f);
  const Vec log2e = set1_vec(1.44269504f);
  const Vec n = round_nearest(x * log2e);
  Vec r = fma_vec(x, log2e, -n);
  if constexpr (Exact) r = fma_vec(x, set1_vec(1.92596299e-8f), r);
  Vec p = set1_vec(Exact ? 1.54035304e-4f : 1.33335581e-3f);
  if constexpr (Exact) p = fma_vec(p, r, set1_vec(1.33335581e-3f));
  p = fma_vec(p, r, set1_vec(9.61812911e-3f));
  p = fma_vec(p, r, set1_vec(5.55041087e-2f));
  p = fma_vec(p, r, set1_vec(2.40226507e-1f));
  p = fma_vec(p, r, set1_vec(6.93147181e-1f));
  p = fma_vec(p, r, set1_vec(1.0f));
  return ldexp_vec(p, n);
}

template <bool Exact>
UNROLLED_INLINE Vec reciprocal(Vec x) {
#if defined(__AVX512F__)
  if constexpr (!Exact) {
    const Vec guess = _mm512_rcp14_ps(x);
    return guess * fma_vec(-x, guess, set1_vec(2.0f));
  }
#endif
  return set1_vec(1.0f) / x;
}

// 1 / (1 + e^(-slope x)). Not Exact: 3e-6 off, in 12 instructions. 2^z = 2^floor(z) p(z - floor(z)), and the
// processor's scaling takes the floor by itself; the polynomial is the best of degree four that is one at zero.
template <bool Exact>
UNROLLED_INLINE Vec sigmoid_scaled(Vec x, float slope) {
#if defined(__AVX512F__)
  if constexpr (!Exact) {
    const Vec z = _mm512_min_ps(_mm512_set1_ps(126.0f), x * set1_vec(-1.44269504f * slope));
    const Vec r = _mm512_reduce_ps(z, 1);
    Vec p = set1_vec(1.342679887e-2f);
    p = fma_vec(p, r, set1_vec(5.224224153e-2f));
    p = fma_vec(p, r, set1_vec(2.412803547e-1f));
    p = fma_vec(p, r, set1_vec(6.930448151e-1f));
    p = fma_vec(p, r, set1_vec(1.0f));
    return reciprocal<false>(set1_vec(1.0f) + ldexp_vec(p, z));
  }
#endif
  return reciprocal<Exact>(set1_vec(1.0f) + exp<Exact>(x * set1_vec(-slope)));
}

template <bool Exact>
UNROLLED_INLINE Vec sigmoid(Vec x) {
  return sigmoid_scaled<Exact>(x, 1.0f);
}

// tanh x = 2 sigmoid(2 x) - 1; near zero, where that cancels, an odd polynomial (Cephes).
template <bool Exact>
UNROLLED_INLINE Vec tanh(Vec x) {
  const Vec far = fma_vec(set1_vec(2.0f), sigmoid_scaled<Exact>(x, 2.0f), set1_vec(-1.0f));
  if constexpr (!Exact) return far;
  const Vec square = x * x;
  Vec p = set1_vec(-5.70498872745e-3f);
  p = fma_vec(p, square, set1_vec(2.06390887954e-2f));
  p = fma_vec(p, square, set1_vec(-5.37397155531e-2f));
  p = fma_vec(p, square, set1_vec(1.33314422036e-1f));
  p = fma_vec(p, square, set1_vec(-3.33332819422e-1f));
  const Vec near_zero = fma_vec(p * square, x, x);
  return square < set1_vec(0.390625f) ? near_zero : far;
}

// Sixteen floats.
struct Vec16 {
  Vec vec[kVecsPer16];
};

#define UNROLLED_FOR_EACH_VEC for (int i = 0; i < kVecsPer16; ++i)

UNROLLED_INLINE Vec16 set1(float value) {
  Vec16 out;
  UNROLLED_FOR_EACH_VEC out.vec[i] = set1_vec(value);
  return out;
}
UNROLLED_INLINE Vec16 load(const float* from) {
  Vec16 out;
  UNROLLED_FOR_EACH_VEC out.vec[i] = load_vec(from + i * kVecWidth);
  return out;
}
UNROLLED_INLINE void store(float* to, const Vec16& value) {
  UNROLLED_FOR_EACH_VEC store_vec(to + i * kVecWidth, value.vec[i]);
}
UNROLLED_INLINE Vec16 operator+(const Vec16& a, const Vec16& b) {
  Vec16 out;
  UNROLLED_FOR_EACH_VEC out.vec[i] = a.vec[i] + b.vec[i];
  return out;
}
UNROLLED_INLINE Vec16 operator-(const Vec16& a, const Vec16& b) {
  Vec16 out;
  UNROLLED_FOR_EACH_VEC out.vec[i] = a.vec[i] - b.vec[i];
  return out;
}
UNROLLED_INLINE Vec16 operator*(const Vec16& a, const Vec16& b) {
  Vec16 out;
  UNROLLED_FOR_EACH_VEC out.vec[i] = a.vec[i] * b.vec[i];
  return out;
}
UNROLLED_INLINE Vec16 fma(const Vec16& a, const Vec16& b, const Vec16& c) {
  Vec16 out;
  UNROLLED_FOR_EACH_VEC out.vec[i] = fma_vec(a.vec[i], b.vec[i], c.vec[i]);
  return out;
}
UNROLLED_INLINE Vec16 one_minus(const Vec16& a) {  // 1 - a
  Vec16 out;
  UNROLLED_FOR_EACH_VEC out.vec[i] = set1_vec(1.0f) - a.vec[i];
  return out;
}
UNROLLED_INLINE Vec16 max(const Vec16& a, const Vec16& b) {  // a where one of them is NaN
  Vec16 out;
  UNROLLED_FOR_EACH_VEC out.vec[i] = b.vec[i] > a.vec[i] ? b.vec[i] : a.vec[i];
  return out;
}
template <typename F>
UNROLLED_INLINE float reduce(const Vec16& a, F&& combine_pair) {  // in pairs, the same on every processor
  alignas(64) float all16[kLanes];
  for (int i = 0; i < kVecsPer16; ++i) store_vec(all16 + i * kVecWidth, a.vec[i]);
  for (int float16 = kLanes / 2; float16 > 0; float16 /= 2)
    for (int i = 0; i < float16; ++i) all16[i] = combine_pair(all16[i], all16[i + float16]);
  return all16[0];
}
UNROLLED_INLINE float reduce_add(const Vec16& a) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps(a.vec[0]);
#else
  return reduce(a, [](float x, float y) { return x + y; });
#endif
}
UNROLLED_INLINE float reduce_max(const Vec16& a) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps(a.vec[0]);
#else
  return reduce(a, [](float x, float y) { return x < y ? y : x; });
#endif
}
template <bool Exact>
UNROLLED_INLINE Vec16 exp(const Vec16& x) {
  Vec16 out;
  UNROLLED_FOR_EACH_VEC out.vec[i] = exp<Exact>(x.vec[i]);
  return out;
}
template <bool Exact>
UNROLLED_INLINE Vec16 sigmoid(const Vec16& x) {
  Vec16 out;
  UNROLLED_FOR_EACH_VEC out.vec[i] = sigmoid<Exact>(x.vec[i]);
  return out;
}
template <bool Exact>
UNROLLED_INLINE Vec16 tanh(const Vec16& x) {
  Vec16 out;
  UNROLLED_FOR_EACH_VEC out.vec[i] = tanh<Exact>(x.vec[i]);
  return out;
}

// Load and store the first `count` of 16 numbers; the others are zero.
UNROLLED_INLINE Vec16 load_partial(const float* from, int count) {
  if (count == kLanes) return load(from);
  alignas(64) float all16[kLanes] = {};
  std::memcpy(all16, from, sizeof(float) * static_cast<size_t>(count));
  return load(all16);
}
UNROLLED_INLINE void store_partial(float* to, const Vec16& value, int count) {
  if (count == kLanes) return store(to, value);
  alignas(64) float all16[kLanes];
  store(all16, value);
  std::memcpy(to, all16, sizeof(float) * static_cast<size_t>(count));
}

struct bfloat16 {  // the upper half of a float
  uint16_t bits;
};
struct float16 {  // IEEE half precision
  uint16_t bits;
};

template <typename T>
constexpr bool kIsFloat32 = sizeof(T) == 4;

UNROLLED_INLINE float to_float(bfloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float out;
  std::memcpy(&out, &bits, 4);
  return out;
}
UNROLLED_INLINE bfloat16 to_bfloat16(float value) {  // round to nearest, ties to even; NaN stays NaN
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if (value != value) return {static_cast<uint16_t>(bits >> 16 | 64)};
  return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

#if defined(__AVX512BF16__)
UNROLLED_INLINE Vec16 load(const bfloat16* from) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return {{reinterpret_cast<Vec>(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))}};
}
UNROLLED_INLINE __m256i to_bfloat16_vec(const Vec16& value) { return (__m256i)_mm512_cvtneps_pbh(value.vec[0]); }
UNROLLED_INLINE void store(bfloat16* to, const Vec16& value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), to_bfloat16_vec(value));
}
UNROLLED_INLINE Vec16 load_partial(const bfloat16* from, int count) {
  if (count == kLanes) return load(from);
  bfloat16 all16[kLanes] = {};
  std::memcpy(all16, from, 2 * static_cast<size_t>(count));
  return load(all16);
}
UNROLLED_INLINE void store_partial(bfloat16* to, const Vec16& value, int count) {
  if (count == kLanes) return store(to, value);
  bfloat16 all16[kLanes];
  store(all16, value);
  std::memcpy(to, all16, 2 * static_cast<size_t>(count));
}
UNROLLED_INLINE Vec16 load(const float16* from) {
  return {{_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)))}};
}
UNROLLED_INLINE void store(float16* to, const Vec16& value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph(value.vec[0], _MM_FROUND_TO_NEAREST_INT));
}
#endif

}  // namespace UNROLLED_ISA
}  // namespace unrolled
