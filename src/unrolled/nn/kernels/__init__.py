"""Kernels: several implementations of the same recurrent loop, compared with the reference in outputs and gradients.

native      our C++ code for CPUs, if the extension was built
torch       torch's fused layers (oneDNN, cuDNN), for the cells that torch has
reference   `step` in a loop: the definition; any cell, any device, slow

`select` lists them and sets one on a model; `verify` compares their gradients with the reference on this machine, at the
sizes in use. `native_decoder` is the native step that draws samples.
"""
