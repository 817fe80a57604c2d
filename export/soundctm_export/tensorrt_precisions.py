"""Graphs whose types TensorRT keeps to: matrix products in fp16, bf16 or fp8, said by the graph itself.

TensorRT 11 knows no other way, and ONNX Runtime's provider keeps to a graph's types unless it is told otherwise. So
what a precision costs is measured on the CPU before any GPU is there; where ONNX Runtime's CPU provider cannot multiply
in a type, a twin of the graph rounds to it and multiplies in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from soundctm.exports import Role
from soundctm_export.exporter import save
from soundctm_export.graphs import GraphPlan
from soundctm_export.parity import quiet_options
from soundctm_export.parts import MOST_ROWS
from soundctm_export.precisions import constant, fixed_weights, put_in_place
from soundctm_export.tensorrt_settings import TensorRTPrecision

_FP8_LARGEST = 448.0  # of float8_e4m3fn

# Decoders and encoders stay in float32: their convolutions have TensorFloat-32.
_MADE_IN: Mapping[TensorRTPrecision, Mapping[Role, TensorRTPrecision]] = {
    TensorRTPrecision.FP32: {},
    TensorRTPrecision.FP16: dict.fromkeys((Role.TEXT, Role.JUMP), TensorRTPrecision.FP16),
    TensorRTPrecision.BF16: dict.fromkeys((Role.TEXT, Role.JUMP), TensorRTPrecision.BF16),
    TensorRTPrecision.FP8: {Role.TEXT: TensorRTPrecision.FP16, Role.JUMP: TensorRTPrecision.FP8},
}
_HALF = {
    TensorRTPrecision.FP16: (ir.DataType.FLOAT16, np.dtype(np.float16)),
    TensorRTPrecision.BF16: (ir.DataType.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
}
_TOLERANCE_DB: Mapping[TensorRTPrecision, int] = {
    TensorRTPrecision.FP32: 45,  # on TensorRT, whose float32 products may be TensorFloat-32
    TensorRTPrecision.FP16: 45,
    TensorRTPrecision.BF16: 30,
    TensorRTPrecision.FP8: 20,
}
_DECODING_DB = 20  # as for graphs: a vocoder that picks peaks may pick a neighbour for any rounding


def made_in(role: Role, asked: TensorRTPrecision) -> TensorRTPrecision:
    return _MADE_IN[asked].get(role, TensorRTPrecision.FP32)


def tolerance_db(role: Role, precision: TensorRTPrecision) -> int:
    return _TOLERANCE_DB[precision] - (_DECODING_DB if role is Role.DECODER else 0)


def convert(
    source: Path, target: Path, precision: TensorRTPrecision, largest: Mapping[str, float], *, rounded: bool = False
) -> None:
    """Write the float32 graph `source` in fp16, bf16 or fp8.

    `largest`: of fp8, see `largest_inputs`. `rounded`: the twin that a CPU runs. Raises OSError.
    """
    model = ir.load(source)
    for node in list(model.graph):
        weights = fixed_weights(node)
        if weights is None:
            continue
        tape = ir.tape.Tape()
        if precision is TensorRTPrecision.FP8:
            product = _eighth_product(tape, model.graph, node, weights, largest)
        else:
            product = _half_product(tape, model.graph, node, weights, precision, rounded)
        put_in_place(model.graph, node, tape, product)
    save(model, target)


def _half_product(
    tape: ir.tape.Tape, graph: ir.Graph, node: ir.Node, weights: NDArray[np.float32], precision: TensorRTPrecision,
    rounded: bool,
) -> ir.Value:  # fmt: skip
    kind, dtype = _HALF[precision]

    def to(value: ir.Value, kind: ir.DataType) -> ir.Value:
        return tape.op("Cast", [value], {"to": kind})

    activations = node.inputs[0]
    assert activations is not None
    half = weights.astype(dtype)
    if rounded:
        made = constant(graph, node, "rounded", half.astype(np.float32))
        product = tape.op("MatMul", [to(to(activations, kind), ir.DataType.FLOAT), made])
        return to(to(product, kind), ir.DataType.FLOAT)
    product = tape.op("MatMul", [to(activations, kind), constant(graph, node, precision.value, half)])
    return to(product, ir.DataType.FLOAT)


def _eighth_product(
    tape: ir.tape.Tape, graph: ir.Graph, node: ir.Node, weights: NDArray[np.float32], largest: Mapping[str, float]
) -> ir.Value:
    """One scale for the activations, found beforehand, and one for the weights, as TensorRT's fp8 kernels have them."""
    activations = node.inputs[0]
    assert activations is not None and activations.name is not None
    scales = [_scale(largest[activations.name]), _scale(float(np.abs(weights).max()))]
    zero = constant(graph, node, "zero", np.zeros((), ml_dtypes.float8_e4m3fn))
    activation_scale, weight_scale = (
        constant(graph, node, kind, scale) for kind, scale in zip(("activation_scale", "scale"), scales, strict=True)
    )
    stored = constant(graph, node, "fp8", (weights / scales[1]).astype(ml_dtypes.float8_e4m3fn))
    steps = tape.op("QuantizeLinear", [activations, activation_scale, zero])
    factors = [tape.op("DequantizeLinear", each) for each in ([steps, activation_scale], [stored, weight_scale])]
    return tape.op("MatMul", factors)


def _scale(largest: float) -> NDArray[np.float32]:
    return np.array(max(largest, float(np.finfo(np.float32).tiny)) / _FP8_LARGEST, np.float32)


def unoptimised(path: Path) -> onnxruntime.InferenceSession:
    """On the CPU, node by node: optimising would take roundings away that TensorRT makes."""
    options = quiet_options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def largest_inputs(plan: GraphPlan, path: Path, lengths: Sequence[int]) -> dict[str, float]:
    """By name, the largest absolute value that each matrix product's activations took over realistic inputs."""
    model = onnx.load(str(path), load_external_data=False)
    products = (node.inputs[0] for node in ir.load(path).graph if fixed_weights(node) is not None)
    names = sorted({str(activations.name) for activations in products if activations is not None})
    for name in names:
        model.graph.node.append(helper.make_node("Abs", [name], [f"{name}.abs"]))
        model.graph.node.append(helper.make_node("ReduceMax", [f"{name}.abs"], [f"{name}.largest"], keepdims=0))
        model.graph.output.append(helper.make_tensor_value_info(f"{name}.largest", TensorProto.FLOAT, []))
    probe = path.with_name(f"{path.stem}.probe.onnx")  # beside the weights, which it shares
    try:
        probe.write_bytes(model.SerializeToString())
        session = onnxruntime.InferenceSession(str(probe), quiet_options(), providers=["CPUExecutionProvider"])
        found = dict.fromkeys(names, 0.0)
        for frames in lengths:
            tensors = plan.inputs_for(MOST_ROWS, frames)
            arrays = {port.name: tensor.numpy() for port, tensor in zip(plan.inputs, tensors, strict=True)}
            for name, value in zip(names, session.run([f"{name}.largest" for name in names], arrays), strict=True):
                found[name] = max(found[name], float(value))
    finally:
        probe.unlink(missing_ok=True)
    return found
