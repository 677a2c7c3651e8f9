// What is done to weights and their gradients one by one: the length of a gradient, and AdamW's step.
#pragma once

#include <cmath>

#include "team.hpp"
#include "update.hpp"
#include "vector.hpp"

namespace unrolled {
namespace UNROLLED_SET {

// Calls `work` with (piece, tensor, first, last) for this thread's share of the pieces of all tensors.
template <typename Sizes, typename F>
static void each_piece(const Sizes& size_of, int tensors, const Place& place, F&& work) {
  size_t pieces = 0;
  for (int i = 0; i < tensors; ++i) pieces += (size_of(i) + kPiece - 1) / kPiece;
  int first, last, at = 0;
  share(static_cast<int>(pieces), place, first, last);
  for (int i = 0; i < tensors; ++i)
    for (size_t from = 0; from < size_of(i); from += kPiece, ++at)
      if (at >= first && at < last) work(at, i, from, from + kPiece < size_of(i) ? from + kPiece : size_of(i));
}

// The sum of the squares of each piece, in a place of its own: their sum is the same for any number of threads.
static void squares(int threads, int tensors, const float* const* values, const size_t* sizes, double* sums) {
  together(threads, [&](const Place& place) {
    each_piece([&](int i) { return sizes[i]; }, tensors, place, [&](int piece, int i, size_t from, size_t to) {
      Lanes sum = splat(0.0f);
      for (size_t at = from; at < to; at += kLanes) {
        const Lanes value = read_some(values[i] + at, to - at < kLanes ? static_cast<int>(to - at) : kLanes);
        sum = fma(value, value, sum);
      }
      sums[piece] = sum_of(sum);
    });
  });
}

UNROLLED_INLINE Lanes square_root(const Lanes& a) {
  Lanes out;
#if defined(__AVX512F__)
  out.part[0] = _mm512_sqrt_ps(a.part[0]);
#elif defined(__AVX2__)
  UNROLLED_EACH out.part[i] = _mm256_sqrt_ps(a.part[i]);
#else
  alignas(64) float all16[kLanes];
  write(all16, a);
  for (float& one : all16) one = std::sqrt(one);
  out = read(all16);
#endif
  return out;
}

UNROLLED_INLINE Lanes divided(const Lanes& a, const Lanes& b) {
  Lanes out;
  UNROLLED_EACH out.part[i] = a.part[i] / b.part[i];
  return out;
}

static void adamw(const AdamW& a) {
  together(a.threads, [&](const Place& place) {
    each_piece([&](int i) { return a.moved[i].size; }, a.count, place, [&](int, int i, size_t from, size_t to) {
      const Moved& m = a.moved[i];
      const Lanes keep = splat(1.0f - a.rate * m.decay), rate = splat(-a.rate / m.of_mean), scale = splat(a.scale);
      const Lanes of_square = splat(1.0f / std::sqrt(m.of_square)), epsilon = splat(a.epsilon);
      const Lanes new_mean = splat(1.0f - a.beta_mean), old_square = splat(a.beta_square);
      const Lanes new_square = splat(1.0f - a.beta_square);
      for (size_t at = from; at < to; at += kLanes) {
        const int count = to - at < kLanes ? static_cast<int>(to - at) : kLanes;
        const Lanes g = read_some(m.gradient + at, count) * scale, before = read_some(m.mean + at, count);
        const Lanes mean = fma(new_mean, g - before, before);
        const Lanes square = fma(new_square * g, g, old_square * read_some(m.square + at, count));
        write_some(m.mean + at, mean, count);
        write_some(m.square + at, square, count);
        const Lanes change = divided(mean, fma(square_root(square), of_square, epsilon));
        write_some(m.weight + at, fma(rate, change, keep * read_some(m.weight + at, count)), count);
      }
    });
  });
}

}  // namespace UNROLLED_SET
}  // namespace unrolled
