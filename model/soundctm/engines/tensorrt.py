"""TensorRT engines beside exported graphs: what `exports.json` says of them, and whether they fit this machine.

An engine is built once, by `soundctm export tensorrt`, for one GPU, one TensorRT and one range of shapes; loading never
builds. No torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from soundctm.bundle import sha256_file
from soundctm.engines.tensorrt_machine import Machine
from soundctm.errors import BundleError, DigestMismatchError, GraphError
from soundctm.exports import EXPORTS, Role

ENTRY = "tensorrt"       # of exports.json
ENGINES_DIR = "tensorrt"  # beside the graphs; in it a folder per key
NOT_RUN = "not yet run on TensorRT"

_KEY_CHARS = 32
_MEGABYTE = 1 << 20

Shapes = Mapping[str, tuple[int, ...]]  # by the names of a graph's inputs


class Builder(StrEnum):
    """Who makes engines of graphs."""

    ONNXRUNTIME = "onnxruntime"  # its TensorRT provider, which also runs them
    TENSORRT = "tensorrt"        # TensorRT's own; ONNX Runtime runs what it made


@dataclass(frozen=True)
class Profile:
    """The shapes an engine takes: from `least` to `most`; it is fastest at `best`."""

    least: Shapes
    best: Shapes
    most: Shapes


@dataclass(frozen=True)
class BuildOptions:
    """`level`: how long TensorRT searches, 0 to 5. `workspace_mb`: the GPU memory it may use meanwhile; 0: all."""

    builder: Builder = Builder.ONNXRUNTIME
    level: int = 3
    workspace_mb: int = 0


@dataclass(frozen=True)
class EngineRecord:
    """One graph's engine. `files` maps what lies in the key's folder to its sha256.

    `key` and `snr_db`, against PyTorch, are None until it was built and run.
    """

    profile: Profile
    graph_digest: str
    key: str | None = None
    snr_db: int | None = None
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class TensorRTExports:
    """`machine` None: prepared, not built. `left_out` says of graphs without an engine why they have none."""

    options: BuildOptions
    max_rows: int
    machine: Machine | None
    engines: Mapping[Role, EngineRecord]
    left_out: Mapping[Role, str]

    @property
    def status(self) -> str:
        if self.machine is None:
            return NOT_RUN
        return f"run on {self.machine.gpu} with TensorRT {self.machine.tensorrt}"

    def to_json(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "options": dataclasses.asdict(self.options),
            "max_rows": self.max_rows,
            "machine": None if self.machine is None else dataclasses.asdict(self.machine),
            "engines": {role.value: dataclasses.asdict(record) for role, record in sorted(self.engines.items())},
            "left_out": {role.value: why for role, why in sorted(self.left_out.items())},
        }


def graph_digest(file: str, files: Mapping[str, str]) -> str:
    """Of a graph and its weights, from the checksums that `exports.json` holds."""
    own = {name: digest for name, digest in files.items() if name == file or name.startswith(f"{file}.")}
    return _digest(own)


def cache_key(machine: Machine, graph: str, profile: Profile, options: BuildOptions) -> str:
    """Names an engine: equal keys, equal engines. `graph`: see `graph_digest`."""
    machine_options_profile = [dataclasses.asdict(machine), dataclasses.asdict(options), dataclasses.asdict(profile)]
    return _digest({"graph": graph, "for": machine_options_profile})[:_KEY_CHARS]


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def provider_options(role: Role, profile: Profile, options: BuildOptions, folder: Path) -> dict[str, Any]:
    """Of ONNX Runtime's TensorRT provider; `folder` is the key's.

    No option asks for a precision: without one the provider keeps to the types that the graph itself names, which is
    also all that TensorRT 11 does.
    """
    found: dict[str, Any] = {"device_id": 0}
    if options.builder is Builder.TENSORRT:
        return found
    shapes = {"min": profile.least, "opt": profile.best, "max": profile.most}
    found |= {
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(folder),
        "trt_engine_cache_prefix": role.value,
        "trt_builder_optimization_level": options.level,
    }
    if options.workspace_mb:
        found["trt_max_workspace_size"] = options.workspace_mb * _MEGABYTE
    return found | {f"trt_profile_{name}_shapes": shown_shapes(each) for name, each in shapes.items()}


def timing_options(options: BuildOptions, folder: Path) -> dict[str, Any]:
    """Further ones while ONNX Runtime builds: `folder` keeps how fast each kernel was."""
    if options.builder is Builder.TENSORRT:
        return {}
    return {"trt_timing_cache_enable": True, "trt_timing_cache_path": str(folder)}


def wrapper_file(role: Role) -> str:
    """In the key's folder: what ONNX Runtime opens of an engine that TensorRT's own builder made."""
    return f"{role.value}.onnx"


def shown_shapes(shapes: Shapes) -> str:
    """As ONNX Runtime reads them: `z:1x40x22,t:1`."""
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())


def write_entry(folder: Path, entry: TensorRTExports) -> None:
    """Add to `exports.json`, which lists the graphs already. Raises OSError."""
    path = folder / EXPORTS
    data = json.loads(path.read_bytes()) | {ENTRY: entry.to_json()}
    path.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_entry(folder: Path) -> TensorRTExports | None:
    """None where no engines were built or prepared. Raises BundleError."""
    path = folder / EXPORTS
    try:
        data = json.loads(path.read_bytes()).get(ENTRY)
        return None if data is None else _from_json(data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(
            f"{path} says nothing valid of TensorRT engines ({error}). Make them again with `soundctm export tensorrt`."
        ) from error


def _from_json(data: dict[str, Any]) -> TensorRTExports:
    options, machine = data["options"], data["machine"]
    if not isinstance(data["max_rows"], int) or data["max_rows"] < 1:
        raise ValueError(f"max_rows is {data['max_rows']!r}; allowed: whole numbers from 1")
    return TensorRTExports(
        BuildOptions(**{**options, "builder": Builder(options["builder"])}),
        data["max_rows"],
        None if machine is None else Machine(**machine),
        {Role(name): _record(record) for name, record in data["engines"].items()},
        {Role(name): str(why) for name, why in data["left_out"].items()},
    )


def _record(data: dict[str, Any]) -> EngineRecord:
    profile = {
        point: {name: tuple(int(size) for size in shape) for name, shape in shapes.items()}
        for point, shapes in data["profile"].items()
    }
    record = EngineRecord(**{**data, "profile": Profile(**profile)})
    if any(Path(name).name != name for name in (*record.files, record.key or "") if name):
        raise ValueError("it names a file outside its folder")
    return record


def check_engine(entry: TensorRTExports, role: Role, graph: str, machine: Machine, folder: Path) -> Path:
    """The folder of an engine that is this machine's and unaltered.

    `graph`: see `graph_digest`; `folder` holds the graphs. Raises GraphError where it was built for something else or
    never, DigestMismatchError.
    """
    record = entry.engines[role]
    again = f"Run `soundctm export tensorrt {folder} -o OUT` here."
    if entry.machine is None or record.key is None:
        raise GraphError(f"the {role.value} engine of {folder} is prepared, {NOT_RUN}. {again}")
    if record.graph_digest != graph:
        raise GraphError(f"the {role.value} engine of {folder} was built from another graph than lies there. {again}")
    key = cache_key(machine, graph, record.profile, entry.options)
    if key != record.key:
        raise GraphError(
            f"the {role.value} engine of {folder} is not for this machine: "
            f"{_differences(entry.machine, machine) or 'its options were altered'}. {again}"
        )
    own = folder / ENGINES_DIR / key
    for name, expected in sorted(record.files.items()):
        path = own / name
        found = sha256_file(path) if path.is_file() else "that of no file: it is missing"
        if found != expected:
            raise DigestMismatchError(path, expected, found)
    return own


def _differences(built: Machine, here: Machine) -> str:
    old, new = dataclasses.asdict(built), dataclasses.asdict(here)
    return "; ".join(f"{name} was {old[name]}, is {new[name]}" for name in old if old[name] != new[name])
