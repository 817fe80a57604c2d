"""Packages of `torch.export`: a bundle's networks, run without this project's code."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from soundctm.bundle import open_bundle, sha256_file
from soundctm.errors import DigestMismatchError
from soundctm_export import torch_package
from soundctm_export.cli import app
from soundctm_export.errors import ExportError, MissingPackageError, OutputFolderError, ParityError
from soundctm_export.torch_package import PACKAGES, export_torch
from soundctm_export.torch_package_settings import TorchPackageSettings

CHECKOUT = Path(__file__).parents[2]
ROLES = ["text", "jump", "decoder"]


@pytest.fixture(scope="module")
def packaged_dir(tiniest_bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packaged") / "out"
    export_torch(TorchPackageSettings(str(tiniest_bundle_dir), out))
    return out


def test_the_folder_is_the_bundle_and_its_packages(packaged_dir: Path, tiniest_bundle_dir: Path) -> None:
    bundle = open_bundle(packaged_dir)
    assert bundle.digest == open_bundle(tiniest_bundle_dir).digest
    bundle.verify()
    said = json.loads((packaged_dir / PACKAGES).read_text())
    assert said["torch"] == torch.__version__ and said["bundle_digest"] == bundle.digest
    assert [record["role"] for record in said["packages"]] == ROLES
    assert all(record["snr_db"] >= record["tolerance_db"] and not record["compiled"] for record in said["packages"])
    assert said["files"] == {f"{role}.pt2": sha256_file(packaged_dir / f"{role}.pt2") for role in ROLES}
    assert {path.name for path in packaged_dir.iterdir()} == {"bundle.json", PACKAGES, *bundle.files, *said["files"]}
    assert not list(packaged_dir.parent.glob(".*"))


def test_batch_and_length_vary(packaged_dir: Path) -> None:
    decoder = torch.export.load(packaged_dir / "decoder.pt2").module()
    for rows, frames in ((1, 22), (2, 31), (5, 40)):
        assert decoder(torch.zeros(rows, 4, frames)).shape == (rows, 1, 1024 * frames)


def test_packages_do_not_tell_where_they_were_made(packaged_dir: Path) -> None:
    for path in packaged_dir.glob("*.pt2"):
        with zipfile.ZipFile(path) as package:
            for name in package.namelist():
                assert str(CHECKOUT).encode() not in package.read(name), f"{path.name}: {name}"


def raising(error: Exception) -> Callable[..., Any]:
    def raise_it(*arguments: object, **named: object) -> None:
        raise error

    return raise_it


def without_export(monkeypatch: pytest.MonkeyPatch, packaged_dir: Path) -> None:
    """Programs as they were exported before: tracing takes its time."""

    def loaded(plan: Any) -> Any:
        return torch.export.load(packaged_dir / f"{plan.role.value}.pt2")

    monkeypatch.setattr(torch_package, "exported", loaded)


def test_machine_code_lies_beside_what_it_was_made_of(
    packaged_dir: Path, tiniest_bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AOTInductor is a stand-in here, for it takes a compiler and minutes."""
    made: dict[str, Any] = {}

    def compile_and_package(program: Any, *, package_path: str) -> str:
        made[package_path] = program.module()
        Path(package_path).write_bytes(b"machine code")
        return package_path

    without_export(monkeypatch, packaged_dir)
    monkeypatch.setattr(shutil, "which", lambda name: "found" if name == "g++" else None)
    monkeypatch.setattr("torch._inductor.aoti_compile_and_package", compile_and_package)
    monkeypatch.setattr("torch._inductor.aoti_load_package", made.__getitem__)
    records = export_torch(TorchPackageSettings(str(tiniest_bundle_dir), tmp_path / "out", compiled=True))
    assert [record.file for record in records if record.compiled] == [f"{role}.compiled.pt2" for role in ROLES]
    assert all((tmp_path / "out" / record.file).is_file() for record in records)

    monkeypatch.setattr("torch._inductor.aoti_compile_and_package", raising(RuntimeError("CppCompileError\nlog")))
    with pytest.raises(ExportError, match=r"text\.compiled\.pt2 cannot be compiled by PyTorch .*: CppCompileError\. N"):
        export_torch(TorchPackageSettings(str(tiniest_bundle_dir), tmp_path / "other", compiled=True))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_goes_wrong_leaves_nothing(
    packaged_dir: Path, tiniest_bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TorchPackageSettings(str(tiniest_bundle_dir), tmp_path / "out")
    with monkeypatch.context() as patched:
        patched.setattr("torch.export.export", raising(ValueError("batch was inferred to be a constant (2)\nadvice")))
        with pytest.raises(ExportError, match=r"text cannot be exported .* to be a constant \(2\)\. Nothing"):
            export_torch(settings)
    without_export(monkeypatch, packaged_dir)
    with monkeypatch.context() as patched:
        patched.setattr(torch_package, "tolerance_db", lambda role, precision: 500)
        with pytest.raises(ParityError, match=r"text\.pt2 lies \d+ dB .*; at least 500"):
            export_torch(settings)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", str(tmp_path))
        with pytest.raises(MissingPackageError, match=r"needs a C\+\+ compiler, and there is none of: c\+\+, g\+\+"):
            export_torch(TorchPackageSettings(str(tiniest_bundle_dir), tmp_path / "out", compiled=True))
    with pytest.raises(OutputFolderError, match="exists; remove it"):
        export_torch(TorchPackageSettings(str(tiniest_bundle_dir), tmp_path))
    assert not list(tmp_path.iterdir())


def test_an_altered_bundle_is_refused(tiniest_bundle_dir: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tiniest_bundle_dir, tmp_path / "other")
    with (other / "network.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x55")
    with pytest.raises(DigestMismatchError, match=r"network\.safetensors"):
        export_torch(TorchPackageSettings(str(other), tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_the_command_says_what_it_made_or_what_is_wrong(
    packaged_dir: Path, tiniest_bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_export(monkeypatch, packaged_dir)
    shown = CliRunner().invoke(app, ["torch", str(tiniest_bundle_dir), "-o", str(tmp_path / "out")])
    assert shown.exit_code == 0 and f"{tmp_path / 'out'}: 3 packages" in shown.output
    shown = CliRunner().invoke(app, ["torch", str(tiniest_bundle_dir), "-o", str(tmp_path / "out")])
    assert shown.exit_code == 1 and "EXPORT_FOLDER: " in shown.output
