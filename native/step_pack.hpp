// Weights of a network into tiles: see step.hpp for their order.
#pragma once

#include "step.hpp"

namespace unrolled {

// Numbers that a product adds up: the units, padded as the precision asks.
int depth(const StepModel& model);

// Give a network whose sizes are known its memory, all zero.
void lay_out(StepModel& model);

// A layer's `weight` (G H, H) into its tiles.
void pack_gates(StepModel& model, Packed& matrix, const float* weight);

// The head's `weight` (V, H) into its tiles.
void pack_head(StepModel& model, const float* weight);

// Numbers of each gate and unit, `from` (G, H), in the order of the tiles.
void order_gates(const StepModel& model, const float* from, float* to);

}  // namespace unrolled
