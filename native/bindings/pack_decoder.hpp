// Weights of a network into tiles: see args/decoder_args.hpp for their order.
#pragma once

#include "args/decoder_args.hpp"

namespace unrolled {

// Numbers that a product adds up: the units, padded as the precision asks.
int padded_depth(const DecoderModel& model);

// Give a network whose sizes are known its memory, all zero.
void allocate_weights(DecoderModel& model);

// A layer's `weight` (G H, H) into its tiles.
void pack_gates(DecoderModel& model, PackedMatrix& matrix, const float* weight);

// The head's `weight` (V, H) into its tiles.
void pack_head(DecoderModel& model, const float* weight);

// Numbers of each gate and unit, `from` (G, H), in the order of the tiles.
void interleave_gates(const DecoderModel& model, const float* from, float* to);

}  // namespace unrolled
