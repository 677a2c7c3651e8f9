"""Orthogonal matrices near given ones, as Muon needs them: Polar Express (Amsel et al. 2025, arXiv:2505.16932)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from unrolled.nn.device import has_fast_bfloat16
from unrolled.nn.kernels.extension import native_module, padded_size

POLAR_EXPRESS = ((8.2872, -23.5959, 17.3004), (4.1071, -2.9478, 0.5448), (3.9487, -2.9089, 0.5518))
"""Coefficients of x, x^3 and x^5 in each step: the best for the singular values that the last step left (Amsel et al. 2025).

These three steps do no worse than the five equal steps of the first Muon, at three fifths of the cost (benchmarks/LOG.md).
"""

NORM_MARGIN = 1.02
"""Keeps the largest singular value below one where bfloat16 rounds up."""

MIN_BFLOAT16_SIZE = 32
"""Smaller matrices are not computed in bfloat16: their largest singular value is near one, where the first polynomial cancels.
Of 1,200 random matrices of 8 x 8 it came out at up to 2.8 instead of 1.87, by torch's products too; in float32 it does not."""


def polar_express(matrices: Tensor) -> Tensor:
    """Return the nearest orthogonal matrix of each of `(N, H, H)`, roughly: singular values are 0.2 to 1.9, most near 1.

    It is computed and returned in bfloat16 where that is fast and exact enough, else in float32.
    """
    native = native_module()
    if native is not None and matrices.device.type == "cpu":
        return _native_polar_express(matrices, native)
    x = matrices.to(torch.bfloat16 if has_fast_bfloat16(matrices.device) else torch.float32)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * NORM_MARGIN + 1e-7)
    for a, b, c in POLAR_EXPRESS:
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x


def _native_polar_express(matrices: Tensor, native: Any) -> Tensor:
    """Return what `polar_express` returns by products that have the same bits for any number of threads, as torch's do not."""
    size, padded = matrices.shape[-1], padded_size(matrices.shape[-1])
    x = functional.pad(matrices.float(), (0, padded - size) * 2).contiguous()
    if size >= MIN_BFLOAT16_SIZE and native.has_polar_express(padded):
        orthogonal = torch.empty(x.shape, dtype=torch.bfloat16)
        native.polar_express(x, torch.tensor(POLAR_EXPRESS), NORM_MARGIN, orthogonal, torch.get_num_threads())
        return orthogonal[:, :size, :size]
    norms = torch.tensor([native.grad_norm([matrix], 1) for matrix in x])
    x = x / (norms[:, None, None] * NORM_MARGIN + 1e-7)
    for a, b, c in POLAR_EXPRESS:
        transposed = x.mT.contiguous()
        square = _transposed_products(transposed, transposed, native)
        polynomial = square.mul(b).add_(_transposed_products(square, square, native), alpha=c)  # symmetric, as square is
        x = x.mul(a).add_(_transposed_products(polynomial, x, native))
    return x[:, :size, :size]


def _transposed_products(left: Tensor, right: Tensor, native: Any) -> Tensor:
    """Return `left[n].T @ right[n]` for `(N, H, H)`, H a multiple of 32."""
    products, threads = torch.empty_like(right), torch.get_num_threads()
    for a, b, product in zip(left, right, products, strict=True):
        native.weight_gradients(0, threads, len(a), a[None], b[None], product, None, None)
    return products
