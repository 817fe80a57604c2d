"""The machine that a TensorRT engine is built on: it runs on no other. Never imports torch."""

from __future__ import annotations

import ctypes
import importlib
import subprocess
from dataclasses import dataclass
from functools import cache

from soundctm.errors import ProviderMissingError

_QUERY = ("nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader")
_QUERY_SECONDS = 20
_LIBRARIES = ("libnvinfer.so.11", "libnvinfer.so.10", "nvinfer_11.dll", "nvinfer_10.dll")
_SHOWN_PARTS = 3  # of a version; a fourth counts the builds of one release


@dataclass(frozen=True)
class Machine:
    """What an engine is built for. `compute_capability`: the GPU's generation, such as 9.0."""

    gpu: str
    compute_capability: str
    tensorrt: str
    onnxruntime: str


@cache  # the driver takes a second to answer on some machines
def this_machine(onnxruntime: str) -> Machine:
    """Its first GPU, as the driver counts them; `onnxruntime` is that package's version.

    Raises ProviderMissingError where there is none, or no TensorRT.
    """
    gpu, compute_capability = _first_gpu()
    return Machine(gpu, compute_capability, _tensorrt_version(), onnxruntime)


def _first_gpu() -> tuple[str, str]:
    try:
        asked = subprocess.run(_QUERY, capture_output=True, text=True, timeout=_QUERY_SECONDS, check=True)
        first = asked.stdout.splitlines()[0]
        name, compute_capability = (part.strip() for part in first.rsplit(",", 1))
    except (OSError, subprocess.SubprocessError, IndexError, ValueError) as error:
        raise ProviderMissingError(
            f"TensorRT needs an NVIDIA GPU; {_QUERY[0]} names none here ({error}). Use a machine that has one, or "
            "install its driver."
        ) from error
    return name, compute_capability


def _tensorrt_version() -> str:
    try:
        package = importlib.import_module("tensorrt")  # its libraries are then found by ONNX Runtime too
        return ".".join(str(package.__version__).split(".")[:_SHOWN_PARTS])
    except ImportError:
        pass
    for name in _LIBRARIES:
        try:
            number = int(ctypes.CDLL(name).getInferLibVersion())
        except (OSError, AttributeError):
            continue
        return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
    raise ProviderMissingError(
        "TensorRT's libraries cannot be loaded: there is no package tensorrt, nor libnvinfer on the library path. Run "
        "`pip install tensorrt`, in the version that ONNX Runtime was built with."
    )
