"""The one table of engines. Rows import their runtimes when they load, not before."""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import TYPE_CHECKING

from soundctm.bundle import Bundle
from soundctm.engines.choosing import AUTO, Able, EngineKind, Unable, Wanted
from soundctm.engines.onnx_kinds import ONNX_KINDS
from soundctm.engines.torch_kinds import TORCH_KINDS

if TYPE_CHECKING:
    from soundctm.engines.protocol import Engine

_BYTES_PER_NUMBER = 4  # whatever a file stores them in


def numbers_in(bundle: Bundle) -> int:
    """How many numbers the weights are. A file that cannot be read is named when the bundle is verified."""
    from safetensors import SafetensorError, safe_open

    total = 0
    for name in bundle.files:
        if name.endswith(".safetensors"):
            try:
                with safe_open(bundle.path / name, framework="numpy") as file:
                    total += sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118
            except (SafetensorError, OSError):
                continue
    return total


def _judge(bundle: Bundle, wanted: Wanted) -> Able | Unable:
    if find_spec("torch") is None:
        return Unable("torch is not installed; run `pip install torch`")
    return Able(f"PyTorch in float32 on {wanted.device}", bundle, speed=1.0)


def _load(bundle: Bundle, wanted: Wanted) -> Engine:
    from soundctm.engines.torch import load_engine

    return load_engine(bundle, wanted.device, wanted.threads)


TORCH = EngineKind(
    "torch", "PyTorch, float32", _judge, _load, Bundle.verify, lambda bundle: _BYTES_PER_NUMBER * numbers_in(bundle)
)

ENGINES: tuple[EngineKind, ...] = (TORCH, *TORCH_KINDS, *ONNX_KINDS)
ENGINE_NAMES = (AUTO, *(kind.name for kind in ENGINES))
