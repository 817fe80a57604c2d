"""What `soundctm export tensorrt` is asked for, as values. The standard library only: `--help` must answer at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from soundctm.engines.tensorrt import BuildOptions

DEFAULT_MAX_ROWS = 32
FEWEST_ROWS = 3  # what every engine is tried with


class TensorRTPrecision(StrEnum):
    """Of the matrix products of network and text encoder; the graph itself says it, no flag of a builder."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    FP8 = "fp8"  # of the network alone; the text encoder's are then fp16


@dataclass(frozen=True)
class TensorRTSettings:
    """`source`: a bundle's name or folder, or a folder of exported graphs. `out` must not exist.

    `max_rows`: the largest batch of an engine; larger ones are run in parts. `prepare`: build nothing. `timing_cache`:
    a folder that keeps how fast each kernel was, for the next build; None keeps nothing.
    """

    source: str
    out: Path
    precision: TensorRTPrecision = TensorRTPrecision.FP16
    options: BuildOptions = field(default_factory=BuildOptions)
    max_rows: int = DEFAULT_MAX_ROWS
    prepare: bool = False
    timing_cache: Path | None = None
