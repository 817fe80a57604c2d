"""Which opsets ONNX Runtime runs: asked of it, not remembered."""

from __future__ import annotations

import onnx
import onnxruntime
from onnx import TensorProto, helper

from soundctm_export.errors import OpsetError
from soundctm_export.parity import quiet_options

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


def _runs(opset: int) -> bool:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    same = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", [value], [same])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=_IR_VERSION)
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), quiet_options(), providers=["CPUExecutionProvider"])
    except Exception:  # ONNX Runtime's own, which have no common root of a public name
        return False
    return True
