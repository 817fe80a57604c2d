"""A bundle becomes a folder of graphs, whole or not at all."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from typer.testing import CliRunner

from soundctm.bundle import MANIFEST, open_bundle
from soundctm.engines.onnx import load_engine
from soundctm.errors import BundleError, DigestMismatchError
from soundctm.exports import EXPORTS, Role, read_exports
from soundctm_export import export
from soundctm_export.cli import app
from soundctm_export.command import run_onnx
from soundctm_export.errors import (
    ExportError,
    OpsetError,
    OutputFolderError,
    OutputSpaceError,
    ParityError,
    PrecisionError,
)
from soundctm_export.export import export_onnx
from soundctm_export.exporter import save
from soundctm_export.graphs import GraphPlan
from soundctm_export.settings import ExportSettings, Precision

CHECKOUT = Path(__file__).parents[2]


def test_the_folder_is_the_bundle_and_its_graphs(exported_tiny_dir: Path, tiniest_bundle_dir: Path) -> None:
    bundle = open_bundle(exported_tiny_dir)
    assert bundle.digest == open_bundle(tiniest_bundle_dir).digest  # so recipes stay recipes of this bundle
    bundle.verify()
    exports = read_exports(bundle)
    assert exports is not None
    exports.verify()
    assert set(exports.graphs) == set(Role)
    assert all(record.snr_db >= record.tolerance_db for record in exports.graphs.values())
    written = {path.name for path in exported_tiny_dir.iterdir()}
    assert written == {MANIFEST, EXPORTS, *bundle.files, *exports.files}
    assert not list(exported_tiny_dir.parent.glob(".*"))


def test_batch_and_length_vary_in_every_graph(exported_tiny_dir: Path) -> None:
    for role in Role:
        graph = onnx.load(str(exported_tiny_dir / f"{role.value}.onnx"), load_external_data=False).graph
        for value in (*graph.input, *graph.output):
            assert not value.type.tensor_type.shape.dim[0].dim_value, f"{role.value}: {value.name}"
    jump = onnx.load(str(exported_tiny_dir / "jump.onnx"), load_external_data=False).graph
    assert [value.name for value in jump.input][:4] == ["z", "t", "s", "omega"]
    assert not jump.input[0].type.tensor_type.shape.dim[2].dim_value


def test_the_preview_shares_the_weights_of_jump_and_decoder(exported_tiny_dir: Path) -> None:
    graph = onnx.load(str(exported_tiny_dir / "preview.onnx"), load_external_data=False).graph
    places = {entry.value for tensor in graph.initializer for entry in tensor.external_data if entry.key == "location"}
    assert places == {"jump.onnx.data", "decoder.onnx.data"}


_TEXT_FROM_ELSEWHERE = """
import sys
from pathlib import Path
import torch
import soundctm, soundctm_export
from soundctm.bundle import open_bundle
from soundctm_export.exporter import write_graph
from soundctm_export.graphs import graph_plans
from soundctm_export.parts import load_parts
bundle, out, checkout = map(Path, sys.argv[1:])
assert all(checkout in Path(room.__file__).parents for room in (soundctm, soundctm_export))
with torch.inference_mode():
    plans = {plan.role.value: plan for plan in graph_plans(load_parts(open_bundle(bundle)))}
