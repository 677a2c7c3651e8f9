// The scratch memory of a thread: which kernel keeps what in which slot.
//
// Slots with the same number are never in use at the same time: they belong to kernels that run one after the other.
// Within one kernel all slots differ. The decoder has slots of its own numbers because it runs while no layer does.
#pragma once

namespace unrolled {

enum ScratchSlot {
  // rnn_forward.hpp, rnn_backward.hpp
  kScratchCarry = 0,       // what flows from step to step: an LSTM's c, a GRU's h, and their gradients
  kScratchInputSums = 1,   // forward: weight_ih x of some steps
  kScratchStateGrads = 1,  // backward: weight_hh^T dgates
  kScratchGateSums = 2,    // forward: weight_hh h of some units
  // linear_cross_entropy.hpp
  kScratchLogits = 0,  // logits of some rows, later the gradients of their inputs
  // gradient_gemm.hpp (float32)
  kScratchInputGradSums = 3,  // gradients of the inputs of some rows
  kScratchGatePanels = 4,     // some columns of dgates, packed
  kScratchSharedSources = 5,  // of the calling thread, for all: states and inputs of some rows, packed
  // gradient_gemm_bfloat16.hpp
  kScratchPackedSources = 3,   // states and inputs of some rows, packed
  kScratchGateColumns = 4,     // some columns of dgates, transposed
  kScratchWeightGradSums = 5,  // of the calling thread, for all: sums of the weights' gradients so far
  // muon.hpp
  kScratchMuon = 3,  // the matrices of one orthogonalization
  // decoder.hpp
  kScratchDecoderSums = 4,      // gate sums of some units
  kScratchDecoderNormed = 5,    // normalized rows
  kScratchDecoderSampling = 6,  // logits in double, probabilities and the order of tokens
  // portable_step.hpp
  kScratchPortable = 4,  // states, gates and odds of some rows
  kScratchSlotCount = 8,
};

}  // namespace unrolled
