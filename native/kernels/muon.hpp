// Muon: the nearest orthogonal matrix of each square block of a momentum, by odd polynomials of degree five in
// bfloat16: X <- a X + (b S + c S S) X with S = X X^T.
//
// torch's batched product of such squares leaves the tile registers of AMX waiting, and its bits depend on the number
// of threads; here a thread keeps one square in its cache from its gradient to its direction. Products are in bfloat16
// with sums in float32, as torch's are.
#pragma once

#include "kernels/gradient_gemm_bfloat16.hpp"
#include "kernels/optim.hpp"

#if defined(__AVX512BF16__)
namespace unrolled {
namespace UNROLLED_ISA {

// A thread's room for one square of H rows: matrices of rows `lda` apart, one packed as columns, and sums of some rows
// in tiles of 16 columns, which stay in the first-level cache.
struct PolarWorkspace {
  static constexpr int kBlockRows = 32;
  int H;
  size_t lda;
  bfloat16 *x, *gram, *factor, *packed;
  float* sums;

  // Sums of `kBlockRows` rows of a times what is packed, from a column on, and of one row and 16 columns of them.
  void multiply(const bfloat16* a, int row, int column) const {
    gemm(a + row * lda, lda, kBlockRows, H, packed + static_cast<size_t>(column) * H, (H - column) / kLanes,
         sums_at(0, column), kBlockRows * kLanes);
  }
  float* sums_at(int row, int column) const { return sums + (static_cast<size_t>(column) * kBlockRows + row * kLanes); }
};

static PolarWorkspace make_workspace(int H) {
  const size_t lda = H + 32, matrix = H * lda * sizeof(bfloat16),
               packed = static_cast<size_t>(H) * H * sizeof(bfloat16);
  auto* memory = static_cast<char*>(
      thread_scratch(kScratchMuon, 3 * matrix + packed + PolarWorkspace::kBlockRows * H * sizeof(float)));
  const auto at = [&](size_t offset) { return reinterpret_cast<bfloat16*>(memory + offset); };
  return {H,
          lda,
          at(0),
          at(matrix),
          at(2 * matrix),
          at(3 * matrix),
          reinterpret_cast<float*>(memory + 3 * matrix + packed)};
}

// to = scale from + more a p, rounded, where p is what is packed and both sides are symmetric: the blocks from the
// diagonal on are made, and turned. `from` may be nothing.
static void multiply_add_symmetric(const PolarWorkspace& workspace, const bfloat16* a, float scale,
                                   const bfloat16* from, float beta, bfloat16* to) {
  for (int first = 0; first < workspace.H; first += PolarWorkspace::kBlockRows) {
    workspace.multiply(a, first, first);
    for (int column = first; column < workspace.H; column += kLanes)
      for (int row = 0; row < PolarWorkspace::kBlockRows; row += kLanes) {
        __m512i words[kLanes];
        for (int i = 0; i < kLanes; ++i) {
          const size_t at = (first + row + i) * workspace.lda + column;
          Vec16 value = set1(beta) * load(workspace.sums_at(row + i, column));
          if (from != nullptr) value = fma(set1(scale), load(from + at), value);
          store(to + at, value);
          words[i] = _mm512_castps_si512(value.vec[0]);
        }
        if (column < first + PolarWorkspace::kBlockRows) continue;
        transpose_words(words);
        for (int i = 0; i < kLanes; ++i)
          store(to + (column + i) * workspace.lda + first + row, Vec16{{reinterpret_cast<Vec>(words[i])}});
      }
  }
}

// to = scale to + a p, rounded, where p is what is packed.
static void multiply_add(const PolarWorkspace& workspace, const bfloat16* a, float scale, bfloat16* to) {
  for (int first = 0; first < workspace.H; first += PolarWorkspace::kBlockRows) {
    workspace.multiply(a, first, 0);
    for (int row = 0; row < PolarWorkspace::kBlockRows; ++row)
      for (int column = 0; column < workspace.H; column += kLanes) {
        bfloat16* at = to + (first + row) * workspace.lda + column;
        store(at, fma(set1(scale), load(at), load(workspace.sums_at(row, column))));
      }
  }
}

static void pack_columns_from(const PolarWorkspace& workspace, const bfloat16* from) {
  for (int n = 0; n < workspace.H; n += kLanes)
    pack_pairs(from + n, workspace.lda, workspace.H, workspace.H,
               workspace.packed + static_cast<size_t>(n) * workspace.H);
}

// The same of what is `from` turned: pairs of numbers along its rows.
static void pack_rows_from(const PolarWorkspace& workspace, const bfloat16* from) {
  for (int n = 0; n < workspace.H; n += kLanes)
    for (int k = 0; k < workspace.H; k += 32) {
      __m512i words[16];
      for (int i = 0; i < 16; ++i) words[i] = _mm512_loadu_si512(from + (n + i) * workspace.lda + k);
      transpose_words(words);
      bfloat16* tile = workspace.packed + static_cast<size_t>(n) * workspace.H + static_cast<size_t>(k) * kLanes;
      for (int i = 0; i < 16; ++i) _mm512_storeu_si512(tile + i * 32, words[i]);
    }
}

// Leaves what it found in `workspace.x`.
static void orthogonalize(const PolarExpress& a, const PolarWorkspace& workspace, const float* from) {
  const int H = workspace.H;
  double total = 0.0;
  for (int row = 0; row < H; ++row) {
    Vec16 sum = set1(0.0f);
    for (int column = 0; column < H; column += kLanes) {
      const Vec16 value = load(from + static_cast<size_t>(row) * H + column);
      sum = fma(value, value, sum);
    }
    total += reduce_add(sum);
  }
  const float scale = 1.0f / (static_cast<float>(__builtin_sqrt(total)) * a.margin + 1e-7f);
  for (int row = 0; row < H; ++row)
    for (int column = 0; column < H; column += kLanes)
      store(workspace.x + row * workspace.lda + column,
            set1(scale) * load(from + static_cast<size_t>(row) * H + column));
  for (int step = 0; step < a.steps; ++step) {
    const float* c = a.coefficients + 3 * step;
    pack_rows_from(workspace, workspace.x);
    multiply_add_symmetric(workspace, workspace.x, 0.0f, nullptr, 1.0f, workspace.gram);  // x x^T
    pack_columns_from(workspace, workspace.gram);
    multiply_add_symmetric(workspace, workspace.gram, c[1], workspace.gram, c[2], workspace.factor);  // b s + c s s
    pack_columns_from(workspace, workspace.x);
    multiply_add(workspace, workspace.factor, c[0], workspace.x);  // a x + (b s + c s s) x
  }
}

static void copy_result(const PolarWorkspace& workspace, void* to, int index) {
  auto* gram = static_cast<bfloat16*>(to) + static_cast<size_t>(index) * workspace.H * workspace.H;
  for (int row = 0; row < workspace.H; ++row)
    std::memcpy(gram + static_cast<size_t>(row) * workspace.H, workspace.x + row * workspace.lda,
                workspace.H * sizeof(bfloat16));
}

static void polar_express(const PolarExpress& a) {
  parallel_region(a.threads, [&](const ThreadContext& thread) {
    AmxTileConfig registers;
    const PolarWorkspace workspace = make_workspace(a.size);
    const size_t matrix_size = static_cast<size_t>(a.size) * a.size;
    parallel_for(thread, a.matrices, [&](int index) {
      orthogonalize(a, workspace, a.from + index * matrix_size);
      copy_result(workspace, a.to, index);
    });
  });
}

// Leaves the direction in `workspace.x`.
static void muon_direction(const Muon& a, const PolarWorkspace& workspace, const float* gradient, float* exp_avg) {
  const size_t count = static_cast<size_t>(workspace.H) * workspace.H;
  const Vec16 scale = set1(a.scale), new_fraction = set1(1.0f - a.momentum);
  auto* nesterov =
      reinterpret_cast<float*>(workspace.gram);  // of the momentum, as Nesterov's; the room is not needed yet
  for (size_t at = 0; at < count; at += kLanes) {
    const Vec16 g = load(gradient + at) * scale, before = load(exp_avg + at);
    const Vec16 m = fma(new_fraction, g - before, before);
    store(exp_avg + at, m);
    store(nesterov + at, fma(new_fraction, g - m, m));
  }
  orthogonalize(a.polar_express, workspace, nesterov);
}

static void apply_update(const Muon& a, const PolarWorkspace& workspace, float* weight) {
  const Vec16 decay_factor = set1(a.decay_factor), lr = set1(-a.lr);
  for (int row = 0; row < workspace.H; ++row)
    for (int column = 0; column < workspace.H; column += kLanes) {
      float* to = weight + static_cast<size_t>(row) * workspace.H + column;
      store(to, fma(lr, load(workspace.x + row * workspace.lda + column), decay_factor * load(to)));
    }
}

static void muon(const Muon& a) {
  parallel_region(a.polar_express.threads, [&](const ThreadContext& thread) {
    AmxTileConfig registers;
    const PolarWorkspace workspace = make_workspace(a.polar_express.size);
    parallel_for(thread, a.polar_express.matrices, [&](int i) {
      muon_direction(a, workspace, a.gradients[i], a.exp_avgs[i]);
      if (a.polar_express.to != nullptr)
        copy_result(workspace, a.polar_express.to, i);
      else
        apply_update(a, workspace, a.weights[i]);
    });
  });
}

static void apply_updates(const ApplyUpdates& a) {
  parallel_region(a.threads, [&](const ThreadContext& thread) {
    const Vec16 decay_factor = set1(a.decay_factor), lr = set1(a.lr);
    for_each_block([&](int i) { return a.sizes[i]; }, a.count, thread,
                   [&](int, int i, size_t from, size_t to) {
                     for (size_t at = from; at < to; at += kLanes) {
                       const int count = to - at < kLanes ? static_cast<int>(to - at) : kLanes;
                       const Vec16 before = load_partial(a.weights[i] + at, count);
                       const Vec16 direction = load_partial(static_cast<const bfloat16*>(a.directions[i]) + at, count);
                       store_partial(a.weights[i] + at, fma(lr, direction, decay_factor * before), count);
                     }
                   });
  });
}

}  // namespace UNROLLED_ISA
}  // namespace unrolled
#endif
