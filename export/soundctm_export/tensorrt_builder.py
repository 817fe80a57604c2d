"""The two ways to an engine: ONNX Runtime's TensorRT provider, and TensorRT's own builder. Not yet run on TensorRT.

Both get a strongly typed graph and one optimisation profile, and are handed in: nothing here imports them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from soundctm.engines.providers import Provider
from soundctm.engines.tensorrt import BuildOptions, Profile
from soundctm.engines.tensorrt_machine import Machine
from soundctm.errors import ProviderMissingError
from soundctm_export.errors import ExportError
from soundctm_export.parity import quiet_options

_STRONGLY_TYPED_BY_ITSELF = 11  # TensorRT's major version; before it, the network is asked to be
_MEGABYTE = 1 << 20


class EngineBuildError(ExportError):
    """TensorRT made no engine of a graph."""

    reason = "TENSORRT_BUILD"


@dataclass(frozen=True)
class Toolkit:
    """What builds and runs engines here: the packages, `tensorrt` None where ONNX Runtime builds."""

    machine: Machine
    onnxruntime: Any
    tensorrt: Any = None


def open_session(toolkit: Toolkit, path: Path, options: Mapping[str, Any]) -> Any:
    """On TensorRT; with ONNX Runtime's builder, opening it builds. Raises EngineBuildError, ProviderMissingError."""
    providers = [(Provider.TENSORRT.value, dict(options)), Provider.CUDA.value]
    try:
        session = toolkit.onnxruntime.InferenceSession(str(path), quiet_options(), providers=providers)
    except Exception as error:  # ONNX Runtime's own, which have no common root of a public name
        raise EngineBuildError(
            f"TensorRT {toolkit.machine.tensorrt} makes no engine of {path.name} on {toolkit.machine.gpu} ({error}). "
            "Nothing was written; try --precision fp32, a smaller --max-rows, or another --workspace-mb."
        ) from error
    used = session.get_providers()
    if Provider.TENSORRT.value not in used:
        raise ProviderMissingError(
            f"{Provider.TENSORRT.value} was not used for {path.name}; ONNX Runtime fell back to: {', '.join(used)}. "
            "Install TensorRT's libraries in the version that this ONNX Runtime was built with."
        )
    return session


def build_plan(
    trt: Any, graph: Path, profile: Profile, options: BuildOptions, timing_cache: bytes
) -> tuple[bytes, bytes]:
    """(the engine, the timing cache after it) by TensorRT's Python API, module `trt`. Raises EngineBuildError."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):  # by file, for weights that lie beside it
        said = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise EngineBuildError(f"TensorRT {trt.__version__} cannot read {graph.name} ({said}). Nothing was written.")
    config = builder.create_builder_config()
    config.builder_optimization_level = options.level
    if options.workspace_mb:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb * _MEGABYTE)
    shapes = builder.create_optimization_profile()
    for name, least in profile.least.items():
        shapes.set_shape(name, least, profile.best[name], profile.most[name])
    config.add_optimization_profile(shapes)
    cache = _timing_cache(config, timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineBuildError(
            f"TensorRT {trt.__version__} makes no engine of {graph.name}; its log says why. Nothing was written; try "
            "--precision fp32, a smaller --max-rows, or another --workspace-mb."
        )
    return bytes(plan), bytes(cache.serialize())


def _timing_cache(config: Any, serialized: bytes) -> Any:
    """One of another GPU or TensorRT is left aside for an empty one."""
    for data in (serialized, b""):
        cache = config.create_timing_cache(data)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            break
    return cache


def _network_flags(trt: Any) -> int:
    if int(str(trt.__version__).split(".")[0]) >= _STRONGLY_TYPED_BY_ITSELF:
        return 0
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def write_wrapper(graph: Path, engine: str, path: Path) -> None:
    """A graph of one node that names the finished `engine` beside it: so ONNX Runtime runs what TensorRT built."""
    like = onnx.load(str(graph), load_external_data=False).graph
    inputs, outputs = ([value.name for value in values] for values in (like.input, like.output))
    node = helper.make_node(
        "EPContext", inputs, outputs, domain="com.microsoft", main_context=1, embed_mode=0, ep_cache_context=engine,
        source=Provider.TENSORRT.value,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    made = helper.make_model(
        helper.make_graph([node], like.name, like.input, like.output), opset_imports=opsets, ir_version=10
    )
    path.write_bytes(made.SerializeToString(deterministic=True))
