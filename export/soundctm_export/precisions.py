"""Graphs in other precisions, made from the float32 ones, and how near to PyTorch each must stay.

Matrix products with fixed weights are what a network takes its time for, and all that is changed: levels, norms,
attention scores and every input and output stay float32. Products of vectors (Gemm) stay too: they cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from soundctm.exports import Role
from soundctm_export.exporter import save
from soundctm_export.settings import Precision

# Others lose too much: in int8, 16 dB are left of MiniLM, whose few large activations take all the steps, and 8 dB of a
# decoder. They take little of a clip's time.
_CONVERTED: Mapping[Precision, tuple[Role, ...]] = {
    Precision.FP32: (),
    Precision.FP16: (Role.TEXT, Role.JUMP),
    Precision.INT8: (Role.JUMP,),
}
_TOLERANCE_DB: Mapping[Precision, int] = {Precision.FP32: 90, Precision.FP16: 45, Precision.INT8: 30}

_DECODING_DB = 20  # a vocoder that picks peaks may pick a neighbour for a rounding in the seventh digit
_SMALLEST_SIDE = 32  # of weights that are converted: noise levels pass through matrices of one row, in full precision


def precision_of(role: Role, asked: Precision) -> Precision:
    """What a graph is made in when an export is asked for in a precision."""
    return asked if role in _CONVERTED[asked] else Precision.FP32


def tolerance_db(role: Role, precision: Precision) -> int:
    return _TOLERANCE_DB[precision] - (_DECODING_DB if role in (Role.DECODER, Role.PREVIEW) else 0)


def convert(source: Path, target: Path, precision: Precision) -> None:
    """Write the float32 graph `source` in another precision. Raises OSError."""
    model = ir.load(source)
    quantised: dict[ir.Value, tuple[ir.Value, ...]] = {}
    for node in list(model.graph):
        weights = fixed_weights(node)
        if weights is None:
            continue
        tape = ir.tape.Tape()
        if precision is Precision.FP16:
            product = _half_product(tape, model.graph, node, weights)
        else:
            product = _integer_product(tape, model.graph, node, weights, quantised)
        put_in_place(model.graph, node, tape, product)
    save(model, target)


def fixed_weights(node: ir.Node) -> NDArray[np.float32] | None:
    """[inputs, outputs] of a matrix product with weights; None for every other node."""
    if node.op_type != "MatMul" or node.inputs[1] is None or node.inputs[1].const_value is None:
        return None
    weights: NDArray[np.float32] = node.inputs[1].const_value.numpy()
    return weights if weights.ndim == 2 and min(weights.shape) >= _SMALLEST_SIDE else None


def _half_product(tape: ir.tape.Tape, graph: ir.Graph, node: ir.Node, weights: NDArray[np.float32]) -> ir.Value:
    half = tape.op("Cast", [node.inputs[0]], {"to": ir.DataType.FLOAT16})
    product = tape.op("MatMul", [half, constant(graph, node, "half", weights.astype(np.float16))])
    return tape.op("Cast", [product], {"to": ir.DataType.FLOAT})


def _integer_product(
    tape: ir.tape.Tape, graph: ir.Graph, node: ir.Node, weights: NDArray[np.float32],
    quantised: dict[ir.Value, tuple[ir.Value, ...]],
) -> ir.Value:
    """Weights in one scale per output; activations in one scale per call, found as they come. The nodes are those
    that ONNX Runtime fuses to one kernel. `quantised` keeps what several products share."""
    activations = node.inputs[0]
    assert activations is not None
    if activations not in quantised:
        quantised[activations] = tuple(tape.op_multi_out("DynamicQuantizeLinear", [activations], num_outputs=3))
    steps, step, zero = quantised[activations]
    weight_step = np.maximum(np.abs(weights).max(axis=0), np.finfo(np.float32).tiny) / np.float32(127)
    weight_steps = np.rint(weights / weight_step).astype(np.int8)
    total = tape.op("MatMulInteger", [steps, constant(graph, node, "int8", weight_steps), zero])
    scale = tape.op("Mul", [step, constant(graph, node, "step", weight_step)])
    return tape.op("Mul", [tape.op("Cast", [total], {"to": ir.DataType.FLOAT}), scale])


def constant(graph: ir.Graph, node: ir.Node, kind: str, values: NDArray[np.generic]) -> ir.Value:
    """`values` in place of a product's weights, under their name and `kind`; once, however many products share them."""
    replaced = node.inputs[1]
    assert replaced is not None  # only products with weights come here
    name = f"{replaced.name}.{kind}"
    if name not in graph.initializers:
        tensor = ir.tensor(values, name=name)
        graph.register_initializer(
            ir.Value(name=name, const_value=tensor, shape=ir.Shape(values.shape), type=ir.TensorType(tensor.dtype))
        )
    return graph.initializers[name]


def put_in_place(graph: ir.Graph, node: ir.Node, tape: ir.tape.Tape, product: ir.Value) -> None:
    """The new nodes stand where `node` was; whoever took its output takes `product`."""
    old, weights = node.outputs[0], node.inputs[1]
    assert weights is not None and weights.name is not None
    product.name, product.shape, product.type = old.name, old.shape, old.type
    old.name = None
    graph.insert_before(node, tape.nodes)
    ir.convenience.replace_all_uses_with(old, product, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    if not weights.uses():
        del graph.initializers[weights.name]
