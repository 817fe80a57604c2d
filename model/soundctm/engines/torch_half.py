"""The PyTorch engine in fewer bits: bfloat16, or 8 bits where they cost least. What that costs is measured at load."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import nn

from soundctm.bundle import Bundle
from soundctm.codecs.dac import GaussianDAC
from soundctm.codecs.half import HalfDecoder
from soundctm.codecs.protocol import Codec
from soundctm.engines.processor import native_bfloat16
from soundctm.engines.protocol import Floats
from soundctm.engines.torch import TorchEngine, load_engine
from soundctm.engines.torch_compiled import Compiling, compile_kernels
from soundctm.engines.torch_graphs import Record, RecordedCodec, RecordedNetwork, record_cuda
from soundctm.networks.dit import DiT
from soundctm.networks.half import BYTES, HALF, halve
from soundctm.networks.kernels import KernelSet
from soundctm.noise import Stream, standard_normal


class Precision(StrEnum):
    """Of the products of the transformer; a Gaussian DAC decodes in bfloat16 in both."""

    BFLOAT16 = "bf16"
    INT8 = "int8"  # where inputs are normed; the others in bfloat16


_PRODUCTS = {Precision.BFLOAT16: HALF, Precision.INT8: BYTES}


@dataclass(frozen=True)
class Fidelity:
    """Signal to noise against float32, of the shortest clip: its latent after one jump, and its audio where both decode
    the same latent. Infinite where nothing was changed."""

    latent_db: float
    audio_db: float

    @property
    def worst_db(self) -> float:
        return min(self.latent_db, self.audio_db)


def load_half_engine(
    bundle: Bundle,
    precision: Precision,
    device: str = "cpu",
    threads: int | None = None,
    kernels: KernelSet | None = None,
) -> tuple[TorchEngine, Fidelity]:
    """Verify a bundle's checksums, load it and make its networks anew.

    `threads` as for `load_engine`. `kernels`: those to use, eager ones if None.
    Raises DigestMismatchError, TensorMismatchError, BundleError.
    """
    engine = load_engine(bundle, device, threads)
    found = _Probe(engine)
    packed = device == "cpu" and native_bfloat16()
    used = kernels or KernelSet()

    def change(network: DiT, codec: Codec) -> tuple[DiT, Codec]:
        halve(network, _PRODUCTS[precision], used, packed, bundle.spec.text.max_tokens > 1)
        if isinstance(codec, GaussianDAC):
            codec.decoder = HalfDecoder(codec.decoder, used)  # type: ignore[assignment]
        _frozen(network, codec)
        return network, codec

    engine.replace_networks(change)
    return engine, found.against(engine)


def load_compiled_engine(
    bundle: Bundle, precision: Precision, device: str = "cpu", threads: int | None = None
) -> tuple[TorchEngine, Fidelity, Compiling]:
    """With compiled kernels as soon as they are made; on CUDA it waits for them, and the networks are
    recorded as CUDA graphs. Raises as `load_half_engine`.
    """
    kernels = KernelSet()
    engine, fidelity = load_half_engine(bundle, precision, device, threads, kernels)
    compiling = compile_kernels(kernels, bundle.spec, torch.device(device))
    if torch.device(device).type == "cuda":
        compiling.wait()  # a recording keeps the kernels it was made with
        longest = bundle.spec.latent_frames(bundle.spec.ranges.max_seconds)
        engine.replace_networks(partial(recorded, record=record_cuda, tile_frames=longest))
    return engine, fidelity, compiling


def recorded(network: DiT, codec: Codec, record: Record, tile_frames: int) -> tuple[DiT, Codec]:
    """Networks that are recorded, where they can be; a tile is as long as a device with many processors likes it."""
    made = cast(DiT, RecordedNetwork(network, record))
    if codec.decoder_noise_shape(1) is not None:
        return made, codec
    codec.tile_frames = tile_frames
    return made, RecordedCodec(codec, record)


class _Probe:
    """A jump and a decode of the shortest clip, in float32."""

    def __init__(self, engine: TorchEngine) -> None:
        spec = engine.spec
        shape = (spec.codec.latent_channels, spec.latent_frames(spec.ranges.min_seconds))
        self.noise = spec.diffusion.sigma_max * standard_normal(0, Stream.START, 0, shape)[None]
        self.latent = self._jump(engine)
        self.audio = self._decode(engine)

    def against(self, engine: TorchEngine) -> Fidelity:
        return Fidelity(snr_db(self.latent, self._jump(engine)), snr_db(self.audio, self._decode(engine)))

    def _jump(self, engine: TorchEngine) -> Floats:
        diffusion, omega = engine.spec.diffusion, engine.spec.ranges.omega_default
        text = engine.encode_text([""])
        latent = engine.jump(engine.array(self.noise), [diffusion.sigma_max], [diffusion.sigma_min], [omega], text)
        return latent.cpu().numpy()

    def _decode(self, engine: TorchEngine) -> Floats:
        return engine.decode(engine.array(self.latent), [0])


def snr_db(signal: Floats, found: Floats) -> float:
    """How much stronger a signal is than what it was missed by; infinite where it was met, -inf where it is lost."""
    error = float(np.sum((found.astype(np.float64) - signal) ** 2))
    if not math.isfinite(error):
        return -math.inf
    power = float(np.sum(signal.astype(np.float64) ** 2))
    if error == 0.0:
        return math.inf
    return 10 * math.log10(power / error) if power else -math.inf


def _frozen(*modules: nn.Module) -> None:
    for module in modules:
        module.eval().requires_grad_(False)
