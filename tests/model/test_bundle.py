from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from soundctm.bundle import MANIFEST, NETWORK_FILE, find_bundle, installed_names, open_bundle
from soundctm.errors import BundleError, BundleNotFoundError, DigestMismatchError
from soundctm.spec import BundleSpec
from tiny import TINY_SPEC, write_tiny_bundle


@pytest.fixture
def bundle_dir(tiny_bundle_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle_dir, tmp_path / "models" / "tiny"))


def test_spec_survives_its_json() -> None:
    assert BundleSpec.from_json(json.loads(json.dumps(TINY_SPEC.to_json()))) == TINY_SPEC


def test_a_whole_bundle_verifies_and_is_found_by_name_and_by_path(bundle_dir: Path) -> None:
    by_name, by_path = find_bundle("tiny"), find_bundle(str(bundle_dir))
    by_name.verify()
    assert by_name == by_path
    assert installed_names() == ["starter", "tiny"]


@pytest.mark.parametrize("damage", ["altered", "truncated", "missing"])
def test_a_damaged_weights_file_is_named(bundle_dir: Path, damage: str) -> None:
    weights = bundle_dir / NETWORK_FILE
    raw = weights.read_bytes()
    if damage == "missing":
        weights.unlink()
    else:
        weights.write_bytes(raw[:-100] if damage == "truncated" else raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(DigestMismatchError, match=NETWORK_FILE):
        open_bundle(bundle_dir).verify()


def test_other_weights_have_another_digest(tmp_path: Path) -> None:
    assert write_tiny_bundle(tmp_path / "a", seed=1).digest != write_tiny_bundle(tmp_path / "b", seed=2).digest


def test_an_unknown_model_names_the_known_ones(bundle_dir: Path) -> None:
    with pytest.raises(BundleNotFoundError, match=r"'nope'.*starter, tiny"):
        find_bundle("nope")


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ("{", "not a valid manifest"),
        ("[]", "not a valid manifest"),
        ('{"format": 99, "spec": {}, "files": {}}', "format 99"),
        ('{"format": 1, "spec": {}, "files": {}}', "spec is not valid"),
        ('{"format": 1, "spec": {}, "files": {"../../etc/passwd": "0"}}', "outside its folder"),
    ],
)
def test_a_bad_manifest_says_what_is_wrong(tmp_path: Path, manifest: str, said: str) -> None:
    (tmp_path / MANIFEST).write_text(manifest)
    with pytest.raises(BundleError, match=said):
        open_bundle(tmp_path)
