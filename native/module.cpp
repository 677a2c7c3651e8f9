// `unrolled.nn.kernels._native`: the hot loops, for the processor at hand.
#include <nanobind/stl/vector.h>

#include "border.hpp"
#include "processor.hpp"
#include "team.hpp"

namespace unrolled {
void bind_around(nb::module_&);
void bind_ceilings(nb::module_&);
void bind_layer(nb::module_&);
void bind_step(nb::module_&);
void bind_update(nb::module_&);
}

NB_MODULE(_native, module) {
  using namespace unrolled;
  module.def("sets", [] {
    std::vector<std::string> names;
    for (int index = 0; index < kSetCount; ++index)
      if (kSets[index].present()) names.emplace_back(kSets[index].name);
    return names;
  });
  module.def("set_in_use", [] { return std::string(set_in_use()); });
  module.def("use_set", [](const std::string& name) {
    require(use_set(name.c_str()), "There is no such instruction set on this processor.");
  });
  module.def("adopt_openmp", [](const std::string& path) { return adopt_openmp(path.c_str()); });
  bind_around(module);
  bind_ceilings(module);
  bind_layer(module);
  bind_step(module);
  bind_update(module);
}
