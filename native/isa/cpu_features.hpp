// The instruction sets of this processor, and the kernels compiled for them.
#pragma once

#include "args/portable_args.hpp"

namespace unrolled {

struct Kernels;

// The instruction sets that have kernels here, the plainest first: their names, whether this processor has them, and
// the kernels; those of the portable step are compiled on their own, without fused operations.
struct InstructionSet {
  const char* name;
  bool (*present)();
  const Kernels* (*kernels)();
  PortableRun portable;
};

extern const InstructionSet kInstructionSets[];
extern const int kInstructionSetCount;

// The kernels in use: the best this processor has, or what `set_isa` named.
const Kernels& kernels();
PortableRun portable_run();
const char* active_isa();
// Use the best set up to the one named ("" for the best); false if there is none of that name on this processor.
bool set_isa(const char* name);

}  // namespace unrolled
