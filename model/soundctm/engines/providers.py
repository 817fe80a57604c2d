"""Where ONNX Runtime can compute. It is imported when it is asked, not before."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Provider(StrEnum):
    """Where ONNX Runtime computes; the values are its own names."""

    CPU = "CPUExecutionProvider"
    CUDA = "CUDAExecutionProvider"
    TENSORRT = "TensorrtExecutionProvider"


# What may run the nodes that a provider has no kernel for.
RUNS_WITH: Mapping[Provider, tuple[Provider, ...]] = {
    Provider.CPU: (),
    Provider.CUDA: (Provider.CPU,),
    Provider.TENSORRT: (Provider.CUDA, Provider.CPU),
}


def missing_provider(provider: Provider) -> str:
    """Why a provider cannot be had, as far as it can be told without a graph; empty where it can."""
    try:
        import onnxruntime
    except ImportError as error:
        return (
            f"the package onnxruntime cannot be imported ({error}); run `pip install 'soundctm-daw[cpu]'` or "
            "`'soundctm-daw[gpu]'`"
        )
    available = onnxruntime.get_available_providers()
    return "" if provider in available else f"this ONNX Runtime has: {', '.join(available)}"
