"""A bundle is a model folder: `bundle.json` (spec and checksums), weights, licence, model card, exported graphs.

The bundle's digest is the sha256 of `bundle.json`; since that file holds every other file's checksum,
one digest names the whole model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soundctm.errors import BundleError, BundleNotFoundError, DigestMismatchError
from soundctm.settings import STARTER, models_dir, starter_dir
from soundctm.spec import BundleSpec

MANIFEST = "bundle.json"
NETWORK_FILE = "network.safetensors"
CODEC_FILE = "codec.safetensors"
TEXT_FILE = "text.safetensors"
TOKENIZER_FILE = "tokenizer.json"
FAMILIAR_FILE = "familiar.safetensors"  # optional: see soundctm.familiarity
FORMAT = 1


@dataclass(frozen=True)
class Bundle:
    """`files` maps each file's name to its sha256."""

    path: Path
    spec: BundleSpec
    files: Mapping[str, str]
    digest: str

    def file(self, name: str) -> Path:
        """Path of one file. Raises BundleError when the bundle names no such file."""
        if name not in self.files:
            known = ", ".join(sorted(self.files))
            raise BundleError(f"{self.path / MANIFEST} names no file {name!r}; it names: {known}")
        return self.path / name

    def verify(self) -> None:
        """Compare every file with its checksum. Raises DigestMismatchError for the first that differs, BundleError."""
        for name, expected in sorted(self.files.items()):
            path = self.path / name
            try:
                found = sha256_file(path) if path.is_file() else "that of no file: it is missing"
            except OSError as error:
                raise BundleError(f"{path} cannot be read ({error.strerror}). Make it readable.") from error
            if found != expected:
                raise DigestMismatchError(path, expected, found)


def sha256_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def open_bundle(path: Path) -> Bundle:
    """Read a bundle's manifest; weights are not touched. Raises BundleError."""
    manifest = path / MANIFEST
    try:
        raw = manifest.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{path} is no bundle: {MANIFEST} cannot be read ({error.strerror}). Give the path of a bundle folder."
        ) from error
    try:
        data = json.loads(raw)
        files = {str(name): str(digest) for name, digest in data["files"].items()}
        version, spec_data = data["format"], data["spec"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{manifest} is not a valid manifest ({error}). Install the bundle again.") from error
    if version != FORMAT:
        raise BundleError(f"{manifest} has format {version}; this version reads format {FORMAT}. Upgrade soundctm-daw.")
    if any(Path(name).name != name for name in files):
        raise BundleError(f"{manifest} names a file outside its folder; refusing it.")
    return Bundle(path, BundleSpec.from_json(spec_data), files, hashlib.sha256(raw).hexdigest())


def find_bundle(name: str, models: Path | None = None) -> Bundle:
    """By name (the starter, or one in the models folder) or by path. Raises BundleNotFoundError, BundleError."""
    models = models_dir() if models is None else models
    if name == STARTER:
        return open_bundle(starter_dir())
    as_path = Path(name).expanduser()
    if as_path.name != name and as_path.is_dir():
        return open_bundle(as_path)
    if as_path.name == name and (models / name / MANIFEST).is_file():
        return open_bundle(models / name)
    raise BundleNotFoundError(name, installed_names(models))


def installed_names(models: Path | None = None) -> list[str]:
    """Names that `find_bundle` takes: the starter first, then what the models folder holds; no hidden folders."""
    models = models_dir() if models is None else models
    names = (manifest.parent.name for manifest in models.glob(f"*/{MANIFEST}"))
    return [STARTER, *sorted(name for name in names if not name.startswith("."))]


def write_manifest(path: Path, spec: BundleSpec) -> Bundle:
    """Complete a folder that holds the bundle's files with its `bundle.json`, and open it."""
    files = {
        file.name: sha256_file(file) for file in sorted(path.iterdir()) if file.is_file() and file.name != MANIFEST
    }
    data: dict[str, Any] = {"format": FORMAT, "spec": spec.to_json(), "files": files}
    (path / MANIFEST).write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")
    return open_bundle(path)
