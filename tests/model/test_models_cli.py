from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from soundctm import doctor as doctor_module
from soundctm.bundle import CODEC_FILE
from soundctm.doctor import doctor, onnxruntime_conflict
from soundctm.models_cli import models

runner = CliRunner()


@pytest.fixture
def installed(tiny_bundle_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle_dir, tmp_path / "models" / "tiny"))


def test_list_names_every_bundle_and_hides_no_broken_one(installed: Path) -> None:
    broken = installed.parent / "broken"
    broken.mkdir()
    (broken / "bundle.json").write_text("{")
    rows = {row["name"]: row for row in json.loads(runner.invoke(models, ["list", "--json"]).stdout)}
    assert rows.keys() == {"starter", "broken", "tiny"}
    assert "not a valid manifest" in rows["broken"]["error"]
    assert len(rows["tiny"]["digest"]) == 64


def test_verify_says_yes_to_a_whole_bundle_and_names_an_altered_file(installed: Path) -> None:
    assert runner.invoke(models, ["verify", "tiny"]).exit_code == 0
    (installed / CODEC_FILE).write_bytes(b"no weights")
    result = runner.invoke(models, ["verify", "tiny"])
    assert result.exit_code == 2
    assert "DIGEST_MISMATCH" in result.stderr
    assert CODEC_FILE in result.stderr


def test_show_prints_the_spec(installed: Path) -> None:
    shown = json.loads(runner.invoke(models, ["show", str(installed)]).stdout)
    assert shown["spec"]["name"] == "tiny"
    assert "network.safetensors" in shown["files"]


def test_an_unknown_model_is_exit_code_2() -> None:
    result = runner.invoke(models, ["show", "nope"])
    assert result.exit_code == 2
    assert "MODEL_NOT_FOUND" in result.stderr


def test_doctor_names_the_conflict_of_both_onnxruntime_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer()
    app.command()(doctor)
    monkeypatch.setattr(doctor_module, "_version", lambda name: "1.0")
    conflict = onnxruntime_conflict()
    assert conflict is not None
    assert "pip uninstall" in conflict
    result = runner.invoke(app, ["--json"])
    findings = {finding["check"]: finding for finding in json.loads(result.stdout)}
    assert result.exit_code == 1
    assert findings["onnxruntime"] == {"check": "onnxruntime", "ok": False, "detail": conflict}


def test_one_onnxruntime_wheel_is_no_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_module, "_version", lambda name: "1.0" if name == "onnxruntime" else None)
    assert onnxruntime_conflict() is None
