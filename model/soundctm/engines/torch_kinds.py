"""The rows of PyTorch in fewer bits in the table of engines. No torch before one is loaded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from soundctm.bundle import Bundle
from soundctm.engines.choosing import AUTO, LEAST_SNR_DB, Able, EngineKind, Unable, Wanted
from soundctm.engines.processor import cpp_compiler, native_bfloat16, native_int8
from soundctm.errors import EngineUnavailableError
from soundctm.spec import Conditioning

if TYPE_CHECKING:
    from soundctm.engines.protocol import Engine
    from soundctm.engines.torch_half import Fidelity

_log = logging.getLogger(__name__)

# docs/speed.md, by the layout of the network: jumps beside float32's on the same CPU, and decibels of the worst output:
# of the official layout the latent, of the starter's the waveform, whose vocoder picks spectral peaks.
_BF16: Mapping[Conditioning, tuple[float, float]] = {
    Conditioning.PREPENDED_TOKEN: (2.4, 41.0),
    Conditioning.ADAPTIVE_NORM: (1.3, 26.0),
}
_COMPILED: Mapping[Conditioning, tuple[float, float]] = {
    Conditioning.PREPENDED_TOKEN: (2.5, 41.0),
    Conditioning.ADAPTIVE_NORM: (1.3, 26.0),
}
_INT8: Mapping[Conditioning, tuple[float, float]] = {
    Conditioning.PREPENDED_TOKEN: (3.0, 31.0),
    Conditioning.ADAPTIVE_NORM: (1.3, 23.0),
}


def _judge_bf16(bundle: Bundle, wanted: Wanted) -> Able | Unable:
    if wanted.device_kind != "cpu":
        return Able(f"PyTorch in bf16 on {wanted.device}, not yet run", bundle)
    if not native_bfloat16():
        return Unable("this processor has no instructions for bf16: it would be slower than float32")
    return _able("bf16", bundle, _BF16)


def _judge_compiled(bundle: Bundle, wanted: Wanted) -> Able | Unable:
    if wanted.device_kind != "cpu":
        return Able(f"PyTorch in bf16 with compiled kernels and CUDA graphs on {wanted.device}, not yet run", bundle)
    return _judge_bf16(bundle, wanted) if not native_bfloat16() else _with_compiler("bf16", bundle)


def _judge_int8(bundle: Bundle, wanted: Wanted) -> Able | Unable:
    if wanted.device_kind != "cpu":
        return Unable(f"it computes on cpu, `device` is {wanted.device}")
    if not (native_bfloat16() and native_int8()):
        return Unable("this processor has no instructions for bf16 and int8: it would be slower than float32")
    return _with_compiler("int8", bundle)


def _with_compiler(precision: str, bundle: Bundle) -> Able | Unable:
    compiler = cpp_compiler()
    if compiler is None:
        return Unable("there is no C++ compiler here; install g++ or clang++, or set CXX")
    measured = _COMPILED if precision == "bf16" else _INT8
    return _able(f"{precision}, with kernels that {compiler} compiles after loading,", bundle, measured)


def _able(how: str, bundle: Bundle, measured: Mapping[Conditioning, tuple[float, float]]) -> Able:
    speed, snr_db = measured[bundle.spec.network.conditioning]
    return Able(f"PyTorch in {how} on the CPU, {snr_db:.0f} dB", bundle, speed, snr_db)


def _load_bf16(bundle: Bundle, wanted: Wanted) -> Engine:
    from soundctm.engines.torch_half import Precision, load_half_engine

    engine, fidelity = load_half_engine(bundle, Precision.BFLOAT16, wanted.device, wanted.threads)
    _judge_loaded("torch-bf16", bundle, wanted, fidelity)
    return engine


def _load_compiled(name: str, precision: str) -> Callable[[Bundle, Wanted], Engine]:
    def load(bundle: Bundle, wanted: Wanted) -> Engine:
        from soundctm.engines.torch_half import Precision, load_compiled_engine

        engine, fidelity, _ = load_compiled_engine(bundle, Precision(precision), wanted.device, wanted.threads)
        _judge_loaded(name, bundle, wanted, fidelity)
        return engine

    return load


def _judge_loaded(name: str, bundle: Bundle, wanted: Wanted, fidelity: Fidelity) -> None:
    """Raises EngineUnavailableError where the rules chose the engine and it loses more than they allow."""
    _log.info("%s: latent %.0f dB, audio %.0f dB against float32", name, fidelity.latent_db, fidelity.audio_db)
    if wanted.engine == AUTO and fidelity.worst_db < LEAST_SNR_DB:
        raise EngineUnavailableError(
            f"{name} keeps {fidelity.worst_db:.0f} dB of the model {bundle.spec.name!r} against float32; "
            f"{AUTO!r} takes {LEAST_SNR_DB} or more. Ask for {name!r} by name to have it all the same."
        )


def _expected_bytes(bundle: Bundle) -> int:
    """No more than in float32: text and codec stay in it."""
    from soundctm.engines.registry import TORCH

    return TORCH.expected_bytes(bundle)


def _kind(
    name: str,
    about: str,
    judge: Callable[[Bundle, Wanted], Able | Unable],
    load: Callable[[Bundle, Wanted], Engine],
) -> EngineKind:
    return EngineKind(name, f"PyTorch, {about}", judge, load, Bundle.verify, _expected_bytes)


TORCH_KINDS = (
    _kind("torch-bf16", "bf16", _judge_bf16, _load_bf16),
    _kind("torch-compiled", "bf16, compiled kernels", _judge_compiled, _load_compiled("torch-compiled", "bf16")),
    _kind("torch-int8", "int8, compiled kernels", _judge_int8, _load_compiled("torch-int8", "int8")),
)
