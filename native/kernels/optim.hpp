// The norm of a gradient, and AdamW: m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2,
// w = w (1 - lr decay) - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + epsilon).
#pragma once

#include <cmath>

#include "args/optim_args.hpp"
#include "kernels/simd.hpp"
#include "threads/parallel.hpp"

namespace unrolled {
namespace UNROLLED_ISA {

// Calls `work` with (piece, tensor, first, last) for this thread's share of the pieces of all tensors.
template <typename Sizes, typename F>
static void for_each_block(const Sizes& size_of, int tensors, const ThreadContext& thread, F&& work) {
  size_t blocks = 0;
  for (int i = 0; i < tensors; ++i) blocks += (size_of(i) + kOptimBlock - 1) / kOptimBlock;
  int first, last, at = 0;
  static_range(static_cast<int>(blocks), thread, first, last);
  for (int i = 0; i < tensors; ++i)
    for (size_t from = 0; from < size_of(i); from += kOptimBlock, ++at)
      if (at >= first && at < last)
        work(at, i, from, from + kOptimBlock < size_of(i) ? from + kOptimBlock : size_of(i));
}

// The sum of the squares of each piece, in a place of its own: their sum is the same for any number of threads.
static void sum_of_squares(int threads, int tensors, const float* const* values, const size_t* sizes, double* sums) {
  parallel_region(threads, [&](const ThreadContext& thread) {
    for_each_block([&](int i) { return sizes[i]; }, tensors, thread,
                   [&](int block, int i, size_t from, size_t to) {
                     Vec16 sum = set1(0.0f);
                     for (size_t at = from; at < to; at += kLanes) {
                       const Vec16 value =
                           load_partial(values[i] + at, to - at < kLanes ? static_cast<int>(to - at) : kLanes);
                       sum = fma(value, value, sum);
                     }
                     sums[block] = reduce_add(sum);
                   });
  });
}

UNROLLED_INLINE Vec16 sqrt(const Vec16& a) {
  Vec16 out;
#if defined(__AVX512F__)
  out.vec[0] = _mm512_sqrt_ps(a.vec[0]);
#elif defined(__AVX2__)
  UNROLLED_FOR_EACH_VEC out.vec[i] = _mm256_sqrt_ps(a.vec[i]);
#else
  alignas(64) float all16[kLanes];
  store(all16, a);
  for (float& one : all16) one = std::sqrt(one);
  out = load(all16);
#endif
  return out;
}

UNROLLED_INLINE Vec16 divide(const Vec16& a, const Vec16& b) {
  Vec16 out;
  UNROLLED_FOR_EACH_VEC out.vec[i] = a.vec[i] / b.vec[i];
  return out;
}

static void adamw(const AdamW& a) {
  parallel_region(a.threads, [&](const ThreadContext& thread) {
    for_each_block(
        [&](int i) { return a.params[i].size; }, a.count, thread,
        [&](int, int i, size_t from, size_t to) {
          const AdamWParam& m = a.params[i];
          const Vec16 decay_factor = set1(1.0f - a.lr * m.decay), lr = set1(-a.lr / m.bias_correction1),
                      scale = set1(a.scale);
          const Vec16 bias_correction2 = set1(1.0f / std::sqrt(m.bias_correction2)), epsilon = set1(a.epsilon);
          const Vec16 new_mean = set1(1.0f - a.beta1), old_square = set1(a.beta2);
          const Vec16 new_square = set1(1.0f - a.beta2);
          for (size_t at = from; at < to; at += kLanes) {
            const int count = to - at < kLanes ? static_cast<int>(to - at) : kLanes;
            const Vec16 g = load_partial(m.gradient + at, count) * scale, before = load_partial(m.exp_avg + at, count);
            const Vec16 mean = fma(new_mean, g - before, before);
            const Vec16 square = fma(new_square * g, g, old_square * load_partial(m.exp_avg_sq + at, count));
            store_partial(m.exp_avg + at, mean, count);
            store_partial(m.exp_avg_sq + at, square, count);
            const Vec16 update = divide(mean, fma(sqrt(square), bias_correction2, epsilon));
            store_partial(m.weight + at, fma(lr, update, decay_factor * load_partial(m.weight + at, count)), count);
          }
        });
  });
}

}  // namespace UNROLLED_ISA
}  // namespace unrolled