write_graph(plans["text"], out / "text.onnx", 20)
"""


def test_another_checkout_writes_the_same_bytes(
    exported_tiny_dir: Path, tiniest_bundle_dir: Path, tmp_path: Path
) -> None:
    checkout = tmp_path / "elsewhere"
    for room in ("model", "export"):
        ignored = shutil.ignore_patterns("__pycache__", "starter")
        shutil.copytree(CHECKOUT / room, checkout / room, ignore=ignored)
    found = f"import sys; sys.path[:0] = {[str(checkout / 'model'), str(checkout / 'export')]!r}"
    arguments = [str(tiniest_bundle_dir), str(tmp_path), str(checkout)]
    subprocess.run([sys.executable, "-c", found + _TEXT_FROM_ELSEWHERE, *arguments], check=True)
    for name in ("text.onnx", "text.onnx.data"):
        assert (tmp_path / name).read_bytes() == (exported_tiny_dir / name).read_bytes()


def test_graphs_do_not_tell_where_they_were_made(exported_tiny_dir: Path) -> None:
    for path in exported_tiny_dir.glob("*.onnx"):
        text = path.read_bytes()
        assert str(CHECKOUT).encode() not in text and b".py" not in text and b"site-packages" not in text


def test_help_needs_the_standard_library_only() -> None:
    command = [sys.executable, "-I", "-S", str(CHECKOUT / "export" / "to_onnx.py"), "--help"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "--precision" in shown and "--opset" in shown


def settings(bundle: Path, out: Path, opset: int = 20) -> ExportSettings:
    return ExportSettings(str(bundle), out, opset=opset)


def nothing_left(folder: Path) -> bool:
    return not list(folder.iterdir())


@pytest.mark.parametrize("opset", [7, 99])
def test_an_opset_that_does_not_run_is_refused(tiniest_bundle_dir: Path, tmp_path: Path, opset: int) -> None:
    with pytest.raises(OpsetError, match=rf"opset is {opset}; allowed: 18 to "):
        export_onnx(settings(tiniest_bundle_dir, tmp_path / "out", opset))
    assert nothing_left(tmp_path)


def test_a_precision_that_the_runtime_lacks_is_refused(tiniest_bundle_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(PrecisionError, match="no bf16 matrix product"):
        export_onnx(ExportSettings(str(tiniest_bundle_dir), tmp_path / "out", Precision.BF16))
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("precision", [Precision.W8A8, Precision.INT4])
def test_a_folder_in_another_precision_is_whole(
    tiniest_bundle_dir: Path, exported_tiny_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    precision: Precision,
) -> None:  # fmt: skip
    def written_before(plan: GraphPlan, path: Path, opset: int) -> None:
        save(ir.load(exported_tiny_dir / f"{plan.role.value}.onnx"), path)

    monkeypatch.setattr(export, "write_graph", written_before)
    exports = export_onnx(ExportSettings(str(tiniest_bundle_dir), tmp_path / "out", precision))
    exports.verify()
    assert {role for role, record in exports.graphs.items() if record.precision == precision.value} == {
        Role.JUMP, Role.PREVIEW,
    }  # fmt: skip
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {MANIFEST, EXPORTS, *open_bundle(tiniest_bundle_dir).files, *exports.files}
    engine, z = load_engine(open_bundle(tmp_path / "out"), threads=1), np.ones((1, 4, 22), np.float32)
    assert np.isfinite(engine.jump(z, [80.0], [0.002], [3.0], engine.encode_text(["rain"]))).all()


def test_a_folder_that_exists_is_left_alone(tiniest_bundle_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputFolderError, match="exists; remove it"):
        export_onnx(settings(tiniest_bundle_dir, tmp_path))
    assert nothing_left(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tiniest_bundle_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputFolderError, match="cannot be written"):
        export_onnx(settings(tiniest_bundle_dir, tmp_path / "file" / "out"))


def test_a_small_disk_is_seen_before_anything_is_made(
    tiniest_bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(OutputSpaceError, match=r"need up to .* GB .* 0.00 GB are free"):
        export_onnx(settings(tiniest_bundle_dir, tmp_path / "out"))
    assert nothing_left(tmp_path)


def refuse(error: BaseException) -> Callable[..., None]:
    def raising(*arguments: object) -> None:
        raise error

    return raising


@pytest.mark.parametrize(
    ("met", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), OutputSpaceError),
        (OSError(errno.EROFS, "Read-only file system"), OutputFolderError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_what_fails_halfway_leaves_nothing(
    tiniest_bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, met: BaseException, said: type[Exception]
) -> None:
    monkeypatch.setattr(export, "write_graph", refuse(met))
    with pytest.raises(said):
        export_onnx(settings(tiniest_bundle_dir, tmp_path / "out"))
    assert nothing_left(tmp_path)


def test_a_graph_too_far_from_pytorch_is_not_kept(
    tiniest_bundle_dir: Path, exported_tiny_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written_before(plan: GraphPlan, path: Path, opset: int) -> None:
        for suffix in ("", ".data"):
            shutil.copyfile(exported_tiny_dir / f"{plan.role.value}.onnx{suffix}", f"{path}{suffix}")

    monkeypatch.setattr(export, "write_graph", written_before)
    monkeypatch.setattr(export, "tolerance_db", lambda role, precision: 500)
    with pytest.raises(ParityError, match=r"the text graph in fp32 lies \d+ dB from PyTorch; at least 500"):
        export_onnx(settings(tiniest_bundle_dir, tmp_path / "out"))
    assert nothing_left(tmp_path)


def test_a_bundle_of_another_version_or_with_other_weights_is_refused(tiniest_bundle_dir: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tiniest_bundle_dir, tmp_path / "other")
    manifest = other / MANIFEST
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(BundleError, match="format 9; this version reads format 1"):
        export_onnx(settings(other, tmp_path / "out"))
    manifest.write_text(manifest.read_text().replace('"format": 9', '"format": 1'))
    with (other / "network.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x55")
    with pytest.raises(DigestMismatchError):
        export_onnx(settings(other, tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_commands_say_in_one_sentence_what_is_wrong(
    tiniest_bundle_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_onnx(settings(tiniest_bundle_dir, tmp_path)) == 1
    assert "EXPORT_FOLDER: " in capsys.readouterr().err
    assert run_onnx(settings(tmp_path / "nowhere", tmp_path / "out")) == 1
    assert "MODEL_NOT_FOUND: " in capsys.readouterr().err
    shown = CliRunner().invoke(app, ["onnx", str(tiniest_bundle_dir), "-o", str(tmp_path)])
    assert shown.exit_code == 1


def test_every_error_has_its_own_reason() -> None:
    kinds = [ExportError, *ExportError.__subclasses__()]
    assert len({kind.reason for kind in kinds}) == len(kinds)
