// The instruction sets of this processor, and the kernels compiled for them.
#pragma once

namespace unrolled {

struct Kernels;

// The instruction sets that have kernels here, the plainest first: their names, and whether this processor has them.
struct InstructionSet {
  const char* name;
  bool (*present)();
  const Kernels* (*kernels)();
};

extern const InstructionSet kInstructionSets[];
extern const int kInstructionSetCount;

// The kernels in use: the best this processor has, or what `set_isa` named.
const Kernels& kernels();
const char* active_isa();
// Use the best set up to the one named ("" for the best); false if there is none of that name on this processor.
bool set_isa(const char* name);

}  // namespace unrolled
