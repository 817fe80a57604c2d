"""Graphs in ONNX Runtime: where they run, and how they fail. Never imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundctm.engines.providers import Provider, missing_provider
from soundctm.engines.tensorrt_graphs import Opening, how_to_open
from soundctm.errors import GraphError, OutOfMemoryError, ProviderMissingError
from soundctm.exports import Exports, Role

_OUT_OF_MEMORY = ("failed to allocate memory", "bad_alloc", "bad allocation", "out of memory")

Arrays = Mapping[str, NDArray[Any]]  # by the names of a graph's inputs or outputs


class Graph:
    """A session whose inputs and outputs go by name.

    `max_rows`: the largest batch it takes, None: any. Larger ones run in parts; then every input has its rows first.
    """

    def __init__(self, role: Role, session: Any, max_rows: int | None = None) -> None:
        self.role, self._session, self._max_rows = role, session, max_rows
        self.inputs = {value.name: value for value in session.get_inputs()}
        self.outputs = [value.name for value in session.get_outputs()]

    def __call__(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Raises OutOfMemoryError, GraphError."""
        most = self._max_rows
        rows = 0 if most is None else max(len(value) for value in inputs.values())
        if most is None or rows <= most:
            return self._run(inputs)
        parts = [
            self._run({name: value[start : start + most] for name, value in inputs.items()})
            for start in range(0, rows, most)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}

    def _run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        try:
            return dict(zip(self.outputs, self._session.run(None, dict(inputs)), strict=True))
        except MemoryError as error:
            raise _out_of_memory(error) from error
        except Exception as error:  # ONNX Runtime's own, which have no common root of a public name
            if any(sign in str(error).lower() for sign in _OUT_OF_MEMORY):
                raise _out_of_memory(error) from error
            raise GraphError(f"the {self.role.value} graph failed ({error}). Export the bundle again.") from error


def open_graph(exports: Exports, role: Role, provider: Provider, threads: int | None, allow_cpu: bool) -> Graph:
    """Raises ProviderMissingError unless the provider is used, or `allow_cpu`; GraphError."""
    missing = missing_provider(provider)
    if missing:
        if not allow_cpu or missing_provider(Provider.CPU):
            raise _provider_missing(provider, missing)
        provider = Provider.CPU
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; what matters of the warnings is asserted below
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a DAW keeps the same cores busy
    if threads is not None:
        options.intra_op_num_threads = threads
    opening = _opening(exports, role, provider, allow_cpu)
    try:
        session = onnxruntime.InferenceSession(str(opening.path), options, providers=opening.providers)
    except Exception as error:  # ONNX Runtime's own, which have no common root of a public name
        raise GraphError(
            f"{opening.path} cannot be loaded by ONNX Runtime {onnxruntime.__version__} on {opening.provider.value} "
            f"({error}). It was exported at opset {exports.graphs[role].opset}: upgrade ONNX Runtime, or export again "
            "with a smaller one."
        ) from error
    used = session.get_providers()
    if opening.provider not in used and not allow_cpu:
        raise _provider_missing(opening.provider, f"ONNX Runtime fell back to: {', '.join(used)}")
    return Graph(role, session, opening.max_rows)


def _opening(exports: Exports, role: Role, provider: Provider, allow_cpu: bool) -> Opening:
    import onnxruntime

    try:
        return how_to_open(exports, role, provider, onnxruntime.__version__)
    except ProviderMissingError:  # the GPU wheel names its providers where no GPU is
        if not allow_cpu:
            raise
        return how_to_open(exports, role, Provider.CPU, onnxruntime.__version__)


def _provider_missing(provider: Provider, what: str) -> ProviderMissingError:
    return ProviderMissingError(
        f"{provider.value} cannot be had; {what}. Install its libraries (`pip install 'soundctm-daw[gpu]'`), choose "
        "another provider, or allow the CPU."
    )


def _out_of_memory(error: BaseException) -> OutOfMemoryError:
    return OutOfMemoryError(
        f"the device has no memory left for this clip ({error}). Ask for a shorter one, or free memory."
    )
