"""Which opsets and precisions ONNX Runtime runs: asked of it, not remembered."""

from __future__ import annotations

import onnx
import onnxruntime
from onnx import TensorProto, helper

from soundctm_export.errors import OpsetError, PrecisionError
from soundctm_export.parity import quiet_options
from soundctm_export.settings import DEFAULT_OPSET, Precision

_OLDEST = 18      # of torch's exporter
_IR_VERSION = 10  # of the graphs that torch's exporter writes


def check_opset(opset: int) -> None:
    """Raises OpsetError where ONNX or ONNX Runtime, as installed, does not know it."""
    newest = next(number for number in range(onnx.defs.onnx_opset_version(), 0, -1) if _runs(number))
    if not _OLDEST <= opset <= newest:
        raise OpsetError(
            f"opset is {opset}; allowed: {_OLDEST} to {newest}, the newest that ONNX {onnx.__version__} and "
            f"ONNX Runtime {onnxruntime.__version__} both know. Choose one of these, or upgrade both packages."
        )


def check_precision(precision: Precision) -> None:
    """Raises PrecisionError where ONNX Runtime cannot multiply in it: its graphs could not be compared with PyTorch."""
    if precision is Precision.BF16 and not _loads("MatMul", DEFAULT_OPSET, TensorProto.BFLOAT16, operands=2):
        raise PrecisionError(
            f"precision is bf16, and ONNX Runtime {onnxruntime.__version__} has no bf16 matrix product on its CPU "
            "provider, where graphs are compared with PyTorch. Choose fp16, which is as small and nearer; in bf16 run "
            "the bundle with PyTorch itself, or with TensorRT."
        )


def _runs(opset: int) -> bool:
    return _loads("Identity", opset, TensorProto.FLOAT)


def _loads(operator: str, opset: int, kind: int, operands: int = 1) -> bool:
    names = ["x", "w"][:operands]
    values = [helper.make_tensor_value_info(name, kind, ["n", "n"]) for name in (*names, "y")]
    graph = helper.make_graph([helper.make_node(operator, names, ["y"])], "one", values[:-1], values[-1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=_IR_VERSION)
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), quiet_options(), providers=["CPUExecutionProvider"])
    except Exception:  # ONNX Runtime's own, which have no common root of a public name
        return False
    return True
