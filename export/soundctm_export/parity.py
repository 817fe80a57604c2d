"""What a written graph is worth: is it valid, does it run at every size, does it say what PyTorch says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from soundctm_export.errors import BakedShapeError, ParityError
from soundctm_export.graphs import GraphPlan

_BATCHES = (1, 3)
HIGHEST_DB = 160  # of float32; equal arrays have no finite ratio


def check_file(plan: GraphPlan, path: Path) -> None:
    """ONNX's own checker, with strict shape inference. Raises ParityError."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ParityError(f"the {plan.role.value} graph is not valid ONNX: {error}") from error


def measured_snr_db(
    plan: GraphPlan, path: Path, lengths: Sequence[int], session: Any = None
) -> int:
    """The worst row's SNR, of every output, batches of 1 and 3 and the lengths (latent frames); in whole decibels,
    rounded down.

    `session`: what runs it, and speaks as ONNX Runtime's do; None: one of `path` on the CPU.

    Raises ParityError where names, shapes or finiteness differ, BakedShapeError where one of the sizes does not run.
    """
    session = session or onnxruntime.InferenceSession(str(path), quiet_options(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    wanted = [port.name for port in plan.outputs]
    if names != wanted or [i.name for i in session.get_inputs()] != [port.name for port in plan.inputs]:
        raise ParityError(f"the {plan.role.value} graph gives {names}; {wanted} was asked for")
    return math.floor(min(_ratios(plan, session, lengths)))


def _ratios(plan: GraphPlan, session: Any, lengths: Sequence[int]) -> Iterator[float]:
    for rows in _BATCHES:
        for frames in lengths:
            with torch.inference_mode():
                inputs = plan.inputs_for(rows, frames)
                expected = [tensor.numpy() for tensor in plan.reference(inputs)]
            arrays = {port.name: tensor.numpy() for port, tensor in zip(plan.inputs, inputs, strict=True)}
            size = f"{rows} rows of {frames} frames"
            try:
                found = session.run(None, arrays)
            except Exception as error:  # ONNX Runtime's own, which have no common root of a public name
                raise BakedShapeError(f"the {plan.role.value} graph does not run {size}: {error}") from error
            for port, one, other in zip(plan.outputs, expected, found, strict=True):
                if one.shape != other.shape or one.dtype != other.dtype or not np.isfinite(other).all():
                    raise ParityError(
                        f"the {plan.role.value} graph gives {port.name!r} as {other.dtype}{list(other.shape)} for "
                        f"{size}; PyTorch gives {one.dtype}{list(one.shape)}, all finite"
                    )
                yield from map(snr_db, one, other)  # row by row: a loud one must not hide what a soft one lost


def snr_db(expected: NDArray[np.floating], found: NDArray[np.floating]) -> float:
    """Of `found`, whose error is its difference from `expected`; at most HIGHEST_DB."""
    signal, error = (float(np.square(part.astype(np.float64)).sum()) for part in (expected, found - expected))
    return HIGHEST_DB if error == 0.0 else min(HIGHEST_DB, 10 * math.log10(max(signal, 1e-300) / error))


def quiet_options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # others may use the same cores
    return options
