"""What an export is asked for, as values. The standard library only: `--help` must answer at once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

DEFAULT_OPSET = 20  # the newest whose masks every attention of ours runs with on ONNX Runtime 1.31


class Precision(StrEnum):
    FP32 = "fp32"
    FP16 = "fp16"  # the matrix products of the network and of the text encoder; all else stays fp32
    BF16 = "bf16"  # the same; where the runtime multiplies them
    INT8 = "int8"  # those of the network: weights beforehand, activations as they come
    W8A8 = "w8a8"  # the same with the activations' ranges found beforehand, on the bundle's own trajectories
    W8 = "w8"      # weights in 8 bits by blocks, activations as they come, by blocks too
    INT4 = "int4"  # weights in 4 bits by blocks


@dataclass(frozen=True)
class ExportSettings:
    """`bundle`: a name or a folder. `out` must not exist."""

    bundle: str
    out: Path
    precision: Precision = Precision.FP32
    opset: int = DEFAULT_OPSET
    preview: bool = True  # one more graph: a whole 1-jump preview
