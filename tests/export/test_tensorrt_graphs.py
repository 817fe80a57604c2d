"""Profiles, precisions and cache keys of TensorRT engines, and how an engine is found again. No GPU takes part."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from soundctm.bundle import open_bundle
from soundctm.engines.onnx import load_engine
from soundctm.engines.onnx_graphs import Graph
from soundctm.engines.providers import Provider
from soundctm.engines.tensorrt import (
    ENGINES_DIR,
    Builder,
    BuildOptions,
    Profile,
    cache_key,
    graph_digest,
    provider_options,
    read_entry,
    shown_shapes,
    timing_options,
)
from soundctm.engines.tensorrt_graphs import how_to_open
from soundctm.engines.tensorrt_machine import Machine, this_machine
from soundctm.errors import BundleError, DigestMismatchError, GraphError, ProviderMissingError
from soundctm.exports import EXPORTS, REQUIRED, Exports, Role, read_exports
from soundctm.recipe import Recipe
from soundctm.render import render
from soundctm_export.errors import ExportError, MissingPackageError
from soundctm_export.graphs import GraphPlan, graph_plans
from soundctm_export.parity import check_file, measured_snr_db, snr_db
from soundctm_export.parts import Parts, load_parts
from soundctm_export.tensorrt import export_tensorrt
from soundctm_export.tensorrt_precisions import convert, largest_inputs, tolerance_db, unoptimised
from soundctm_export.tensorrt_profiles import Span, profile_of, spans, why_left_out
from soundctm_export.tensorrt_settings import TensorRTPrecision, TensorRTSettings
from soundctm_export.tensorrt_toolkit import find_toolkit
from tensorrt_stand_in import H200, StandInRuntime, StandInTensorRT, toolkit

PROFILE = Profile({"z": (1, 4, 22)}, {"z": (1, 4, 432)}, {"z": (32, 4, 432)})


@pytest.fixture(autouse=True)
def _no_machine_known() -> Iterator[None]:
    this_machine.cache_clear()
    yield
    this_machine.cache_clear()


@pytest.fixture(scope="module")
def parts(tiniest_bundle_dir: Path) -> Parts:
    return load_parts(open_bundle(tiniest_bundle_dir))


@pytest.fixture(scope="module")
def jump(parts: Parts) -> GraphPlan:
    with torch.inference_mode():
        return next(plan for plan in graph_plans(parts) if plan.role is Role.JUMP)


def test_a_profile_spans_the_bundles_durations_and_the_largest_batch(parts: Parts, exported_tiny_dir: Path) -> None:
    exports = read_exports(open_bundle(exported_tiny_dir))
    assert exports is not None
    spec, tiling = parts.spec, exports.tiling
    shortest, longest = spec.latent_frames(spec.ranges.min_seconds), spec.latent_frames(spec.ranges.max_seconds)
    profile = profile_of(exports.graph_file(Role.DECODER), spans(spec, tiling, Role.DECODER, 16))
    tile = min(longest, tiling.tile_frames + 2 * tiling.halo_frames)
    assert [shapes["latent"] for shapes in (profile.least, profile.best, profile.most)] == [
        (1, 4, shortest), (1, 4, tile), (16, 4, longest)
    ]  # fmt: skip
    profile = profile_of(exports.graph_file(Role.ENCODER), spans(spec, tiling, Role.ENCODER, 16))
    assert profile.most == {"audio": (16, 1, longest * spec.codec.hop_samples)}
    profile = profile_of(exports.graph_file(Role.JUMP), spans(spec, tiling, Role.JUMP, 16))
    inputs = onnx.load(str(exports.graph_file(Role.JUMP)), load_external_data=False).graph.input
    assert set(profile.least) == {value.name for value in inputs}  # TensorRT asks for all that vary
    assert profile.best["t"] == (1,) and profile.most["t"] == (16,)


def small_graph(path: Path, axis: str, kind: int = TensorProto.FLOAT) -> Path:
    ports = [helper.make_tensor_value_info(name, kind, [axis]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", ports[:1], ports[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))
    return path


def test_an_axis_that_nothing_is_known_of_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="axis 'words' of 'x'; known: batch"):
        profile_of(small_graph(tmp_path / "g.onnx", "words"), {"batch": Span(1, 1, 4)})


def test_what_tensorrt_would_compute_coarser_gets_no_engine(tmp_path: Path) -> None:
    assert "float64" in why_left_out(small_graph(tmp_path / "double.onnx", "batch", TensorProto.DOUBLE))
    assert not why_left_out(small_graph(tmp_path / "float.onnx", "batch"))


def test_options_are_told_as_onnx_runtime_reads_them(tmp_path: Path) -> None:
    told = provider_options(Role.JUMP, PROFILE, BuildOptions(level=2), tmp_path)
    assert told["trt_profile_max_shapes"] == "z:32x4x432" and told["trt_builder_optimization_level"] == 2
    assert told["trt_engine_cache_path"] == str(tmp_path) and told["trt_engine_cache_prefix"] == "jump"
    assert "trt_max_workspace_size" not in told  # TensorRT's own: all there is
    assert shown_shapes({"z": (1, 4, 22), "t": (1,)}) == "z:1x4x22,t:1"
    own = BuildOptions(Builder.TENSORRT)
    assert provider_options(Role.JUMP, PROFILE, own, tmp_path) == {"device_id": 0}
    assert not timing_options(own, tmp_path)


def test_a_key_names_everything_an_engine_depends_on() -> None:
    key = cache_key(H200, "a", PROFILE, BuildOptions())
    assert key == cache_key(Machine(**dataclasses.asdict(H200)), "a", PROFILE, BuildOptions())
    others = [
        *(cache_key(dataclasses.replace(H200, **{field.name: "other"}), "a", PROFILE, BuildOptions())
          for field in dataclasses.fields(Machine)),
        cache_key(H200, "b", PROFILE, BuildOptions()),
        cache_key(H200, "a", dataclasses.replace(PROFILE, most={"z": (8, 4, 432)}), BuildOptions()),
        cache_key(H200, "a", PROFILE, BuildOptions(level=4)),
        cache_key(H200, "a", PROFILE, BuildOptions(Builder.TENSORRT)),
    ]  # fmt: skip
    assert len({key, *others}) == 1 + len(others)
    files = {"jump.onnx": "1", "jump.onnx.data": "2", "text.onnx": "3"}
    assert graph_digest("jump.onnx", files) != graph_digest("jump.onnx", files | {"jump.onnx.data": "4"})
    assert graph_digest("jump.onnx", files) == graph_digest("jump.onnx", files | {"text.onnx": "4"})


@pytest.mark.parametrize(
    ("precision", "kind"),
    [
        (TensorRTPrecision.FP16, TensorProto.FLOAT16),
        (TensorRTPrecision.BF16, TensorProto.BFLOAT16),
        (TensorRTPrecision.FP8, TensorProto.FLOAT8E4M3FN),
    ],
)
def test_a_graph_says_its_precision_and_what_that_costs_is_measured(
    jump: GraphPlan, exported_tiny_dir: Path, tmp_path: Path, precision: TensorRTPrecision, kind: int
) -> None:
    source, lengths = exported_tiny_dir / "jump.onnx", (22, 30)
    largest = largest_inputs(jump, source, lengths)
    assert largest and all(value > 0 for value in largest.values())
    path, rounded = tmp_path / "jump.onnx", tmp_path / "rounded.onnx"
    convert(source, path, precision, largest)
    convert(source, rounded, precision, largest, rounded=True)
    check_file(jump, path)
    model = onnx.load(str(path), load_external_data=False)
    assert kind in {tensor.data_type for tensor in model.graph.initializer}
    assert {value.type.tensor_type.elem_type for value in model.graph.output} == {TensorProto.FLOAT}
    found_db = measured_snr_db(jump, rounded, lengths, unoptimised(rounded))
    assert tolerance_db(Role.JUMP, precision) <= found_db < 90  # it does cost something
    assert sorted(file.name for file in exported_tiny_dir.glob("*probe*")) == []


@pytest.fixture(scope="module", params=list(Builder))
def built_dir(
    request: pytest.FixtureRequest, exported_tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("built") / "out"
    settings = TensorRTSettings(
        str(exported_tiny_dir), out, TensorRTPrecision.FP32, BuildOptions(request.param), max_rows=6
    )
    export_tensorrt(settings, toolkit(StandInRuntime(), StandInTensorRT()))
    return out


def exports_in(folder: Path) -> Exports:
    exports = read_exports(open_bundle(folder))
    assert exports is not None
    return exports


@pytest.fixture
def on_h200(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soundctm.engines.tensorrt_graphs.this_machine", lambda onnxruntime: H200)


def test_an_engine_is_opened_on_the_machine_that_built_it(built_dir: Path, on_h200: None) -> None:
    exports, entry = exports_in(built_dir), read_entry(built_dir)
    assert entry is not None
    key = entry.engines[Role.JUMP].key
    assert key is not None
    own = built_dir / ENGINES_DIR / key
    opening = how_to_open(exports, Role.JUMP, Provider.TENSORRT, onnxruntime.__version__)
    assert opening.max_rows == 6 and opening.provider is Provider.TENSORRT
    (name, told), *others = opening.providers
    assert name == "TensorrtExecutionProvider" and others == [Provider.CUDA, Provider.CPU]
    if entry.options.builder is Builder.TENSORRT:
        assert opening.path == own / "jump.onnx"
    else:
        assert opening.path == built_dir / "jump.onnx" and told["trt_engine_cache_path"] == str(own)
        assert "trt_timing_cache_enable" not in told
    cuda = how_to_open(exports, Role.JUMP, Provider.CUDA, onnxruntime.__version__)
    assert cuda.providers == [Provider.CUDA, Provider.CPU] and cuda.max_rows is None


def change_entry(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    data = json.loads((folder / EXPORTS).read_text())
    change(data)
    (folder / EXPORTS).write_text(json.dumps(data))


def test_a_graph_without_an_engine_runs_beside_them(built_dir: Path, tmp_path: Path, on_h200: None) -> None:
    folder = shutil.copytree(built_dir, tmp_path / "folder")
    change_entry(folder, lambda data: data["tensorrt"]["engines"].pop("decoder"))
    opening = how_to_open(exports_in(folder), Role.DECODER, Provider.TENSORRT, onnxruntime.__version__)
    assert opening.providers == [Provider.CUDA, Provider.CPU] and opening.provider is Provider.CUDA


def test_an_engine_of_another_machine_is_stale(built_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = dataclasses.replace(H200, gpu="NVIDIA L4", tensorrt="10.13.3")
    monkeypatch.setattr("soundctm.engines.tensorrt_graphs.this_machine", lambda onnxruntime: here)
    said = r"not for this machine: gpu was NVIDIA H200, is NVIDIA L4; tensorrt was 10.9.0, is 10.13.3. Run `soundctm ex"
    with pytest.raises(GraphError, match=said):
        how_to_open(exports_in(built_dir), Role.JUMP, Provider.TENSORRT, onnxruntime.__version__)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data["tensorrt"]["options"].update(level=1), "its options were altered"),
        (lambda data: data["tensorrt"]["engines"]["jump"].update(graph_digest="0"), "built from another graph"),
        (lambda data: data["tensorrt"].update(machine=None), "prepared, not yet run on TensorRT"),
        (lambda data: data.pop("tensorrt"), "holds graphs and no TensorRT engines"),
        (lambda data: data["tensorrt"].pop("max_rows"), "says nothing valid of TensorRT engines"),
        (lambda data: data["tensorrt"].update(max_rows=0), "max_rows is 0; allowed: whole numbers from 1"),
        (lambda data: data["tensorrt"]["engines"]["jump"].update(key="../../elsewhere"), "names a file outside"),
    ],
)
def test_what_exports_json_says_is_not_believed_blindly(
    built_dir: Path, tmp_path: Path, on_h200: None, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    folder = shutil.copytree(built_dir, tmp_path / "folder")
    change_entry(folder, change)
    with pytest.raises(BundleError, match=said):
        how_to_open(exports_in(folder), Role.JUMP, Provider.TENSORRT, onnxruntime.__version__)


def test_an_altered_engine_is_not_opened(built_dir: Path, tmp_path: Path, on_h200: None) -> None:
    folder = shutil.copytree(built_dir, tmp_path / "folder")
    (engine,) = folder.glob(f"{ENGINES_DIR}/*/jump*.engine")
    engine.write_bytes(b"something else")
    with pytest.raises(DigestMismatchError, match=r"jump.*\.engine is truncated or altered"):
        how_to_open(exports_in(folder), Role.JUMP, Provider.TENSORRT, onnxruntime.__version__)
    engine.unlink()
    with pytest.raises(DigestMismatchError, match="it is missing"):
        how_to_open(exports_in(folder), Role.JUMP, Provider.TENSORRT, onnxruntime.__version__)


def driver_says(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, code: int = 0) -> None:
    command = folder / "nvidia-smi"
    command.write_text(f"#!/bin/sh\necho '{text}'\nexit {code}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_a_machine_is_its_first_gpu_and_its_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver_says(tmp_path, monkeypatch, "NVIDIA H200, 9.0\nNVIDIA L4, 8.9")
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="10.9.0.34"))
    assert this_machine(H200.onnxruntime) == H200


@pytest.mark.parametrize(("text", "code"), [("", 0), ("No devices were found", 6), ("nonsense", 0)])
def test_a_driver_without_a_gpu_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, code: int
) -> None:
    driver_says(tmp_path, monkeypatch, text, code)
    with pytest.raises(ProviderMissingError, match="TensorRT needs an NVIDIA GPU; nvidia-smi names none here"):
        this_machine(onnxruntime.__version__)


def test_without_a_driver_or_tensorrts_libraries_it_is_said_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProviderMissingError, match="nvidia-smi names none here"):
        this_machine(onnxruntime.__version__)
    driver_says(tmp_path, monkeypatch, "NVIDIA H200, 9.0")
    with pytest.raises(ProviderMissingError, match="no package tensorrt, nor libnvinfer on the library path"):
        this_machine(onnxruntime.__version__)


def test_a_toolkit_is_found_or_said_to_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProviderMissingError, match="which cannot be had: this ONNX Runtime has"):
        find_toolkit(Builder.ONNXRUNTIME)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [Provider.TENSORRT.value])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProviderMissingError, match=r"nvidia-smi names none here.*--prepare makes all but them"):
        find_toolkit(Builder.ONNXRUNTIME)
    with pytest.raises(MissingPackageError, match="--builder tensorrt needs the package tensorrt"):
        find_toolkit(Builder.TENSORRT)
    driver_says(tmp_path, monkeypatch, "NVIDIA H200, 9.0")
    package = SimpleNamespace(__version__="10.9.0.34")
    monkeypatch.setitem(sys.modules, "tensorrt", package)
    found = find_toolkit(Builder.TENSORRT)
    assert found.tensorrt is package and found.onnxruntime is onnxruntime and found.machine.gpu == "NVIDIA H200"
    assert find_toolkit(Builder.ONNXRUNTIME).tensorrt is None


def test_larger_batches_run_in_parts(jump: GraphPlan, exported_tiny_dir: Path) -> None:
    session = onnxruntime.InferenceSession(str(exported_tiny_dir / "jump.onnx"), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        tensors = jump.inputs_for(3, 22)
    inputs = {port.name: tensor.numpy() for port, tensor in zip(jump.inputs, tensors, strict=True)}
    whole, parts = (Graph(Role.JUMP, session, most)(inputs)["landed"] for most in (None, 2))
    assert whole.shape == parts.shape
    assert snr_db(whole, parts) > 100  # rounding differs with the batch's shape


def test_the_engine_runs_a_clip_on_what_was_built(
    built_dir: Path, on_h200: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the stand-in, whose engines are the graphs themselves."""
    runtime = StandInRuntime()
    monkeypatch.setattr(onnxruntime, "InferenceSession", runtime.InferenceSession)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [provider.value for provider in Provider])
    bundle = open_bundle(built_dir)
    engine = load_engine(bundle, Provider.TENSORRT, threads=1)
    assert len(runtime.opened) == len(REQUIRED)
    audio = render(engine, Recipe(bundle.digest, "rain", "", 7, 1.0, 1, 0.0, omega=3.0, nu=1.0))
    assert np.isfinite(audio).all() and audio.any()
