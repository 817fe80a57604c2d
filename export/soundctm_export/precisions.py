"""Graphs in other precisions, made from the float32 ones, and how near to PyTorch each must stay.

Matrix products with fixed weights are what a network takes its time for, and all that is changed: levels, norms,
attention scores and every input and output stay float32. Products of vectors (Gemm) stay too: they cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from soundctm.exports import Role
from soundctm_export.calibration import Ranges
from soundctm_export.exporter import save
from soundctm_export.packed import packed
from soundctm_export.settings import Precision

# Others lose too much: in int8, 16 dB are left of MiniLM, whose few large activations take all the steps, and 8 dB of a
# decoder. They take little of a clip's time.
_CONVERTED: Mapping[Precision, tuple[Role, ...]] = {
    Precision.FP32: (),
    Precision.FP16: (Role.TEXT, Role.JUMP),
    Precision.BF16: (Role.TEXT, Role.JUMP),
    Precision.INT8: (Role.JUMP,),
    Precision.W8A8: (Role.JUMP,),
    Precision.W8: (Role.JUMP,),
    Precision.INT4: (Role.JUMP,),
}
# What rounding to so many bits leaves of one product, less a few decibels for a network of them: 11 bits of fp16 are
# worth 70 dB, 8 of bf16 50; 255 steps over the widest of one call's values 38, over the widest of all calls 33, over a
# block's 45; 15 steps over a block's 21. What misses these is a broken graph, not a rounded one.
_TOLERANCE_DB: Mapping[Precision, int] = {
    Precision.FP32: 90,
    Precision.FP16: 45,
    Precision.BF16: 32,
    Precision.INT8: 30,
    Precision.W8A8: 22,
    Precision.W8: 34,
    Precision.INT4: 14,
}

_DECODING_DB = 20  # a vocoder that picks peaks may pick a neighbour for a rounding in the seventh digit
_SMALLEST_SIDE = 32  # of weights that are converted: noise levels pass through matrices of one row, in full precision
_BLOCK = {Precision.W8: 128, Precision.INT4: 32}  # inputs that share a scale; w8 in smaller ones is slower
_BITS = {Precision.W8: 8, Precision.INT4: 4}
_INTEGER_ACCUMULATION = 4  # MatMulNBits' accuracy level that rounds activations to 8 bits, block by block
_CONTRIB_DOMAIN = "com.microsoft"


def precision_of(role: Role, asked: Precision) -> Precision:
    """What a graph is made in when an export is asked for in a precision."""
    return asked if role in _CONVERTED[asked] else Precision.FP32


def tolerance_db(role: Role, precision: Precision) -> int:
    """Of a preview, against its own two graphs."""
    if role in (Role.DECODER, Role.PREVIEW):
        return _TOLERANCE_DB[Precision.FP32] - _DECODING_DB
    return _TOLERANCE_DB[precision]


def convert(source: Path, target: Path, precision: Precision, ranges: Ranges | None = None) -> None:
    """Write the float32 graph `source` in another precision; w8a8 needs the ranges of its `activations`.

    Raises OSError.
    """
    model = ir.load(source)
    if precision in _BITS:
        model.graph.opset_imports[_CONTRIB_DOMAIN] = 1
    shared = _Shared(ranges or {})
    for node in _converted_nodes(model.graph, precision):
        weights, tape = fixed_weights(node), ir.tape.Tape()
        assert weights is not None
        product = _PRODUCTS[precision](_Product(precision, tape, model.graph, node, weights), shared)
        put_in_place(model.graph, node, tape, product)
    save(model, target)


def _converted_nodes(graph: ir.Graph, precision: Precision) -> list[ir.Node]:
    """Products with weights. In few bits, not the first and the last: through these latents come and go, and their
    rounding is the clip's. They are small, and the starter's int8 gains 3.5 dB."""
    products = [node for node in graph if fixed_weights(node) is not None]
    return products if precision in (Precision.FP16, Precision.BF16) else products[1:-1]


def activations(source: Path) -> list[str]:
    """Names of what products with weights take. Raises OSError."""
    products = (node for node in ir.load(source).graph if fixed_weights(node) is not None)
    return sorted({value.name for node in products if (value := node.inputs[0]) is not None and value.name is not None})


def fixed_weights(node: ir.Node) -> NDArray[np.float32] | None:
    """[inputs, outputs] of a matrix product with weights; None for every other node."""
    if node.op_type != "MatMul" or node.inputs[1] is None or node.inputs[1].const_value is None:
        return None
    weights: NDArray[np.float32] = node.inputs[1].const_value.numpy()
    return weights if weights.ndim == 2 and min(weights.shape) >= _SMALLEST_SIDE else None


@dataclass(frozen=True)
class _Product:
    """A matrix product with weights [inputs, outputs] that is to become another; its nodes go onto the tape."""

    precision: Precision
    tape: ir.tape.Tape
    graph: ir.Graph
    node: ir.Node
    weights: NDArray[np.float32]

    @property
    def activations(self) -> ir.Value:
        value = self.node.inputs[0]
        assert value is not None
        return value

    def constant(self, kind: str, values: NDArray[np.generic]) -> ir.Value:
        return constant(self.graph, self.node, kind, values)


@dataclass(frozen=True)
class _Shared:
    """What several products of one graph share: activations that were rounded already."""

    ranges: Ranges
    rounded: dict[ir.Value, tuple[ir.Value, ...]] = field(default_factory=dict)


def _half_product(product: _Product, shared: _Shared) -> ir.Value:
    bfloat = product.precision is Precision.BF16
    half = product.tape.op(
        "Cast", [product.activations], {"to": ir.DataType.BFLOAT16 if bfloat else ir.DataType.FLOAT16}
    )
    weights = product.weights.astype(ml_dtypes.bfloat16 if bfloat else np.float16)
    total = product.tape.op("MatMul", [half, product.constant("half", weights)])
    return product.tape.op("Cast", [total], {"to": ir.DataType.FLOAT})


def _integer_product(product: _Product, shared: _Shared) -> ir.Value:
    """Weights in one scale per output; activations in one scale per call, found as they come. The nodes are those
    that ONNX Runtime fuses to one kernel."""
    tape, given = product.tape, product.activations
    if given not in shared.rounded:
        shared.rounded[given] = tuple(tape.op_multi_out("DynamicQuantizeLinear", [given], num_outputs=3))
    steps, step, zero = shared.rounded[given]
    weight_steps, weight_step = _by_output(product.weights)
    total = tape.op("MatMulInteger", [steps, product.constant("int8", weight_steps), zero])
    scale = tape.op("Mul", [step, product.constant("step", weight_step)])
    return tape.op("Mul", [tape.op("Cast", [total], {"to": ir.DataType.FLOAT}), scale])


def _calibrated_product(product: _Product, shared: _Shared) -> ir.Value:
    """The same, activations in one scale for all calls, in the QDQ form that runtimes recognise."""
    tape, given = product.tape, product.activations
    assert given.name is not None
    if given not in shared.rounded:
        low, high = shared.ranges[given.name]
        size = max((high - low) / 255, 1e-30)
        levels = (
            product.constant(f"scale.of.{given.name}", np.array(size, np.float32)),
            product.constant(f"zero.of.{given.name}", np.array(round(-low / size), np.uint8)),
        )
        steps = tape.op("QuantizeLinear", [given, *levels])
        shared.rounded[given] = (tape.op("DequantizeLinear", [steps, *levels]),)
    weight_steps, weight_step = _by_output(product.weights)
    stored = [product.constant("int8", weight_steps), product.constant("step", weight_step)]
    return tape.op("MatMul", [*shared.rounded[given], tape.op("DequantizeLinear", stored, {"axis": 1})])


def _packed_product(product: _Product, shared: _Shared) -> ir.Value:
    bits, block = _BITS[product.precision], _BLOCK[product.precision]
    small = packed(product.weights, bits, block)
    steps = product.constant("steps", small.steps)
    scales, zeros = product.constant("scales", small.scales), product.constant("zeros", small.zeros)
    inputs, outputs = product.weights.shape
    return product.tape.op(
        "MatMulNBits",
        [product.activations, steps, scales, zeros],
        {"K": inputs, "N": outputs, "bits": bits, "block_size": block, "accuracy_level": _INTEGER_ACCUMULATION},
        domain=_CONTRIB_DOMAIN,
    )


_PRODUCTS: Mapping[Precision, Callable[[_Product, _Shared], ir.Value]] = {
    Precision.FP16: _half_product,
    Precision.BF16: _half_product,
    Precision.INT8: _integer_product,
    Precision.W8A8: _calibrated_product,
    Precision.W8: _packed_product,
    Precision.INT4: _packed_product,
}


def _by_output(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Steps [inputs, outputs] and the size of a step [outputs]."""
    step = np.maximum(np.abs(weights).max(axis=0), np.finfo(np.float32).tiny) / np.float32(127)
    return np.rint(weights / step).astype(np.int8), step


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
