"""How ONNX Runtime opens a graph on the TensorRT engine that was built of it. Never imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soundctm.engines.providers import RUNS_WITH, Provider
from soundctm.engines.tensorrt import (
    NOT_RUN,
    Builder,
    check_engine,
    graph_digest,
    provider_options,
    read_entry,
    wrapper_file,
)
from soundctm.engines.tensorrt_machine import this_machine
from soundctm.errors import GraphError
from soundctm.exports import Exports, Role


@dataclass(frozen=True)
class Opening:
    """`provider` must be among those used; `max_rows`: the largest batch, None: any."""

    path: Path
    provider: Provider
    providers: Sequence[Any]
    max_rows: int | None = None


def how_to_open(exports: Exports, role: Role, provider: Provider, onnxruntime: str) -> Opening:
    """A provider but TensorRT opens every graph as it is; TensorRT those it has an engine of, built on this machine.

    `onnxruntime`: that package's version.

    Raises GraphError, DigestMismatchError, ProviderMissingError.
    """
    path = exports.graph_file(role)
    if provider is not Provider.TENSORRT:
        return Opening(path, provider, [provider, *RUNS_WITH[provider]])
    entry = read_entry(exports.folder)
    if entry is None:
        raise GraphError(
            f"{exports.folder} holds graphs and no TensorRT engines ({NOT_RUN}). Build them here with `soundctm export "
            f"tensorrt {exports.folder} -o OUT`."
        )
    if role not in entry.engines:
        return Opening(path, Provider.CUDA, [Provider.CUDA, *RUNS_WITH[Provider.CUDA]])
    digest = graph_digest(exports.graphs[role].file, exports.files)
    own = check_engine(entry, role, digest, this_machine(onnxruntime), exports.folder)
    options = provider_options(role, entry.engines[role].profile, entry.options, own)
    opened = own / wrapper_file(role) if entry.options.builder is Builder.TENSORRT else path
    return Opening(opened, provider, [(provider, options), *RUNS_WITH[provider]], entry.max_rows)
