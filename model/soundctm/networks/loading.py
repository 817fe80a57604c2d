"""Weights into modules: never random-initialised first, never two copies in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from soundctm.errors import BundleError, TensorMismatchError

_Module = TypeVar("_Module", bound=nn.Module)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, memory-mapped. Raises BundleError."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{path} is no readable safetensors file ({error}). Install the bundle again.") from error


def load_into(factory: Callable[[], _Module], tensors: Mapping[str, Tensor], where: str) -> _Module:
    """Build on the meta device and adopt `tensors`; half-precision storage is widened to float32 tensor by tensor.

    Raises TensorMismatchError naming what is missing, left over or of another shape.
    """
    with torch.device("meta"):
        module = factory()
    wanted = module.state_dict()
    missing = sorted(wanted.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - wanted.keys())
    shapes = [
        f"{name} {list(tensors[name].shape)} (needs {list(wanted[name].shape)})"
        for name in sorted(wanted.keys() & tensors.keys())
        if tensors[name].shape != wanted[name].shape
    ]
    if missing or unexpected or shapes:
        raise TensorMismatchError(where, missing, unexpected, shapes)
    widened = {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}
    module.load_state_dict(widened, assign=True)
    return module
