"""Products with a matrix that never changes, in fewer bits: made once from a float32 layer, then only multiplied.

On a CPU with the instructions for it the matrix is also laid out as oneDNN wants it, once instead of in every call.
Inputs may be of any floating type; products come in bfloat16, sums in their last bits are float32's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundctm.networks.kernels import KernelSet

_LARGEST_INT8 = 127.0
_SMALLEST_SCALE = 1e-12


class HalfProduct(nn.Module):
    """y = x W^T + b, with W, b and x rounded to bfloat16."""

    def __init__(self, linear: nn.Linear, packed: bool, kernels: KernelSet | None = None) -> None:
        """It needs no kernels: what it multiplies is made by others."""
        super().__init__()
        weight = linear.weight.detach().bfloat16()
        self.weight_bytes = weight.numel() * weight.element_size()
        self.packed = packed
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight) if packed else weight
        self.bias = None if linear.bias is None else linear.bias.detach().bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        x = x.bfloat16()
        if not self.packed:
            return functional.linear(x, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")  # type: ignore[no-any-return]


class ExactProduct(nn.Module):
    """y = x W^T + b in float32, with the layer's own matrix."""

    def __init__(self, linear: nn.Linear, packed: bool, kernels: KernelSet | None = None) -> None:
        """The matrix is neither copied nor laid out anew: it may be mapped from a file."""
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.float())  # type: ignore[no-any-return]


class ByteProduct(nn.Module):
    """y = x W^T + b; W in 8 bits with one scale per output, x in 8 bits with one scale per row, found as it comes."""

    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, linear: nn.Linear, packed: bool, kernels: KernelSet) -> None:
        """`packed` changes nothing: whole numbers are multiplied as they lie."""
        super().__init__()
        weight = linear.weight.detach()
        scale = weight.abs().amax(1).clamp(min=_SMALLEST_SCALE) / _LARGEST_INT8
        self.kernels = kernels
        self.register_buffer("scale", scale)  # [outputs]
        self.register_buffer("weight", (weight / scale[:, None]).round().to(torch.int8))
        self.register_buffer("bias", torch.zeros_like(scale) if linear.bias is None else linear.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        rounded, row_scale = self.kernels.current.quantised(x.flatten(0, -2))
        product = torch._int_mm(rounded, self.weight.T)
        restored: Tensor = self.kernels.current.restored(product, row_scale, self.scale, self.bias)
        return restored.unflatten(0, x.shape[:-1])  # type: ignore[no-any-return]
