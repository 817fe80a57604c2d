"""The rows of PyTorch in fewer bits in the table of engines. No torch before one is loaded."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from soundctm.bundle import Bundle
from soundctm.engines.choosing import AUTO, LEAST_SNR_DB, Able, EngineKind, Unable, Wanted
from soundctm.engines.processor import cpp_compiler, native_bfloat16, native_int8
from soundctm.errors import EngineUnavailableError
from soundctm.spec import Conditioning

if TYPE_CHECKING:
    from soundctm.engines.protocol import Engine

_log = logging.getLogger(__name__)

# docs/speed.md, by the layout of the network: jumps beside float32's on the same CPU, and decibels of the worst output:
# of the official layout the latent, of the starter's the waveform, whose vocoder picks spectral peaks.
_BF16: Mapping[Conditioning, tuple[float, float]] = {
    Conditioning.PREPENDED_TOKEN: (2.0, 40.0),
    Conditioning.ADAPTIVE_NORM: (1.3, 26.0),
}
_INT8: Mapping[Conditioning, tuple[float, float]] = {
    Conditioning.PREPENDED_TOKEN: (2.6, 31.0),
    Conditioning.ADAPTIVE_NORM: (1.3, 23.0),
}


def _half_kind(name: str, precision: str, measured: Mapping[Conditioning, tuple[float, float]]) -> EngineKind:
    def judge(bundle: Bundle, wanted: Wanted) -> Able | Unable:
        if wanted.device_kind != "cpu":
            return Able(f"PyTorch in {precision} on {wanted.device}", bundle)
        if not native_bfloat16() or (precision == "int8" and not native_int8()):
            return Unable(f"this processor has no instructions for {precision}: it would be slower than float32")
        speed, snr_db = measured[bundle.spec.network.conditioning]
        return Able(f"PyTorch in {precision} on the CPU, {snr_db:.0f} dB", bundle, speed, snr_db)

    def load(bundle: Bundle, wanted: Wanted) -> Engine:
        from soundctm.engines.torch_half import Precision, load_half_engine

        engine, fidelity = load_half_engine(bundle, Precision(precision), wanted.device, wanted.threads)
        _log.info("%s: latent %.0f dB, audio %.0f dB against float32", name, fidelity.latent_db, fidelity.audio_db)
        if wanted.engine == AUTO and fidelity.worst_db < LEAST_SNR_DB:
            raise EngineUnavailableError(
                f"{name} keeps {fidelity.worst_db:.0f} dB of the model {bundle.spec.name!r} against float32; "
                f"{AUTO!r} takes {LEAST_SNR_DB} or more. Ask for {name!r} by name to have it all the same."
            )
        return engine

    return EngineKind(name, f"PyTorch, {precision}", judge, load, Bundle.verify, _expected_bytes)


def _judge_compiled(bundle: Bundle, wanted: Wanted) -> Able | Unable:
    if wanted.device_kind != "cpu":
        return Able(f"PyTorch in bf16 with compiled kernels and CUDA graphs on {wanted.device}, not yet run", bundle)
    if not native_bfloat16():
        return Unable("this processor has no instructions for bf16: it would be slower than float32")
    compiler = cpp_compiler()
    if compiler is None:
        return Unable("there is no C++ compiler here; install g++ or clang++, or set CXX")
    return Able(f"PyTorch in bf16 with kernels that {compiler} compiles after loading", bundle)


def _load_compiled(bundle: Bundle, wanted: Wanted) -> Engine:
    from soundctm.engines.torch_half import load_compiled_engine

    engine, fidelity, _ = load_compiled_engine(bundle, wanted.device, wanted.threads)
    _log.info("torch-compiled: latent %.0f dB, audio %.0f dB", fidelity.latent_db, fidelity.audio_db)
    return engine


def _expected_bytes(bundle: Bundle) -> int:
    """No more than in float32: text and codec stay in it."""
    from soundctm.engines.registry import TORCH

    return TORCH.expected_bytes(bundle)


TORCH_KINDS = (
    _half_kind("torch-bf16", "bf16", _BF16),
    EngineKind(
        "torch-compiled", "PyTorch, bf16, compiled", _judge_compiled, _load_compiled, Bundle.verify, _expected_bytes
    ),
    _half_kind("torch-int8", "int8", _INT8),
)
