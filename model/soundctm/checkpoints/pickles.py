"""Opening published pickles without running anything in them."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from soundctm.errors import CheckpointError

# what a NumPy scalar is rebuilt from; old files name its function by the module path of NumPy 1
_SCALAR = np.float64(0).__reduce__()[0]
_SCALAR_DTYPES = [type(np.dtype(code)) for code in ("?", "i1", "u1", "i2", "i4", "i8", "f2", "f4", "f8")]
_HARMLESS: list[Any] = [_SCALAR, (_SCALAR, "numpy.core.multiarray.scalar"), np.dtype, *_SCALAR_DTYPES]


def read_pickle(path: Path) -> Any:
    """Tensors (memory-mapped), numbers, strings and containers of a `torch.save` file.

    Raises CheckpointError when the file is absent, broken, or asks for anything else than those and NumPy scalars.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file; give the path of the published file")
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            # files of torch before 1.6 are no zip archives and cannot be mapped
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        asks = f"it asks for {wanted.group(1)}" if wanted else f"it is no pickle of tensors ({_first_line(error)})"
        raise CheckpointError(
            f"{path} was refused: {asks}; allowed are tensors, numbers, strings and containers of them. "
            "Nothing in it was run. Check where the file came from."
        ) from error
    except (RuntimeError, OSError, EOFError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {_first_line(error)}. It may be truncated; download it again."
        ) from error


def tensors_of(value: Any, where: str) -> dict[str, Tensor]:
    """`value` as a table of tensors by name. Raises CheckpointError naming what is none."""
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{where} is a {type(value).__name__}; expected a table of tensors by name")
    strangers = [f"{key!r} ({type(item).__name__})" for key, item in value.items() if not isinstance(item, Tensor)]
    if strangers or not value:
        found = f"holds things that are no tensors: {', '.join(strangers[:8])}" if strangers else "is empty"
        raise CheckpointError(f"{where} {found}; expected a table of tensors by name")
    return {str(key): item for key, item in value.items()}


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no details'}"
