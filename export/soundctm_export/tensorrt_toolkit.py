"""What builds TensorRT engines on this machine, or why nothing does."""

from __future__ import annotations

import importlib

from soundctm.engines.providers import Provider, missing_provider
from soundctm.engines.tensorrt import Builder
from soundctm.engines.tensorrt_machine import this_machine
from soundctm.errors import ProviderMissingError
from soundctm_export.errors import MissingPackageError
from soundctm_export.tensorrt_builder import Toolkit

_INSTEAD = "Or leave the engines to a machine that has one: --prepare makes all but them."


def find_toolkit(builder: Builder) -> Toolkit:
    """Raises ProviderMissingError without provider, GPU or TensorRT's libraries; MissingPackageError."""
    missing = missing_provider(Provider.TENSORRT)
    if missing:
        raise ProviderMissingError(
            f"engines run on ONNX Runtime's {Provider.TENSORRT.value}, which cannot be had: {missing}. On a machine "
            f"with an NVIDIA GPU run `pip install 'soundctm-daw[gpu]' onnxscript tensorrt`. {_INSTEAD}"
        )
    import onnxruntime

    try:
        package = importlib.import_module("tensorrt") if builder is Builder.TENSORRT else None
    except ImportError as error:
        raise MissingPackageError(
            f"--builder {builder.value} needs the package tensorrt ({error}). Run `pip install tensorrt`, or choose "
            f"--builder {Builder.ONNXRUNTIME.value}."
        ) from error
    try:
        return Toolkit(this_machine(onnxruntime.__version__), onnxruntime, package)
    except ProviderMissingError as error:
        raise ProviderMissingError(f"{error} {_INSTEAD}") from error
