// `unrolled.nn.kernels._native`: the hot loops, for the processor at hand.
#include <nanobind/stl/vector.h>

#include "bindings/arguments.hpp"
#include "isa/cpu_features.hpp"
#include "threads/parallel.hpp"

namespace unrolled {
void bind_around(nb::module_&);
void bind_ceilings(nb::module_&);
void bind_layer(nb::module_&);
void bind_portable(nb::module_&);
void bind_step(nb::module_&);
void bind_update(nb::module_&);
}  // namespace unrolled

NB_MODULE(_native, module) {
  using namespace unrolled;
  module.def("available_isas", [] {
    std::vector<std::string> names;
    for (int index = 0; index < kInstructionSetCount; ++index)
      if (kInstructionSets[index].present()) names.emplace_back(kInstructionSets[index].name);
    return names;
  });
  module.def("active_isa", [] { return std::string(active_isa()); });
  module.def("set_isa", [](const std::string& name) {
    require(set_isa(name.c_str()), "There is no such instruction set on this processor.");
  });
  module.def("adopt_openmp", [](const std::string& path) { return adopt_openmp(path.c_str()); });
  bind_around(module);
  bind_ceilings(module);
  bind_layer(module);
  bind_portable(module);
  bind_step(module);
  bind_update(module);
}
