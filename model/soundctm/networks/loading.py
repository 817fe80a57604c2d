"""Putting stored tensors into a network: never two copies, never a random initialisation, nothing passes silently."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from soundctm.errors import BundleError, TensorMismatchError

M = TypeVar("M", bound=nn.Module)

_DRAWS = (Tensor.normal_, Tensor.uniform_)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, memory-mapped; stored half precision is widened to float32.

    Raises BundleError when the file cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{path} is no readable safetensors file ({error}). Install the bundle again.") from error
    return {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}


class _WithoutInitialisation(TorchFunctionMode):
    """Modules built inside keep their parameters as they were made: on the meta device drawing numbers that nobody
    will see imports torch._dynamo, which takes longer than loading the weights.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DRAWS or getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)



def load_into(module_factory: Callable[[], M], tensors: Mapping[str, Tensor], where: str) -> M:
    """Build a module on the meta device and give it `tensors` themselves (memory-mapped ones stay mapped).

    Returns the module frozen and in evaluation mode. `where` names the source in errors.
    Raises TensorMismatchError when a name is missing, left over or of another shape.
    """
    with torch.device("meta"), _WithoutInitialisation():
        module = module_factory()
    check_fit(module, tensors, where)
    module.load_state_dict(dict(tensors), assign=True)
    return module.eval().requires_grad_(False)


def check_fit(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Raises TensorMismatchError unless names and shapes of `tensors` are exactly the module's."""
    wanted = module.state_dict()
    missing = sorted(wanted.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - wanted.keys())
    shapes = [
        f"{name} {list(tensors[name].shape)} instead of {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if missing or unexpected or shapes:
        raise TensorMismatchError(where, missing, unexpected, shapes)
