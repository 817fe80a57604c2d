"""One graph for a whole preview: the jump, and the decoder of what it lands on. It shares both graphs' weights."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import torch
from onnx import compose, helper

from soundctm.exports import Role
from soundctm_export.graphs import GraphPlan, Tensors
from soundctm_export.parity import quiet_options

_JUMP_OUTPUT, _DECODER_INPUT = "landed", "latent"
_PREFIX = "decoder."  # of the decoder's own names


def preview_plan(jump: GraphPlan, decoder: GraphPlan, jump_file: Path, decoder_file: Path) -> GraphPlan:
    """Inputs of the jump, then those of the decoder besides the latent, for one whole tile; outputs of the decoder.

    It is to say what its two graphs say one after the other: each was compared with PyTorch by itself, and a vocoder
    that picks peaks makes another waveform of a latent that is only rounded.
    """

    def inputs_for(rows: int, frames: int) -> Tensors:
        return *jump.inputs_for(rows, frames), *decoder.inputs_for(rows, frames)[1:]

    def reference(inputs: Tensors) -> Tensors:
        own = len(jump.inputs)
        return _run(decoder, decoder_file, (*_run(jump, jump_file, inputs[:own]), *inputs[own:]))

    return GraphPlan(
        Role.PREVIEW, torch.nn.Identity(), (*jump.inputs, *decoder.inputs[1:]), decoder.outputs, inputs_for, reference
    )


def _run(plan: GraphPlan, path: Path, inputs: Tensors) -> Tensors:
    session = onnxruntime.InferenceSession(str(path), quiet_options(), providers=["CPUExecutionProvider"])
    arrays = {port.name: tensor.numpy() for port, tensor in zip(plan.inputs, inputs, strict=True)}
    return tuple(torch.from_numpy(values) for values in session.run(None, arrays))


def write_preview(jump: Path, decoder: Path, path: Path) -> None:
    """Write `path`, which names the weights of the two graphs beside it. Raises OSError."""
    first, second = (onnx.load(str(file), load_external_data=False) for file in (jump, decoder))
    second = compose.add_prefix(second, _PREFIX)
    # of graphs: joining models would check them, without the folder their weights lie in
    graph = compose.merge_graphs(first.graph, second.graph, [(_JUMP_OUTPUT, _PREFIX + _DECODER_INPUT)])
    _give_back_names(graph)
    joined = helper.make_model(graph, opset_imports=first.opset_import, ir_version=first.ir_version)
    joined.producer_name = first.producer_name
    path.write_bytes(joined.SerializeToString(deterministic=True))


def _give_back_names(graph: onnx.GraphProto) -> None:
    """Inputs and outputs are called as in the graphs they come from."""
    names = {value.name: value.name.removeprefix(_PREFIX) for value in (*graph.input, *graph.output)}
    for value in (*graph.input, *graph.output):
        value.name = names[value.name]
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
