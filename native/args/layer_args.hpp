// Arguments of the kernels of a recurrent layer. All memory belongs to the caller; sizes were checked by the bindings.
//
//   T steps   B rows   H units, Hp padded to 32   G gates   I inputs, padded to 32   V symbols
//
// Weights are packed as gemm.hpp says, a tile for each 16 units of each gate: tile = (unit / 16) * G + gate.
#pragma once

#include <cstddef>
#include <cstdint>

namespace unrolled {

enum CellKind { kRNN = 0, kGRU = 1, kLSTM = 2 };

// Gates in the products; numbers a unit saves for the way back; blocks of gradients, where a GRU's gate n has two
// sides.
constexpr int gate_count(int kind) { return kind == kRNN ? 1 : kind == kGRU ? 3 : 4; }
constexpr int saved_count(int kind) { return kind == kRNN ? 1 : kind == kGRU ? 5 : 6; }
constexpr int grad_block_count(int kind) { return kind == kRNN ? 1 : 4; }

// A sum over rows is cut into parts, which are added up in their order afterwards. The parts follow from the number of
// rows alone: so sums have the same bits whatever the number of threads. A part belongs to one thread.
struct RowParts {
  int rows, unit, count;  // a part is a multiple of `unit` rows
  RowParts(int total_rows, int unit_rows, int max_count)
      : rows(total_rows), unit(unit_rows), count((total_rows + unit_rows - 1) / unit_rows) {
    count = count < max_count ? count : max_count;
  }
  // The first row of a part; that of the part after the last is the number of rows.
  int begin(int part) const {
    const long blocks = (rows + unit - 1) / unit;
    const int row = static_cast<int>(blocks * part / count) * unit;
    return row < rows ? row : rows;
  }
};

// Of the rows of a batch, which a layer's threads may share.
inline RowParts batch_parts(int rows) { return {rows, 16, 8}; }

// Of the rows of all steps.
inline RowParts step_parts(int rows) { return {rows, 64, 32}; }

// `row_slices` is how many threads share the rows, each with all units; 1 if they share the units instead, see
// kernels/rnn_layer.hpp. A slice is one or more of the parts of the batch.
struct LayerShape {
  int kind, steps, rows, units, padded_units, threads, row_slices;
  int groups() const { return padded_units / 16; }
  RowParts parts() const { return batch_parts(rows); }
};

// Numbers named T are floats or, in the bfloat16 kernels, bfloat16; numbers named S are floats or half precision.
struct LayerForward {
  LayerShape shape;
  const void* xs;             // T (T, B, stride_x), or null: then
  size_t xs_stride;           //
  int padded_inputs;          //
  const int64_t* ids;         // (T, B) rows of
  const float* table;         // (V, G, Hp), the products of the inputs with the weights
  const void* weight_ih;      // T, packed, `padded_inputs` deep
  const void* weight_hh;      // T, packed, Hp deep
  const float* bias;          // (G, Hp), and a GRU's bias inside the reset gate behind it
  const uint8_t* resets;      // (T, B) or null
  const float* h_0;           // (B, H)
  const float* c_0;           // (B, H), LSTM
  const float* dropout_mask;  // (B, H) or null: what outputs are multiplied by
  const float* residual;      // (T, B, H), or (V, H) rows that ids pick, or null: what is added to them then
  void* hs;                   // T (T + 1, B, stride_h): what enters each step, zero where it is reset
  size_t hs_stride;           //
  void* saved_activations;    // S (T, Hp / 16, B, slots, 16), or null if there is no way back
  float* ys;                  // (T, B, H): h, or below + mask h
  float* h_n;                 // (B, H)
  float* c_n;                 // (B, H), LSTM
};

struct LayerBackward {
  LayerShape shape;
  const void* weight_transposed;  // T, weight_h packed with the gates as depth: G Hp deep, a tile for each 16 units
  const uint8_t* resets;          // (T, B) or null
  const void* saved_activations;  // as above
  const float* dropout_mask;      // as above
  const float* dys;               // (T, B, H)
  const float* dh_n;              // (B, H)
  const float* dc_n;              // (B, H), LSTM
  const int64_t* ids;             // (T, B) or null
  float* dtable;                  // (batch_parts, V, G, Hp), zero at first, or null
  float* dresidual;               // (batch_parts, V, Hp), zero at first, or null
  size_t vocab_size;              // V
  void* dgates;                   // T (T, B, stride_g): LSTM i f g o; GRU n (state's side) r z n (input's side)
  size_t dgates_stride;           //
  float* dbias;                   // (batch_parts, blocks, Hp), in that order
  float* dh_0;                    // (B, H)
  float* dc_0;                    // (B, H), LSTM
};

// The products over all steps that give the gradients of weights: dgates (rows, stride_g)^T times what entered the
// steps. Rows are T B; columns of dgates that belong to a source are `first` to `last`, multiples of 32.
struct GradSource {
  const void* values;  // T (rows, stride), the first `width` of which count, a multiple of 32
  size_t stride, width;
  int first, last;
  float* gradient;  // (last - first, width)
};

struct WeightGradients {
  int threads;
  size_t rows, dgates_stride;
  const void* dgates;
  int source_count;
  GradSource sources[2];  // the state, and perhaps the inputs
};

// Gradients of the inputs: dinputs (rows, width) = dgates[:, first:] times weight_x, packed with the gates as depth.
struct InputGradients {
  int threads;
  size_t rows, dgates_stride, width;
  int first, depth;
  const void *dgates, *weight_transposed;
  float* dinputs;
};

// The products of some inputs with a layer's weights, as the table that a forward pass picks from.
struct InputProducts {
  LayerShape shape;       // its rows are those of the inputs
  const void* xs;         // T (B, stride_x)
  size_t xs_stride;       //
  int padded_inputs;      //
  const void* weight_ih;  // T, packed
  float* table;           // (B, G, Hp)
};

// Layer normalization of the rows of all steps, as a layer's inputs: `output` is laid out as `xs` of a layer.
struct NormForward {
  int threads;
  size_t rows;  // N, of all steps
  int units;
  float epsilon;
  const float *input, *weight, *bias;  // (N, H), (H,), (H,)
  void* output;                        // T (N, stride)
  size_t stride;                       // units up to it are zero
  float* moments;                      // (N, 2): mean, and one over the deviation
};

// Backward: dinput = dys (the residual path) + the gradient of the normalized rows through LayerNorm.
struct NormBackward {
  int threads;
  size_t rows;  // N, of all steps
  int units;
  const float *input, *moments, *weight;
  const float* doutput;  // (N, stride)
  size_t stride;         //
  const float* dys;      // (N, H)
  float* dinput;         // (N, H)
  float* dweights;       // (step_parts, 2, H), zero at first: of weight and bias
};

// Linear scores of V symbols, padded to 32, and their cross-entropy with targets; all gradients in the same pass.
struct LinearCrossEntropy {
  int threads;
  size_t rows;  // N
  int units, padded_units, vocab_size, padded_vocab;
  const float* xs;                         // (N, H)
  const void *weight, *weight_transposed;  // T, packed: Hp deep, and Vp deep
  const float* bias;                       // (Vp,), far below zero where there is no symbol
  const int64_t* targets;                  // (N,), below zero where there is none
  float scale;                             // of the gradients
  void* xs_padded;                         // T (N, stride_x): xs
  size_t xs_stride;                        //
  void* dlogits;                           // T (N, stride_d)
  size_t dlogits_stride;                   //
  float* losses;                           // (N,), in nats; zero without a target
  float* dxs;                              // (N, H)
  float* dbias;                            // (step_parts, Vp), zero at first
};

}  // namespace unrolled
