"""What this machine can do at best: products of matrices, and what they would take of a model."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from full_size import Sizes
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from soundctm.codecs.dac import GaussianDAC
from soundctm.networks.dit import DiT
from soundctm.networks.half import HalfProduct

_ROUNDS = 5


@dataclass(frozen=True)
class Peaks:
    """Floating-point operations per second of the largest product of a layer, by precision."""

    fp32: float
    bf16: float
    int8: float


def clock(threads: int) -> Callable[[], float]:
    """One thread counts its own seconds, so that others on the machine count less; several can only be timed by a
    clock on the wall."""
    return time.thread_time if threads == 1 else time.perf_counter


def best(run: Callable[[], object], now: Callable[[], float], rounds: int = _ROUNDS) -> float:
    run()
    taken = []
    for _ in range(rounds):
        began = now()
        run()
        taken.append(now() - began)
    return min(taken)


def peaks(sizes: Sizes, now: Callable[[], float], packed: bool) -> Peaks:
    rows, inputs, outputs = sizes.frames + 1, sizes.network.embed_dim, 8 * sizes.network.embed_dim
    operations = 2.0 * rows * inputs * outputs
    with torch.inference_mode():
        linear, x = nn.Linear(inputs, outputs, bias=False), torch.randn(rows, inputs)
        half, bytes_x = HalfProduct(linear, packed), torch.ones(rows, inputs, dtype=torch.int8)
        bytes_weight, half_x = torch.ones(outputs, inputs, dtype=torch.int8), x.bfloat16()
        seconds = [
            best(run, now)
            for run in (lambda: linear(x), lambda: half(half_x), lambda: torch._int_mm(bytes_x, bytes_weight.T))
        ]
    return Peaks(*(operations / value for value in seconds))


def jump_operations(sizes: Sizes) -> float:
    """Of one jump at nu = 1, with what a prompt adds known."""
    spec = sizes.network
    with torch.device("meta"):
        network, x, level = DiT(spec), torch.empty(1, spec.io_channels, sizes.frames), torch.empty(1)
        text = torch.empty(1, 1, spec.cond_dim)
    network.to("meta").requires_grad_(False)
    context = network.encode_context(text)
    with FlopCounterMode(display=False) as counter:
        network(x, level, level, level, context)
    return float(counter.get_total_flops())


def decode_operations(sizes: Sizes) -> float:
    """Per second of sound, decoded whole."""
    rates = sizes.decoder_rates
    with torch.device("meta"):
        codec = GaussianDAC(
            encoder_dim=2, encoder_rates=rates, latent_dim=sizes.network.io_channels,
            decoder_dim=sizes.decoder_dim, decoder_rates=rates,
        )  # fmt: skip
        latent = torch.empty(1, sizes.network.io_channels, sizes.frames)
    codec.to("meta").requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        codec.decode(latent, None)
    return counter.get_total_flops() / sizes.seconds


def processor() -> str:
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return f"{found[1] if found else platform.machine()}, {os.cpu_count()} logical cores, torch {torch.__version__}"
