"""The range of shapes that a graph's engine takes, from the bundle's durations and the largest batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from soundctm.engines.tensorrt import Profile
from soundctm.exports import Role, Tiling
from soundctm.spec import BundleSpec
from soundctm_export.errors import ExportError
from soundctm_export.graphs import BATCH, FRAMES

_SAMPLES = "samples"  # the encoder's axis


@dataclass(frozen=True)
class Span:
    """Of an axis that varies."""

    least: int
    best: int
    most: int


def spans(spec: BundleSpec, tiling: Tiling, role: Role, max_rows: int) -> dict[str, Span]:
    """By the names of axes. Previews are single clips, of any length that is allowed; decoders get tiles too."""
    shortest, longest = (spec.latent_frames(limit) for limit in (spec.ranges.min_seconds, spec.ranges.max_seconds))
    tile = min(longest, tiling.tile_frames + 2 * tiling.halo_frames)
    frames = Span(shortest, tile if role is Role.DECODER else longest, longest)
    hop = spec.codec.hop_samples
    samples = Span(*(hop * count for count in (frames.least, frames.best, frames.most)))
    return {BATCH: Span(1, 1, max_rows), FRAMES: frames, _SAMPLES: samples}


def profile_of(path: Path, known: Mapping[str, Span]) -> Profile:
    """Of a graph's inputs, all of them: TensorRT asks for every one that varies. Raises ExportError."""
    inputs = onnx.load(str(path), load_external_data=False).graph.input
    points: list[dict[str, tuple[int, ...]]] = [{}, {}, {}]
    for value in inputs:
        sizes = [_span(path, value.name, dim, known) for dim in value.type.tensor_type.shape.dim]
        for point, shapes in zip(("least", "best", "most"), points, strict=True):
            shapes[value.name] = tuple(getattr(size, point) for size in sizes)
    return Profile(*points)


def _span(path: Path, name: str, dim: onnx.TensorShapeProto.Dimension, known: Mapping[str, Span]) -> Span:
    if dim.dim_value:
        return Span(dim.dim_value, dim.dim_value, dim.dim_value)
    if dim.dim_param not in known:
        raise ExportError(
            f"{path.name}: nothing is known of the axis {dim.dim_param!r} of {name!r}; known: "
            f"{', '.join(sorted(known))}. Export the bundle again with `soundctm export onnx`."
        )
    return known[dim.dim_param]


def why_left_out(path: Path) -> str:
    """Empty for a graph that TensorRT computes as it is written."""
    model = onnx.shape_inference.infer_shapes(onnx.load(str(path), load_external_data=False))
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    if any(value.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE for value in values):
        return "it counts in float64, of which TensorRT makes float32; ONNX Runtime computes it on the GPU without"
    return ""
