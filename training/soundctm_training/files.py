"""Reading weights that somebody names on a command line."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from soundctm_training.config import ConfigError


def read_weights(path: Path) -> dict[str, Tensor]:
    """A safetensors file. Raises ConfigError."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path} cannot be read as safetensors ({error})") from error
