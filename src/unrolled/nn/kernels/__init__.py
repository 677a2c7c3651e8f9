"""Kernels: several implementations of the same recurrent loop, compared with the reference in outputs and gradients.

native      our C++ code for CPUs, if the extension was built
torch       torch's fused layers (oneDNN, cuDNN), for the cells that torch has
reference   `step` in a loop: the definition; any cell, any device, slow

`select` lists them, compares their gradients with the reference on this machine, at the sizes in use, and sets one on a model.
`native_decoder` draws samples.
"""
