"""Kernels compiled beside the work: eager ones serve until all are there, or go on where they cannot be had."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from soundctm.networks.kernels import EAGER, Kernel, Kernels, KernelSet
from soundctm.spec import BundleSpec, CodecKind, Conditioning

Compile = Callable[[Kernel], Kernel]
_log = logging.getLogger(__name__)
_ROWS = 37  # of a sample; the compiled kernel takes any number
_NEAR = 0.02  # of the largest value: two roundings of bfloat16


@dataclass
class Compiling:
    """Under way in a thread of its own. `problem` says why there are none; empty while they are made, and if they are
    in use."""

    problem: str = ""
    _done: threading.Event = field(default_factory=threading.Event)

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it is over, either way."""
        return self._done.wait(seconds)


def torch_compile(kernel: Kernel) -> Kernel:
    return torch.compile(kernel, dynamic=True)


def compile_kernels(
    kernels: KernelSet, spec: BundleSpec, device: torch.device, compile_kernel: Compile = torch_compile
) -> Compiling:
    """Compile what a bundle's networks need, compare each with the eager one, then put all in use at once."""
    compiling = Compiling()

    def work() -> None:
        try:
            kernels.current = compiled(spec, device, compile_kernel)
        except Exception as error:  # whatever a compiler, a driver or a full disk can raise
            compiling.problem = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
            _log.warning("no compiled kernels, eager ones go on serving: %s", compiling.problem)
        finally:
            compiling._done.set()

    threading.Thread(target=work, name="compiling kernels", daemon=True).start()
    return compiling


def compiled(spec: BundleSpec, device: torch.device, compile_kernel: Compile) -> Kernels:
    """Each is compiled by its first call. Raises whatever the compiler does, ArithmeticError for one that is wrong."""
    found = Kernels(**{name: compile_kernel(kernel) for name, kernel in vars(EAGER).items()})
    with torch.inference_mode():  # as they will be called: otherwise they would be compiled again
        for name, inputs in samples(spec, device):
            wanted, told = (_first(getattr(made, name)(*inputs)) for made in (EAGER, found))
            error = float((wanted - told).abs().max())
            if not error <= _NEAR * float(wanted.abs().max()):
                raise ArithmeticError(f"the compiled {name} is off by {error:.3g}")
    return found


def _first(made: Any) -> Tensor:
    """Of a kernel that gives several tensors: the others scale this one."""
    tensor: Tensor = made[0] if isinstance(made, tuple) else made
    return tensor.float()


def samples(spec: BundleSpec, device: torch.device) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Inputs of every kernel, in every form that needs code of its own."""
    network, random = spec.network, torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random).to(device)

    def weight(size: int, dtype: torch.dtype = torch.float32) -> Tensor:
        with torch.inference_mode(False):  # weights are not made in it: code for those that are would not fit them
            return torch.linspace(0.5, 1.5, size, device=device).to(dtype)

    dim, heads = network.embed_dim, network.num_heads
    gamma, beta = nn.Parameter(weight(dim), requires_grad=False), weight(dim)
    if network.conditioning is Conditioning.PREPENDED_TOKEN or spec.text.max_tokens > 1:
        yield "normed", (normal(_ROWS, dim), gamma, beta, 1e-5)
    if network.conditioning is Conditioning.ADAPTIVE_NORM:
        for batch in (1, 2):
            scale, shift = normal(batch, 6 * dim)[:, None].chunk(6, dim=-1)[:2]
            yield "modulated", (normal(batch, _ROWS, dim), gamma, beta, 1e-5, scale, shift)
    queries = normal(_ROWS, 3, heads, dim // heads).bfloat16().unbind(1)[0]
    turn = max(dim // heads // 2, 32)
    yield "turned", (queries, normal(_ROWS, 1, turn).cos(), normal(_ROWS, 1, turn).sin())
    product = (1000 * normal(_ROWS, 3 * dim)).int()
    yield "quantised", (normal(_ROWS, dim).bfloat16(),)
    yield "restored", (product, normal(_ROWS, 1).abs(), weight(3 * dim), weight(3 * dim))
    yield "gated", (normal(_ROWS, 2 * network.feed_forward_mult * dim).bfloat16(),)
    if spec.codec.kind is CodecKind.GAUSSIAN_DAC:
        width = int(spec.codec.options["decoder_dim"])
        for level in range(len(spec.codec.options["decoder_rates"]) + 1):
            alphas = weight(width >> level, torch.bfloat16), weight(width >> level, torch.bfloat16)
            yield "snake", (normal(_ROWS, width >> level).bfloat16(), *alphas)
