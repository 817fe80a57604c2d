"""What stands between two products, each written as one function: eager, or compiled into one pass over memory.

They take rows, of which there is one per position of every clip of a batch, so that compiled ones fit every length and
batch. Compiling needs a C++ compiler on a CPU, Triton on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def normed(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
    """Layer norm of the float32 residual [rows, E], in bfloat16."""
    return functional.layer_norm(x, x.shape[-1:], gamma, beta, eps).bfloat16()


def modulated(x: Tensor, gamma: Tensor, beta: Tensor, eps: float, scale: Tensor, shift: Tensor) -> Tensor:
    """`normed` [B, N, E], scaled and shifted by [B, 1, E]."""
    return (functional.layer_norm(x, x.shape[-1:], gamma, beta, eps) * (1 + scale) + shift).bfloat16()


def turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary positions of queries or keys in bfloat16 [rows, heads, head_dim] by [rows, 1, dims]; in float32."""
    dims = cosine.shape[-1]
    part, kept = x[..., :dims].float(), x[..., dims:]
    first, second = part.chunk(2, dim=-1)
    swapped = torch.cat([-second, first], dim=-1)
    return torch.cat([(part * cosine + swapped * sine).bfloat16(), kept], dim=-1)


def gated(wide: Tensor) -> Tensor:
    """value * SiLU(gate) of [rows, 2 D] -> [rows, D], rounded once."""
    value, gate = wide.float().chunk(2, dim=-1)
    return functional.silu(gate).mul_(value).bfloat16()


def quantised(x: Tensor) -> tuple[Tensor, Tensor]:
    """[rows, inputs] -> int8, and the scale of every row [rows, 1]."""
    scale = (x.abs().amax(-1, keepdim=True).float() / 127).clamp(min=1e-12)
    return (x / scale).round().to(torch.int8), scale


def restored(product: Tensor, row_scale: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """int32 [rows, outputs], scaled by row and by output, and moved by a bias, in bfloat16."""
    return torch.addcmul(bias, product * row_scale, scale).bfloat16()


def snake(x: Tensor, alpha: Tensor, inverse: Tensor) -> Tensor:
    """x + sin(alpha x)^2 / alpha of [rows, C] and [C]."""
    wave = (x * alpha).sin_()
    return torch.addcmul(x, wave.mul_(wave), inverse)


Kernel = Callable[..., Any]


@dataclass(frozen=True)
class Kernels:
    normed: Kernel = normed
    modulated: Kernel = modulated
    turned: Kernel = turned
    gated: Kernel = gated
    quantised: Kernel = quantised
    restored: Kernel = restored
    snake: Kernel = snake


EAGER = Kernels()


@dataclass
class KernelSet:
    """Those in use. Networks hold the set, so that eager kernels serve until compiled ones take their place."""

    current: Kernels = EAGER
