"""The rows of ONNX Runtime in the table of engines: one per provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from soundctm.bundle import Bundle
from soundctm.engines.choosing import LEAST_SNR_DB, Able, EngineKind, Unable, Wanted
from soundctm.engines.providers import Provider, missing_provider
from soundctm.engines.tensorrt import read_entry
from soundctm.errors import BundleError
from soundctm.exports import REQUIRED, Exports, Role, exported_folders, read_exports
from soundctm.settings import models_dir

if TYPE_CHECKING:
    from soundctm.engines.protocol import Engine

# Jumps beside PyTorch's in float32, by the jump graph's precision: docs/export.md. That of fp32 lies between the
# starter's 1.5 and the official layout's 1.16. Nothing was timed on a GPU.
_CPU_SPEED: Mapping[str, float] = {"fp32": 1.2, "fp16": 1.2, "int8": 2.6, "w8a8": 2.6, "w8": 1.8, "int4": 1.2}

# Precisions without kernels.
_NOT_ON: Mapping[Provider, tuple[str, ...]] = {Provider.CPU: ("bf16", "fp8"), Provider.CUDA: ("fp8",)}


def onnx_kind(name: str, provider: Provider, device_kind: str, speed: Mapping[str, float]) -> EngineKind:
    """`speed` by precision; a precision that is not in it was never timed."""

    def judge(bundle: Bundle, wanted: Wanted) -> Able | Unable:
        if wanted.device_kind != device_kind:
            return Unable(f"it computes on {device_kind}, `device` is {wanted.device}")
        try:
            folders = [each for each in exported_folders(bundle) if _suits(provider, each[1])]
        except BundleError as error:
            return Unable(str(error))
        if not folders:
            command, what = ("tensorrt", "engines") if provider is Provider.TENSORRT else ("onnx", "graphs")
            out = models_dir() / f"{bundle.spec.name}-{what}"
            return Unable(
                f"no {what} of it are installed; make them: `soundctm export {command} {bundle.spec.name} -o {out}`"
            )
        missing = missing_provider(provider)
        if missing and not wanted.allow_cpu:
            return Unable(missing)
        able = max((_able(folder, exports, speed) for folder, exports in folders), key=_preferred)
        return Able(f"{able.says}, on the CPU as allowed: {missing}", able.bundle) if missing else able

    def load(bundle: Bundle, wanted: Wanted) -> Engine:
        from soundctm.engines.onnx import load_engine

        return load_engine(bundle, provider, wanted.threads, allow_cpu=wanted.allow_cpu)

    return EngineKind(name, f"exported graphs in ONNX Runtime, {provider.value}", judge, load, _verify, _expected_bytes)


def _suits(provider: Provider, exports: Exports) -> bool:
    """Raises BundleError."""
    if provider is Provider.TENSORRT:
        entry = read_entry(exports.folder)
        return entry is not None and entry.machine is not None
    return exports.graphs[Role.JUMP].precision not in _NOT_ON[provider]


def _able(bundle: Bundle, exports: Exports, speed: Mapping[str, float]) -> Able:
    worst = min((exports.graphs[role] for role in REQUIRED), key=lambda record: record.snr_db)
    precision = exports.graphs[Role.JUMP].precision
    says = f"{precision} graphs in {bundle.path}, {worst.snr_db} dB ({worst.role.value})"
    return Able(says, bundle, speed.get(precision), worst.snr_db)


def _preferred(able: Able) -> tuple[bool, float, float]:
    """Of several exports of one bundle: the fastest that keeps 40 dB; else the nearest to PyTorch."""
    good = able.snr_db >= LEAST_SNR_DB
    return good, able.speed or 0.0 if good else 0.0, able.snr_db


def _exports_of(bundle: Bundle) -> Exports:
    exports = read_exports(bundle)
    if exports is None:
        raise BundleError(f"{bundle.path} holds no exported graphs any more. Export the bundle again.")
    return exports


def _verify(bundle: Bundle) -> None:
    _exports_of(bundle).verify()


def _expected_bytes(bundle: Bundle) -> int:
    """Of the graphs' files: see OnnxEngine.memory_bytes."""
    return _exports_of(bundle).engine_bytes()


ONNX_KINDS = (
    onnx_kind("onnx", Provider.CPU, "cpu", _CPU_SPEED),
    onnx_kind("onnx-cuda", Provider.CUDA, "cuda", {}),
    onnx_kind("onnx-tensorrt", Provider.TENSORRT, "cuda", {}),
)
