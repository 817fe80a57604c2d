"""Where things are: the one place of the model library that reads the environment."""

from __future__ import annotations

import os
import sys
from importlib import resources
from pathlib import Path

import platformdirs

STARTER = "starter"


def hub_endpoint() -> str:
    """Where published models are fetched from: $HF_ENDPOINT, or the public hub."""
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


def hub_token() -> str | None:
    """$HF_TOKEN: who asks, for repositories that want to know."""
    return os.environ.get("HF_TOKEN") or None


def cpp_compiler() -> str:
    """Name or path of the one that PyTorch compiles with: $CXX, or g++ (clang++ on macOS)."""
    return os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")


def models_dir() -> Path:
    """Folder of installed bundles: $SOUNDCTM_MODELS, or the user's data folder."""
    return Path(os.environ.get("SOUNDCTM_MODELS") or Path(platformdirs.user_data_dir("soundctm")) / "models")


def state_dir() -> Path:
    """Folder of what this user has done: $SOUNDCTM_STATE, or the user's state folder; the daemon's is the same."""
    return Path(os.environ.get("SOUNDCTM_STATE") or platformdirs.user_state_dir("soundctm"))


def licences_dir() -> Path:
    """What was accepted: see soundctm.licences."""
    return state_dir() / "licences"


def starter_dir() -> Path:
    """The bundle that ships in the package."""
    return Path(str(resources.files("soundctm") / "starter" / "bundle"))
