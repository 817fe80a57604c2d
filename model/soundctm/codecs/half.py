"""The Gaussian DAC's decoder for inference: bfloat16, convolutions in two dimensions with the channels last.

A signal is an image of height 1. With the channels last a convolution is a product of matrices without a copy, and a
transposed one, whose every output sample hears two inputs, is a convolution of 2 with as many outputs per input as its
stride: they lie in memory in the order of the samples.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundctm.codecs.dac import Decoder, DecoderBlock, ResidualUnit, Snake
from soundctm.networks.kernels import KernelSet


class HalfSnake(nn.Module):
    def __init__(self, snake: Snake, kernels: KernelSet) -> None:
        super().__init__()
        alpha = snake.alpha.detach().flatten()
        self.kernels = kernels
        self.register_buffer("alpha", alpha.bfloat16())
        self.register_buffer("inverse", (alpha + 1e-9).reciprocal().bfloat16())

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, 1, T], of which the channels lie last in memory."""
        places = x.permute(0, 2, 3, 1)
        waved: Tensor = self.kernels.current.snake(places.flatten(0, 2), self.alpha, self.inverse)
        return waved.view(places.shape).permute(0, 3, 1, 2)


class HalfConvolution(nn.Module):
    """[B, C, 1, T] -> [B, outputs, 1, T]."""

    weight: Tensor
    bias: Tensor

    def __init__(self, convolution: nn.Conv1d) -> None:
        super().__init__()
        self.padding, self.dilation = int(convolution.padding[0]), convolution.dilation[0]
        self.register_buffer("weight", _image_weight(convolution.weight))
        self.register_buffer("bias", cast(Tensor, convolution.bias).detach().bfloat16())

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight, self.bias, 1, (0, self.padding), (1, self.dilation))


class HalfUpsampling(nn.Module):
    """A transposed convolution of 2 strides: [B, C, 1, T] -> [B, outputs, 1, T * stride], one less where it is odd."""

    weight: Tensor
    bias: Tensor

    def __init__(self, up: nn.ConvTranspose1d) -> None:
        super().__init__()
        self.stride, self.trimmed = up.stride[0], int(up.padding[0])
        # output sample stride * t + r hears input t through tap r and input t - 1 through tap stride + r
        taps = up.weight.detach().unflatten(2, (2, self.stride))  # [inputs, outputs, 2, stride]
        phases = taps.flip(2).permute(3, 1, 0, 2).flatten(0, 1)   # [stride * outputs, inputs, 2]
        self.register_buffer("weight", _image_weight(phases))
        self.register_buffer("bias", cast(Tensor, up.bias).detach().bfloat16().repeat(self.stride))

    def forward(self, x: Tensor) -> Tensor:
        phases = functional.conv2d(x, self.weight, self.bias, 1, (0, 1))  # [B, stride * outputs, 1, T + 1]
        batch, _, _, length = phases.shape
        rows = phases.permute(0, 2, 3, 1).reshape(batch, 1, length * self.stride, -1)
        return rows[:, :, self.trimmed : rows.shape[2] - self.trimmed].permute(0, 3, 1, 2)


class HalfResidual(nn.Module):
    def __init__(self, unit: ResidualUnit, kernels: KernelSet) -> None:
        super().__init__()
        self.block = _sequence(unit.block, kernels)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x).add_(x)  # type: ignore[no-any-return]


class _Enter(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, None].to(torch.bfloat16, memory_format=torch.channels_last)


class _Leave(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, 0].float()


class HalfDecoder(nn.Module):
    """In the place of `Decoder`: float32 [B, inputs, T] -> float32 [B, 1, samples]."""

    def __init__(self, decoder: Decoder, kernels: KernelSet) -> None:
        super().__init__()
        first, *middle, last = (_sequence(stage, kernels) for stage in decoder.stages())
        *before, tanh = last
        last = nn.Sequential(*before, _Leave(), tanh)  # tanh in float32
        self.model = nn.ModuleList([nn.Sequential(_Enter(), first), *middle, last])

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.model:
            x = stage(x)
        return x

    def stages(self) -> list[nn.Module]:
        return list(self.model)


def _sequence(module: nn.Module, kernels: KernelSet) -> nn.Sequential:
    parts = module.block if isinstance(module, DecoderBlock) else module
    listed = list(parts) if isinstance(parts, nn.Sequential) else [parts]
    return nn.Sequential(*(_half(part, kernels) for part in listed))


def _half(module: nn.Module, kernels: KernelSet) -> nn.Module:
    if isinstance(module, Snake):
        return HalfSnake(module, kernels)
    if isinstance(module, nn.Conv1d):
        return HalfConvolution(module)
    if isinstance(module, nn.ConvTranspose1d):
        return HalfUpsampling(module)
    return HalfResidual(module, kernels) if isinstance(module, ResidualUnit) else module


def _image_weight(weight: Tensor) -> Tensor:
    """[outputs, inputs, taps] -> [outputs, inputs, 1, taps], channels last."""
    return weight.detach()[:, :, None].to(torch.bfloat16, memory_format=torch.channels_last)
