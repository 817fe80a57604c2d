"""Between which values the activations of a graph lie, on the bundle's own trajectories."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import onnx
import onnxruntime
import torch
from onnx import helper

from soundctm.networks.dit import TextContext
from soundctm.plan import make_plan
from soundctm_export.graphs import GraphPlan, Tensors
from soundctm_export.parity import quiet_options
from soundctm_export.parts import MOST_ROWS, Parts

_STEPS = 4  # jumps of a trajectory: with the preview's, every part of the way from noise to sound

Ranges = Mapping[str, tuple[float, float]]  # lowest and highest, by a value's name


def trajectories(parts: Parts, frames: int) -> Iterator[Tensors]:
    """Inputs of the jump on the way of every prompt that is tried: of a preview, and of a clip in a few jumps."""
    contexts, omegas = parts.contexts(MOST_ROWS), parts.omegas(MOST_ROWS)
    noise = parts.start_noise(MOST_ROWS, frames)
    for row in range(MOST_ROWS):
        fields = {name: tensor[row : row + 1] for name, tensor in contexts.fields().items()}
        for steps in (1, _STEPS):
            z = noise[row : row + 1] * parts.spec.diffusion.sigma_max
            for jump in make_plan(steps, 0.0, parts.spec.diffusion):
                levels = torch.tensor([jump.t]), torch.tensor([jump.s]), omegas[row : row + 1]
                yield z, *levels, *fields.values()
                z = parts.jumped(z, *levels, TextContext(**fields))


def activation_ranges(source: Path, plan: GraphPlan, names: Sequence[str], inputs: Iterable[Tensors]) -> Ranges:
    """Of the values called `names` in the graph `source`, over all `inputs`. Raises OSError."""
    model = onnx.load(str(source), load_external_data=False)
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    watched = source.with_name(f"watched.{source.name}")  # beside its weights
    try:
        watched.write_bytes(model.SerializeToString())
        session = onnxruntime.InferenceSession(str(watched), quiet_options(), providers=["CPUExecutionProvider"])
    finally:
        watched.unlink(missing_ok=True)
    found: dict[str, tuple[float, float]] = {}
    for tensors in inputs:
        arrays = {port.name: tensor.numpy() for port, tensor in zip(plan.inputs, tensors, strict=True)}
        for name, values in zip(names, session.run(list(names), arrays), strict=True):
            low, high = found.get(name, (0.0, 0.0))  # zero is always exact
            found[name] = min(low, float(values.min())), max(high, float(values.max()))
    return found
