"""Products with a matrix that never changes, in fewer bits: made once from a float32 layer, then only multiplied.

On a CPU with the instructions for it the matrix is also laid out as oneDNN wants it, once instead of in every call.
Inputs may be of any floating type; products come in bfloat16, sums in their last bits are float32's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_LARGEST_INT8 = 127.0
_SMALLEST_SCALE = 1e-12


class HalfProduct(nn.Module):
    """y = x W^T + b, with W, b and x rounded to bfloat16."""

    def __init__(self, linear: nn.Linear, packed: bool) -> None:
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


class ByteProduct(nn.Module):
    """y = x W^T + b; W in 8 bits with one scale per output, x in 8 bits with one scale per row, found as it comes."""

    weight: Tensor
    scale: Tensor

    def __init__(self, linear: nn.Linear, packed: bool) -> None:
        """`packed` changes nothing: whole numbers are multiplied as they lie."""
        super().__init__()
        weight = linear.weight.detach()
        scale = weight.abs().amax(1).clamp(min=_SMALLEST_SCALE) / _LARGEST_INT8
        self.register_buffer("scale", scale)  # [outputs]
        self.register_buffer("weight", (weight / scale[:, None]).round().to(torch.int8))
        self.bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, -2)
        scale = (rows.abs().amax(-1, keepdim=True).float() / _LARGEST_INT8).clamp(min=_SMALLEST_SCALE)  # [rows, 1]
        rounded = (rows / scale).round_().to(torch.int8)
        product = torch._int_mm(rounded, self.weight.T) * (scale * self.scale)
        if self.bias is not None:
            product += self.bias
        return product.bfloat16().unflatten(0, x.shape[:-1])  # type: ignore[no-any-return]
