from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from soundctm.bundle import CODEC_FILE, Bundle, open_bundle, write_manifest
from soundctm.errors import BundleError
from soundctm.licences import AcceptedLicences, is_restricted
from soundctm.models_cli import models
from soundctm.settings import licences_dir, state_dir
from soundgen import paths

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


@pytest.fixture
def restricted(installed: Path) -> Bundle:
    """The installed bundle under a licence that forbids some uses."""
    bundle = open_bundle(installed)
    return write_manifest(installed, replace(bundle.spec, licence="CC-BY-NC-4.0", provenance="a test"))


def test_a_licence_is_accepted_once_for_a_bundle_and_its_licence(restricted: Bundle) -> None:
    def accepted() -> bool:
        return bool(json.loads(runner.invoke(models, ["show", "tiny"]).stdout)["licence_accepted"])

    assert "CC-BY-NC-4.0 (not accepted)" in runner.invoke(models, ["list"], env={"COLUMNS": "200"}).stdout
    refused = runner.invoke(models, ["accept", "tiny"], input="n\n")
    assert refused.exit_code == 2 and "LICENCE_NOT_ACCEPTED" in refused.stderr and not accepted()
    assert runner.invoke(models, ["accept", "tiny"], input="y\n").exit_code == 0
    assert accepted()
    write_manifest(restricted.path, replace(restricted.spec, description="other weights"))
    assert not accepted()


def test_an_acceptance_that_cannot_be_kept_is_told(restricted: Bundle, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the folder's place")
    failed = runner.invoke(models, ["accept", "tiny", "--yes"])
    assert failed.exit_code == 2 and "LICENCE_NOT_KEPT" in failed.stderr


def test_a_damaged_acceptance_is_none(restricted: Bundle) -> None:
    accepted = AcceptedLicences(licences_dir())
    accepted.accept(restricted.digest, "CC-BY-NC-4.0", "tiny")
    assert (restricted.digest, "CC-BY-NC-4.0") in accepted
    (file,) = licences_dir().iterdir()
    for damage in ("", "[]", '{"digest": "another"}'):
        file.write_text(damage)
        assert (restricted.digest, "CC-BY-NC-4.0") not in accepted


@pytest.mark.parametrize(
    ("licence", "restricted"),
    [("Apache-2.0", False), ("mit", False), ("MIT AND (CC-BY-4.0)", False), ("CC-BY-NC-4.0", True), ("openrail", True),
     ("MIT AND CC-BY-NC-4.0", True), ("unknown (see LICENCE)", True), ("none stated by the publisher", True),
     ("stability-ai-community", True), ("", True)],
)  # fmt: skip
def test_what_is_not_known_to_forbid_nothing_is_restricted(licence: str, restricted: bool) -> None:
    assert is_restricted(licence) is restricted


def test_a_manifest_may_say_itself_whether_its_licence_is_restricted(installed: Path) -> None:
    spec = open_bundle(installed).spec
    assert "licence_restricted" not in spec.to_json() and "provenance" not in spec.to_json() and not spec.restricted
    for flag in (True, False):
        bundle = write_manifest(installed, replace(spec, licence="house rules", licence_restricted=flag))
        assert bundle.spec.restricted is flag
    manifest = installed / "bundle.json"
    manifest.write_text(manifest.read_text().replace('"licence_restricted": false', '"licence_restricted": "no"'))
    with pytest.raises(BundleError, match="licence_restricted is 'no'"):
        open_bundle(installed)


def test_remove_asks_and_deletes_only_installed_models(installed: Path, tmp_path: Path) -> None:
    for name in ("starter", "nope", "..", str(installed), "."):
        failed = runner.invoke(models, ["remove", name, "--yes"])
        assert failed.exit_code == 2 and "models that can be: tiny" in failed.stderr
    assert runner.invoke(models, ["remove", "tiny"], input="n\n").exit_code == 1
    assert installed.is_dir()
    elsewhere = Path(shutil.copytree(installed, tmp_path / "elsewhere"))
    (installed.parent / "linked").symlink_to(elsewhere)
    assert runner.invoke(models, ["remove", "linked", "--yes"]).exit_code == 0
    assert runner.invoke(models, ["remove", "tiny"], input="y\n").exit_code == 0
    assert list(installed.parent.iterdir()) == [] and (elsewhere / "bundle.json").is_file()


def test_both_rooms_mean_the_same_state_folder() -> None:
    assert state_dir() == paths.state_dir()
