"""A folder of graphs and TensorRT engines, whole or not at all. Builders are stand-ins: not yet run on TensorRT."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from soundctm.bundle import open_bundle
from soundctm.engines.tensorrt import ENGINES_DIR, NOT_RUN, Builder, BuildOptions, read_entry
from soundctm.errors import BundleError, DigestMismatchError, ProviderMissingError
from soundctm.exports import EXPORTS, REQUIRED, Exports, Role, read_exports
from soundctm_export.cli import app
from soundctm_export.errors import OutputFolderError, OutputSpaceError, ParityError
from soundctm_export.settings import ExportSettings, Precision
from soundctm_export.tensorrt import export_tensorrt
from soundctm_export.tensorrt_builder import EngineBuildError, Toolkit
from soundctm_export.tensorrt_settings import TensorRTPrecision, TensorRTSettings
from tensorrt_stand_in import H200, StandInRuntime, StandInTensorRT, shapes_of, toolkit

OWN = BuildOptions(Builder.TENSORRT, level=4, workspace_mb=2048)


@pytest.fixture(scope="module")
def prepared_dir(exported_tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "out"
    export_tensorrt(TensorRTSettings(str(exported_tiny_dir), out, max_rows=8, prepare=True), None)
    return out


def test_without_a_gpu_all_but_the_engines_is_made(prepared_dir: Path, exported_tiny_dir: Path) -> None:
    bundle = open_bundle(prepared_dir)
    assert bundle.digest == open_bundle(exported_tiny_dir).digest
    exports, entry = read_exports(bundle), read_entry(prepared_dir)
    assert exports is not None and entry is not None
    exports.verify()
    precisions = {role: record.precision for role, record in exports.graphs.items()}
    assert precisions == {Role.TEXT: "fp16", Role.JUMP: "fp16", Role.DECODER: "fp32", Role.ENCODER: "fp32"}
    assert all(record.snr_db >= record.tolerance_db for record in exports.graphs.values())
    assert json.loads((prepared_dir / EXPORTS).read_text())["tensorrt"]["status"] == NOT_RUN
    assert entry.status == NOT_RUN and entry.machine is None and not entry.left_out
    assert set(entry.engines) == set(REQUIRED)
    assert all(record.key is None and record.snr_db is None for record in entry.engines.values())
    z = {point: getattr(entry.engines[Role.JUMP].profile, point)["z"] for point in ("least", "best", "most")}
    shortest, longest = bundle.spec.latent_frames(0.5), bundle.spec.latent_frames(10.0)
    assert z == {"least": (1, 4, shortest), "best": (1, 4, longest), "most": (8, 4, longest)}
    left = {path.name for path in prepared_dir.iterdir()}
    assert left == {"bundle.json", EXPORTS, *bundle.files, *exports.files}
    assert not list(prepared_dir.parent.glob(".*"))


def test_graphs_in_another_precision_are_made_anew_from_the_bundle(
    prepared_dir: Path, exported_tiny_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[ExportSettings] = []

    def exported(settings: ExportSettings, progress: object) -> Exports | None:
        asked.append(settings)
        return read_exports(open_bundle(shutil.copytree(exported_tiny_dir, settings.out)))

    monkeypatch.setattr("soundctm_export.tensorrt.export_onnx", exported)
    out = tmp_path / "out"
    export_tensorrt(TensorRTSettings(str(prepared_dir), out, max_rows=8, prepare=True), None)
    assert [(settings.bundle, settings.precision) for settings in asked] == [(str(prepared_dir), Precision.FP32)]
    for name in ("jump.onnx", "jump.onnx.data", "decoder.onnx"):
        assert (out / name).read_bytes() == (prepared_dir / name).read_bytes()
    assert not list(out.glob(".*"))


def build(source: Path, out: Path, made_by: Toolkit, **more: object) -> None:
    export_tensorrt(TensorRTSettings(str(source), out, **more), made_by)  # type: ignore[arg-type]


def test_onnx_runtime_builds_engines_and_they_are_compared(exported_tiny_dir: Path, tmp_path: Path) -> None:
    runtime, out = StandInRuntime(), tmp_path / "out"
    build(exported_tiny_dir, out, toolkit(runtime), options=BuildOptions(level=5, workspace_mb=512))
    entry = read_entry(out)
    assert entry is not None and entry.machine == H200
    assert entry.status == "run on NVIDIA H200 with TensorRT 10.9.0"
    for role, record in entry.engines.items():
        assert record.key is not None and record.snr_db is not None and record.snr_db >= 25
        assert list(record.files) == [f"{role.value}_1_sm90.engine"]
        assert (out / ENGINES_DIR / record.key / f"{role.value}_1_sm90.engine").is_file()
    assert len({record.key for record in entry.engines.values()}) == len(REQUIRED)
    told = dict(runtime.opened)["jump.onnx"]
    assert told["trt_builder_optimization_level"] == 5 and told["trt_max_workspace_size"] == 512 << 20
    assert shapes_of(told["trt_profile_max_shapes"])["t"] == (32,)
    assert not any("fp16" in name or "bf16" in name for name in told)  # the graph says it
    assert not list(out.glob(".*"))


def test_tensorrts_own_builder_makes_engines_that_onnx_runtime_runs(exported_tiny_dir: Path, tmp_path: Path) -> None:
    runtime, trt, out = StandInRuntime(), StandInTensorRT(), tmp_path / "out"
    build(exported_tiny_dir, out, toolkit(runtime, trt), options=OWN, precision=TensorRTPrecision.FP32)
    entry = read_entry(out)
    assert entry is not None
    for role, record in entry.engines.items():
        assert list(record.files) == [f"{role.value}.engine", f"{role.value}.onnx"]
    assert trt.flags == [2] * len(REQUIRED)  # strongly typed
    assert all(config.builder_optimization_level == 4 for config in trt.configs)
    assert all(config.pools == {trt.MemoryPoolType.WORKSPACE: 2048 << 20} for config in trt.configs)
    (shapes,) = trt.configs[list(REQUIRED).index(Role.JUMP)].profiles
    least, best, most = shapes["omega"]
    assert (least, best, most) == ((1,), (1,), (32,))
    assert dict(runtime.opened)["jump.onnx"] == {"device_id": 0}


def test_tensorrt_11_is_strongly_typed_by_itself(exported_tiny_dir: Path, tmp_path: Path) -> None:
    trt = StandInTensorRT("11.4.0.106")
    build(exported_tiny_dir, tmp_path / "out", toolkit(None, trt), options=OWN, precision=TensorRTPrecision.FP32)
    assert set(trt.flags) == {0}


def test_what_was_timed_serves_the_next_build(exported_tiny_dir: Path, tmp_path: Path) -> None:
    timing = tmp_path / "timing"
    first, second, third = StandInTensorRT(), StandInTensorRT(), StandInTensorRT()
    options = {"options": OWN, "precision": TensorRTPrecision.FP32, "timing_cache": timing}
    build(exported_tiny_dir, tmp_path / "first", toolkit(None, first), **options)
    assert first.caches == [b"", b"+text", b"+text+jump", b"+text+jump+decoder"]
    build(exported_tiny_dir, tmp_path / "second", toolkit(None, second), **options)
    assert second.caches[0] == b"+text+jump+decoder+encoder"
    (file,) = timing.iterdir()
    file.write_bytes(b"of another GPU")
    build(exported_tiny_dir, tmp_path / "third", toolkit(None, third), **options)
    assert third.caches[0] == b""


def failing(change: Callable[[StandInRuntime, StandInTensorRT], None]) -> Toolkit:
    runtime, trt = StandInRuntime(), StandInTensorRT()
    change(runtime, trt)
    return toolkit(runtime, trt)


@pytest.mark.parametrize(
    ("change", "builder", "error", "said"),
    [
        (lambda runtime, trt: setattr(trt, "parses", False), Builder.TENSORRT, EngineBuildError, "Rope; in node 7"),
        (lambda runtime, trt: setattr(trt, "builds", False), Builder.TENSORRT, EngineBuildError, "its log says why"),
        (
            lambda runtime, trt: setattr(runtime, "refuses", "out of workspace"), Builder.ONNXRUNTIME,
            EngineBuildError, r"TensorRT 10.9.0 makes no engine of text.onnx on NVIDIA H200 \(out of workspace\)",
        ),
        (
            lambda runtime, trt: setattr(runtime, "used", ("CPUExecutionProvider",)), Builder.ONNXRUNTIME,
            ProviderMissingError, "fell back to: CPUExecutionProvider",
        ),
        (
            lambda runtime, trt: setattr(runtime, "keeps_engines", False), Builder.ONNXRUNTIME,
            EngineBuildError, "nothing of it runs on TensorRT",
        ),
        (
            lambda runtime, trt: setattr(runtime, "gain", 1.1), Builder.ONNXRUNTIME,
            ParityError, r"text engine lies \d+ dB from PyTorch; at least 45",
        ),
    ],
)  # fmt: skip
def test_what_no_engine_can_be_made_of_leaves_nothing(
    exported_tiny_dir: Path, tmp_path: Path, change: Callable[[StandInRuntime, StandInTensorRT], None],
    builder: Builder, error: type[Exception], said: str,
) -> None:  # fmt: skip
    with pytest.raises(error, match=said):
        build(
            exported_tiny_dir, tmp_path / "out", failing(change), options=BuildOptions(builder),
            precision=TensorRTPrecision.FP32,
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_folders_that_cannot_be_made_are_refused(
    exported_tiny_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputFolderError, match="exists; remove it"):
        build(exported_tiny_dir, tmp_path, toolkit())
    with pytest.raises(OutputFolderError, match="cannot be written"):
        build(exported_tiny_dir, tmp_path / "file" / "out", toolkit())
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(OutputSpaceError, match=r"0\.00 GB are free"):
        build(exported_tiny_dir, tmp_path / "out", toolkit())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_source_that_was_altered_is_refused(exported_tiny_dir: Path, tmp_path: Path) -> None:
    source = shutil.copytree(exported_tiny_dir, tmp_path / "source")
    with (source / "jump.onnx.data").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x55")
    with pytest.raises(DigestMismatchError, match=r"jump.onnx.data is truncated or altered"):
        build(source, tmp_path / "out", toolkit())
    manifest = source / "bundle.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(BundleError, match="format 9; this version reads format 1"):
        build(source, tmp_path / "out", toolkit())
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_machine_without_tensorrt_is_told_what_it_lacks(exported_tiny_dir: Path, tmp_path: Path) -> None:
    command = ["tensorrt", str(exported_tiny_dir), "-o", str(tmp_path / "out")]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 1
    assert "PROVIDER_MISSING: engines run on ONNX Runtime's TensorrtExecutionProvider" in shown.output
    assert "--prepare makes all but them" in shown.output
    assert not list(tmp_path.iterdir())


def test_the_command_prepares_and_says_what_was_not_run(exported_tiny_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shown = CliRunner().invoke(app, ["tensorrt", str(exported_tiny_dir), "-o", str(out), "-p", "fp32", "--prepare"])
    assert shown.exit_code == 0
    assert f"jump: engine to be built, {NOT_RUN}" in shown.output
    assert shown.output.rstrip().endswith(f"{out}: {NOT_RUN}")
    said = " ".join(CliRunner().invoke(app, ["tensorrt", "--help"], env={"COLUMNS": "200"}).output.split())
    assert "Not yet run on TensorRT" in said
