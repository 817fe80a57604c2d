"""Reading weights that somebody names on a command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from soundctm.errors import SoundCTMError
from soundctm.networks.dit import DiT
from soundctm.networks.loading import load_into
from soundctm.networks.recall import MEMORY, PHRASES
from soundctm.spec import DiTSpec
from soundctm_training.config import ConfigError


def read_weights(path: Path) -> dict[str, Tensor]:
    """A safetensors file. Raises ConfigError."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path} cannot be read as safetensors ({error})") from error


def read_network(spec: DiTSpec, path: Path) -> DiT:
    """The network of `spec` with a file's weights, and with the memory they hold, if any: how much one remembers is
    known by its weights alone. Frozen; stored half precision is widened. Raises ConfigError naming a tensor the network
    does not have or lacks."""
    tensors = {name: t.float() if t.is_floating_point() else t for name, t in read_weights(path).items()}
    if MEMORY in tensors:
        spec = replace(spec, text_memory=len(tensors[MEMORY]), text_phrases=PHRASES in tensors)
    try:
        return load_into(lambda: DiT(spec), tensors, path.name)
    except SoundCTMError as error:
        raise ConfigError(f"{path} is not a network of this configuration's [network]: {error}") from error
