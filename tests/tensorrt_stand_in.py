"""Stand-ins for TensorRT's Python API and ONNX Runtime's provider, as they are documented.

What they are told is checked as those would check it; what runs is the graph itself, on the CPU.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime

from soundctm.engines.tensorrt_machine import Machine
from soundctm_export.tensorrt_builder import Toolkit

_OF_THE_CPU = onnxruntime.InferenceSession

H200 = Machine("NVIDIA H200", "9.0", "10.9.0", "1.31.1")

# Those of ONNX Runtime's documentation that this project hands over.
KNOWN_OPTIONS = {
    "device_id", "trt_engine_cache_enable", "trt_engine_cache_path", "trt_engine_cache_prefix",
    "trt_timing_cache_enable", "trt_timing_cache_path", "trt_builder_optimization_level", "trt_max_workspace_size",
    "trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes",
}  # fmt: skip


class StandInRuntime:
    """The module onnxruntime on a machine with TensorRT."""

    __version__ = H200.onnxruntime

    def __init__(self, *, used: Sequence[str] = (), keeps_engines: bool = True, gain: float = 1.0) -> None:
        """`used`: what sessions say they run on, by default what they were given. `gain`: by how much engines err."""
        self.used, self.keeps_engines, self.gain = tuple(used), keeps_engines, gain
        self.opened: list[tuple[str, Mapping[str, Any]]] = []
        self.refuses = ""
        self.InferenceSession = self._session

    def _session(self, path: str, options: Any, providers: Sequence[Any]) -> Any:
        (name, told), *others = providers
        assert name == "TensorrtExecutionProvider" and "CUDAExecutionProvider" in others
        assert set(told) <= KNOWN_OPTIONS
        if self.refuses:
            raise RuntimeError(self.refuses)
        self.opened.append((Path(path).name, told))
        graph = finished_graph(Path(path))
        if graph is None:
            graph = Path(path)
            check_profile(graph, told)
            if self.keeps_engines:
                engine = Path(told["trt_engine_cache_path"]) / f"{told['trt_engine_cache_prefix']}_1_sm90.engine"
                engine.write_bytes(graph.name.encode())
        used = list(self.used) or [name, *others]
        return StandInSession(graph, used, self.gain)


class StandInSession:
    def __init__(self, graph: Path, used: list[str], gain: float) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = _OF_THE_CPU(str(graph), options, providers=["CPUExecutionProvider"])
        self._used, self._gain = used, gain
        self.get_inputs, self.get_outputs = self._session.get_inputs, self._session.get_outputs

    def get_providers(self) -> list[str]:
        return self._used

    def run(self, names: Any, arrays: Any) -> list[Any]:
        return [
            (array * self._gain).astype(array.dtype) if array.dtype == np.float32 else array
            for array in self._session.run(names, arrays)
        ]


def finished_graph(path: Path) -> Path | None:
    """Of a graph that names a finished engine, the one that it was built of; None for any other."""
    (node, *_) = onnx.load(str(path), load_external_data=False).graph.node
    if node.op_type != "EPContext":
        return None
    told = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    assert node.domain == "com.microsoft" and told["main_context"] == 1 and told["embed_mode"] == 0
    engine = Path(told["ep_cache_context"].decode())
    assert not engine.is_absolute() and ".." not in engine.parts  # ONNX Runtime refuses others
    return path.parents[2] / (path.parent / engine).read_bytes().decode()


def shapes_of(text: str) -> dict[str, tuple[int, ...]]:
    parts = (part.split(":") for part in text.split(","))
    return {name: tuple(map(int, sizes.split("x"))) for name, sizes in parts}


def check_profile(graph: Path, told: Mapping[str, Any]) -> None:
    """ONNX Runtime asks for all inputs that vary, and that they fit."""
    points = [shapes_of(told[f"trt_profile_{point}_shapes"]) for point in ("min", "opt", "max")]
    for value in onnx.load(str(graph), load_external_data=False).graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            least, best, most = (point[value.name][axis] for point in points)
            assert 0 < least <= best <= most
            if dim.dim_value:
                assert least == most == dim.dim_value


class StandInTensorRT:
    """The module tensorrt; `parses` and `builds` say whether it can."""

    class MemoryPoolType(enum.Enum):
        WORKSPACE = enum.auto()

    class NetworkDefinitionCreationFlag(enum.IntEnum):
        EXPLICIT_BATCH = 0
        STRONGLY_TYPED = 1

    class Logger:
        ERROR = "error"

        def __init__(self, severity: str) -> None:
            assert severity == self.ERROR

    def __init__(self, version: str = "10.9.0.34", *, parses: bool = True, builds: bool = True) -> None:
        self.__version__, self.parses, self.builds = version, parses, builds
        self.flags: list[int] = []
        self.configs: list[SimpleNamespace] = []
        self.caches: list[bytes] = []
        self.Builder, self.OnnxParser = self._builder, self._parser

    def _builder(self, logger: Logger) -> Any:
        return SimpleNamespace(
            create_network=self._network,
            create_builder_config=self._config,
            create_optimization_profile=_StandInProfile,
            build_serialized_network=self._built,
        )

    def _parser(self, network: SimpleNamespace, logger: Logger) -> Any:
        def parse_from_file(path: str) -> bool:
            network.graph = path
            return self.parses

        errors = [] if self.parses else ["no importer for Rope", "in node 7"]
        return SimpleNamespace(
            parse_from_file=parse_from_file, num_errors=len(errors), get_error=lambda index: errors[index]
        )

    def _network(self, flags: int) -> SimpleNamespace:
        self.flags.append(flags)
        return SimpleNamespace()

    def _config(self) -> SimpleNamespace:
        config = SimpleNamespace(profiles=[], pools={}, cache=None)
        config.add_optimization_profile = lambda profile: config.profiles.append(profile.shapes)
        config.set_memory_pool_limit = config.pools.__setitem__
        config.create_timing_cache = _StandInCache
        config.set_timing_cache = lambda cache, ignore_mismatch: self._take_cache(config, cache)
        self.configs.append(config)
        return config

    def _take_cache(self, config: SimpleNamespace, cache: _StandInCache) -> bool:
        if cache.data == b"of another GPU":
            return False
        self.caches.append(cache.data)
        config.cache = cache
        return True

    def _built(self, network: SimpleNamespace, config: SimpleNamespace) -> bytes | None:
        config.cache.data += b"+" + Path(network.graph).stem.encode()
        return Path(network.graph).name.encode() if self.builds else None


class _StandInCache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return self.data


class _StandInProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

    def set_shape(self, name: str, least: Any, best: Any, most: Any) -> None:
        if any(not small <= middle <= large for small, middle, large in zip(least, best, most, strict=True)):
            raise ValueError("inconsistent shapes")
        self.shapes[name] = (least, best, most)


def toolkit(runtime: StandInRuntime | None = None, trt: StandInTensorRT | None = None) -> Toolkit:
    return Toolkit(H200, runtime or StandInRuntime(), trt)
