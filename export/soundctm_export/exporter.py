"""A module becomes an ONNX file: the same module, the same bytes, wherever the checkout lies."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import nn

from soundctm_export.errors import BakedShapeError, ExportError
from soundctm_export.graphs import GraphPlan, Port, Tensors

_TRACED_ROWS, _TRACED_FRAMES = 2, 24  # neither 1, which tracing takes for a constant, nor what a check runs
_SMALLEST_EXTERNAL_BYTES = 256
_NOISY = ("torch.onnx", "torch._export.serde", "onnxscript", "onnx_ir")


def data_file(file: str) -> str:
    """Weights lie beside a graph: one protobuf holds 2 GB at most."""
    return f"{file}.data"


def write_graph(plan: GraphPlan, path: Path, opset: int) -> None:
    """Write `path` and its weights. Raises ExportError, BakedShapeError, OSError."""
    inputs = traced_inputs(plan)
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                plan.module.eval(),
                inputs,
                dynamo=True,
                opset_version=opset,
                input_names=[port.name for port in plan.inputs],
                output_names=[port.name for port in plan.outputs],
                dynamic_shapes=by_parameter(plan.module, _dynamic_shapes(plan.inputs)),
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ExportError(
            f"the {plan.role.value} graph cannot be exported at opset {opset}: {_reason(error)}"
        ) from error
    assert program is not None
    model = program.model
    _without_origin(model)
    save(model, path)
    refuse_baked(plan, path)


def traced_inputs(plan: GraphPlan) -> Tensors:
    """What an exporter follows a module with."""
    with quiet(), torch.inference_mode(), torch.no_grad():
        inputs = plan.inputs_for(_TRACED_ROWS, _TRACED_FRAMES)
    return tuple(tensor.clone() for tensor in inputs)  # no inference tensors


def save(model: ir.Model, path: Path) -> None:
    """Write a graph, and its weights beside it."""
    ir.save(model, path, external_data=data_file(path.name), size_threshold_bytes=_SMALLEST_EXTERNAL_BYTES)


def refuse_baked(plan: GraphPlan, path: Path) -> None:
    """Raises BakedShapeError where an axis that must vary has a size in the file."""
    graph = onnx.load(str(path), load_external_data=False).graph
    for ports, values in ((plan.inputs, graph.input), (plan.outputs, graph.output)):
        axes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values}
        for port in ports:
            for axis, label in port.axes.items():
                if axes[port.name][axis]:
                    raise BakedShapeError(
                        f"the {plan.role.value} graph holds the {label} of {port.name!r} as the constant "
                        f"{axes[port.name][axis]}; the exporter turned a size of its example into part of the graph. "
                        "Nothing was written; report it with the bundle's bundle.json."
                    )


def _dynamic_shapes(ports: Sequence[Port]) -> tuple[object, ...]:
    """Each varying axis once by name, then as `DYNAMIC`: the exporter finds itself that they are one."""
    named: set[str] = set()
    shapes = []
    for port in ports:
        axes: dict[int, object] = {}
        for axis, label in port.axes.items():
            axes[axis] = torch.export.Dim.DYNAMIC if label in named else label
            named.add(label)
        shapes.append(axes)
    return tuple(shapes)


def by_parameter(module: nn.Module, shapes: Sequence[object]) -> tuple[object, ...]:
    """`shapes` of inputs as the module's parameters take them: what `*text` takes is one entry."""
    kinds = [parameter.kind for parameter in inspect.signature(module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return tuple(shapes)
    own = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*shapes[:own], tuple(shapes[own:]))


def _without_origin(model: ir.Model) -> None:
    """Strip what tells of this checkout and this machine: source paths, scopes, printed nodes."""
    ClearMetadataAndDocStringPass()(model)
    model.metadata_props.clear()
    model.doc_string = None
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


@contextmanager
def quiet() -> Iterator[None]:
    """Libraries whose notes about themselves nobody can act on. Other warnings stay."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*LeafSpec.* is deprecated", FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """The first line of what torch's exporter failed over; its own message is a page of advice."""
    innermost = error.__cause__ or error
    return (str(innermost).strip() or type(innermost).__name__).splitlines()[0]
