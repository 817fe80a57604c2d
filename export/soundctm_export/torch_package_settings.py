"""What `soundctm export torch` is asked for, as values. The standard library only: `--help` must answer at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TorchPackageSettings:
    """`bundle`: a name or a folder. `out` must not exist. `compiled`: machine code for this processor as well."""

    bundle: str
    out: Path
    compiled: bool = False
