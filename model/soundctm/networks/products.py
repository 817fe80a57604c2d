"""Products with a matrix that never changes, in fewer bits: made once from a float32 layer, then only multiplied.

On a CPU with the instructions for it the matrix is also laid out as oneDNN wants it, once instead of in every call.
Inputs may be of any floating type; products come in bfloat16, `ExactProduct`'s in float32, and so are all sums.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundctm.networks.kernels import KernelSet

_LARGEST_INT8 = 127.0
_SMALLEST_SCALE = 1e-12


class Product(nn.Module):
    """y = x W^T + b, with W, b and x rounded to a floating type, that of the result."""

    dtype: torch.dtype

    def __init__(self, linear: nn.Linear, packed: bool, kernels: KernelSet | None = None) -> None:
        """It needs no kernels: what it multiplies is made by others."""
        super().__init__()
        weight = linear.weight.detach().to(self.dtype)
        # a matrix laid out anew is no tensor that a module counts
        self.weight_bytes = weight.numel() * weight.element_size()
        self.packed = packed
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight) if packed else weight
        self.bias = None if linear.bias is None else linear.bias.detach().to(self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype)
        if not self.packed:
            return functional.linear(x, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")  # type: ignore[no-any-return]


class HalfProduct(Product):
    dtype = torch.bfloat16


class ExactProduct(Product):
    """Packed or not; where it is not, the matrix is the layer's own, which may be mapped from a file."""

    dtype = torch.float32


class HalfGate(nn.Module):
    """value * SiLU(gate) of a product x W^T + b whose first half is the value, in bfloat16.

    Packed, function and multiplication are made of the sums in float32, before they are rounded: two roundings in place
    of three, and no pass over memory between products.
    """

    def __init__(self, linear: nn.Linear, packed: bool, kernels: KernelSet) -> None:
        super().__init__()
        self.packed, self.kernels = packed, kernels
        if not packed:
            self.both = HalfProduct(linear, packed)
            return
        weight = linear.weight.detach().bfloat16()
        self.weight_bytes = weight.numel() * weight.element_size()
        self.value, self.gate = (torch.ops.mkldnn._reorder_linear_weight(half) for half in weight.chunk(2))
        biases = (None, None) if linear.bias is None else linear.bias.detach().bfloat16().chunk(2)
        self.value_bias, self.gate_bias = biases

    def forward(self, x: Tensor) -> Tensor:
        if not self.packed:
            return _gated(self.both(x), self.kernels)
        x, multiplied = x.bfloat16(), torch.ops.mkldnn._linear_pointwise
        opened = multiplied(x, self.gate, self.gate_bias, "swish", [], "")
        return multiplied.binary(x, opened, self.value, self.value_bias, "mul")  # type: ignore[no-any-return]


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


class ByteGate(nn.Module):
    """value * SiLU(gate), as `HalfGate`, of a product in 8 bits."""

    def __init__(self, linear: nn.Linear, packed: bool, kernels: KernelSet) -> None:
        super().__init__()
        self.both, self.kernels = ByteProduct(linear, packed, kernels), kernels

    def forward(self, x: Tensor) -> Tensor:
        return _gated(self.both(x), self.kernels)


def _gated(wide: Tensor, kernels: KernelSet) -> Tensor:
    inner = kernels.current.gated(wide.flatten(0, -2))
    return inner.unflatten(0, wide.shape[:-1])  # type: ignore[no-any-return]
