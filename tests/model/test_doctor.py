"""`soundctm doctor` finds what is wrong with an installation, and says what to do."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from soundctm import checks, doctor
from soundctm.checks import Finding
from soundctm.cli import build_app
from soundctm_daemon import checks as daemon_checks
from soundctm_daemon.instance import sole_instance
from soundctm_daemon.settings import load_settings

RUNNER = CliRunner()


def of(check: Callable[[], Iterator[Finding]]) -> dict[str, Finding]:
    return {finding.check: finding for finding in check()}


def daemon_finding(name: str) -> Finding:
    return of(daemon_checks.checks)[name]


def entry_points(monkeypatch: pytest.MonkeyPatch, *points: metadata.EntryPoint) -> None:
    monkeypatch.setattr(metadata, "entry_points", lambda group: [point for point in points if point.group == group])


def versions(monkeypatch: pytest.MonkeyPatch, **pretended: str | None) -> None:
    """Installed versions by distribution, `_` for `-`; None is not installed."""
    real = metadata.version

    def version(name: str) -> str:
        found = pretended.get(name.replace("-", "_"), real)
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found if isinstance(found, str) else real(name)

    monkeypatch.setattr(metadata, "version", version)


def test_this_installation_is_sound_and_both_rooms_are_asked() -> None:
    shown = RUNNER.invoke(build_app(), ["doctor", "--json"])
    findings = {finding["check"]: finding for finding in json.loads(shown.stdout)}
    assert [finding for finding in findings.values() if finding["ok"] is False] == []
    assert shown.exit_code == 0
    assert {"python", "packages", "torch", "soundfile", "model starter", "models folder"} <= findings.keys()
    assert {"grpc stubs", "token", "daemon", "state folder", "clips folder"} <= findings.keys()
    assert {"Ardour", "Ardour hook", "bridge"} <= findings.keys()
    assert RUNNER.invoke(build_app(), ["doctor"]).exit_code == 0


def test_packages_are_compared_with_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    versions(monkeypatch, grpcio="1.2.3", soxr=None, scipy="0.1")
    found = [finding.detail for finding in checks.requirements()]
    assert [detail.split(",")[0].split(";")[0] for detail in found] == [
        "grpcio is 1.2.3", "soxr is missing", "scipy is 0.1"
    ]
    assert "run `pip install 'grpcio>=" in found[0]
    assert "run `pip install 'soxr>=" in found[1]


def test_an_installation_of_another_version_and_none_at_all_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        versions(patch, soundctm_daw="0.0.1")
        assert "installed was 0.0.1; run `pip install` again" in next(checks.requirements()).detail
    versions(monkeypatch, soundctm_daw=None)
    assert of(checks.requirements)["packages"] == Finding(
        "packages", False, "soundctm-daw is not installed; run `pip install soundctm-daw`"
    )


def test_a_python_that_is_too_old_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.python_version", lambda: "3.9.1")
    found = of(checks.system)["python"]
    assert found.ok is False
    assert "needs >=3.11" in found.detail


@pytest.mark.parametrize(
    ("cuda", "found", "ok", "said"),
    [
        (None, False, None, "for the CPU alone"),
        ("12.8", False, None, "install its driver"),
        ("12.8", True, True, "80 GB"),
    ],
)
def test_the_gpu_is_told(
    monkeypatch: pytest.MonkeyPatch, cuda: str | None, found: bool, ok: bool | None, said: str
) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    device = SimpleNamespace(name="a card", total_memory=80e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: device)
    finding = of(checks.pytorch)["gpu"]
    assert finding.ok is ok
    assert said in finding.detail


def test_threads_that_were_limited_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert "OMP_NUM_THREADS=1" in of(checks.pytorch)["torch"].detail


@pytest.mark.parametrize(("check", "module"), [(checks.pytorch, "torch"), (checks.audio, "soundfile")])
def test_what_cannot_be_imported_is_told(monkeypatch: pytest.MonkeyPatch, check: Any, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    finding = of(check)[module]
    assert finding.ok is False
    assert f"pip install --force-reinstall {module}" in finding.detail


def test_a_library_that_the_system_lacks_is_not_sought_in_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    """What pedalboard's import says in a small container."""

    def absent(name: str) -> None:
        raise ImportError("libatomic.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr("soundctm.checks.importlib.import_module", absent)
    finding = of(checks.audio)["pedalboard"]
    assert finding.ok is False
    assert "apt-get install libatomic1" in finding.detail and "pip" not in finding.detail


@pytest.mark.parametrize(
    ("cpu", "gpu", "ok", "said"),
    [
        (None, None, None, "not installed"),
        ("1.20", "1.20", False, "pip uninstall -y onnxruntime onnxruntime-gpu"),
        (None, "1.20", False, "pip install --force-reinstall onnxruntime-gpu"),
    ],
)
def test_onnxruntime_wheels_that_clash_or_are_broken_are_told(
    monkeypatch: pytest.MonkeyPatch, cpu: str | None, gpu: str | None, ok: bool | None, said: str
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    versions(monkeypatch, onnxruntime=cpu, onnxruntime_gpu=gpu)
    finding = of(checks.onnxruntime)["onnxruntime"]
    assert finding.ok is ok
    assert said in finding.detail


def test_a_damaged_model_is_named(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(tiny_bundle_dir, tmp_path / "models" / "tiny")
    with (copied / "network.safetensors").open("ab") as file:
        file.write(b"x")
    found = of(checks.bundles)
    assert found["model starter"].ok is True
    assert found["model tiny"].ok is False
    assert "network.safetensors" in found["model tiny"].detail


def test_closed_folders_and_full_disks_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    monkeypatch.setenv("SOUNDCTM_MODELS", str(in_the_way / "models"))
    closed = of(checks.folders)["models folder"]
    assert closed.ok is False
    assert "set SOUNDCTM_MODELS" in closed.detail
    monkeypatch.setenv("SOUNDCTM_MODELS", str(tmp_path / "models"))
    assert of(checks.folders)["models folder"].ok is True
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5_000_000))
    full = of(checks.folders)["models folder"]
    assert full.ok is False
    assert "only 0.01 GB free" in full.detail


def test_a_check_that_breaks_is_a_finding_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    entry_points(
        monkeypatch,
        metadata.EntryPoint("absent", "no_such_module:checks", doctor.CHECKS_GROUP),
        metadata.EntryPoint("daemon", "soundctm_daemon.checks:checks", doctor.CHECKS_GROUP),
    )
    found = list(doctor.examine())
    (absent,) = [finding for finding in found if finding.check == "absent"]
    assert absent.ok is False
    assert "No module named 'no_such_module'" in absent.detail
    assert found[-1].check == "daemon"


def test_a_subcommand_that_cannot_be_loaded_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    entry_points(monkeypatch, metadata.EntryPoint("sing", "no_such_module:app", "soundctm.commands"))
    shown = RUNNER.invoke(build_app(), ["sing", "loud", "--long"])
    assert shown.exit_code == 1
    assert "Run `soundctm doctor`" in shown.stderr
    assert RUNNER.invoke(build_app(), ["doctor", "--json"]).exit_code == 0


def test_findings_are_shown_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECKS", (lambda: iter([Finding("[red]a", False, "do [b]this[/b]")]),))
    entry_points(monkeypatch)
    app = typer.Typer()
    app.command()(doctor.doctor)
    shown = RUNNER.invoke(app, [])
    assert shown.exit_code == 1
    assert "[red]a" in shown.stdout
    assert "do [b]this[/b]" in shown.stdout


def test_bad_settings_of_the_daemon_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDCTM_PORT", "many")
    assert daemon_finding("daemon settings").ok is False
    assert "port is 'many'" in daemon_finding("daemon settings").detail


def test_a_model_and_a_device_that_are_not_there_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDCTM_MODEL", "none")
    monkeypatch.setenv("SOUNDCTM_DEVICE", "cuda:0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "known models: starter" in daemon_finding("default model").detail
    assert daemon_finding("device").ok is False
    assert 'set it to "cpu"' in daemon_finding("device").detail


@pytest.mark.parametrize(
    ("text", "mode", "ok", "said"),
    [
        ("secret\n", 0o600, True, "for you alone"),
        ("secret\n", 0o644, False, "chmod 600"),
        ("\n", 0o600, False, "is empty"),
        ("\udcff", 0o600, False, "cannot be read"),
    ],
)
def test_the_token_is_looked_at_and_not_shown(text: str, mode: int, ok: bool, said: str) -> None:
    path = load_settings().token_file
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode(errors="surrogateescape"))
    path.chmod(mode)
    finding = daemon_finding("token")
    assert finding.ok is ok
    assert said in finding.detail
    assert "secret" not in finding.detail


def test_a_damaged_library_is_told() -> None:
    path = load_settings().clips_dir / "library.sqlite"
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE clips (id TEXT)")
    database.close()
    assert daemon_finding("clip library").ok is True
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    assert daemon_finding("clip library").ok is False
    assert "is damaged" in daemon_finding("clip library").detail


def test_a_socket_left_behind_and_a_file_in_its_place_are_told() -> None:
    path = load_settings().socket
    path.parent.mkdir(parents=True)
    assert "soundctm daemon start" in daemon_finding("daemon").detail
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    stale = daemon_finding("daemon")
    assert stale.ok is None
    assert "left by one that was killed" in stale.detail
    path.unlink()
    path.write_text("")
    assert daemon_finding("daemon").ok is False
    assert "is no socket" in daemon_finding("daemon").detail


def test_a_daemon_that_holds_its_lock_and_does_not_answer_is_told() -> None:
    with sole_instance(load_settings()):
        finding = daemon_finding("daemon")
    assert finding.ok is False
    assert "does not answer" in finding.detail
