"""Exported graphs beside a bundle: `exports.json` lists them, their checksums and what runs them must know. No torch.

An exported folder holds the bundle unchanged, `bundle.json` byte for byte, and adds graphs. So its digest is the
bundle's own: a recipe made with one engine is the same recipe for every other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from soundctm.bundle import Bundle, find_bundle, installed_names, sha256_file
from soundctm.errors import BundleError, DigestMismatchError

EXPORTS = "exports.json"
FORMAT = 1


class Role(StrEnum):
    """What a graph computes."""

    TEXT = "text"        # token ids -> what the jump needs of a prompt, and the prompt's embedding
    JUMP = "jump"        # G (eq. 6)
    DECODER = "decoder"  # latent -> audio
    ENCODER = "encoder"  # audio -> latent
    PREVIEW = "preview"  # noise and what the jump needs of a prompt -> audio, in one jump


REQUIRED = (Role.TEXT, Role.JUMP, Role.DECODER, Role.ENCODER)  # what an engine cannot do without


@dataclass(frozen=True)
class GraphRecord:
    """`snr_db`: of its worst row, against PyTorch (of a preview: against jump and decoder), in whole decibels; one
    below `tolerance_db` is not written."""

    role: Role
    file: str
    precision: str
    opset: int
    snr_db: int
    tolerance_db: int


@dataclass(frozen=True)
class TextInputs:
    """How prompts become the text graph's ids [B, prompt_ids]."""

    prompt_ids: int
    pad_id: int


@dataclass(frozen=True)
class Tiling:
    """How the decoder graph takes a tile and its halo; lengths in latent frames.

    `noise_per_frame`: samples of standard normal per latent frame, 0 for a decoder without noise. `steps_per_frame`:
    the decoder's own frames per latent frame where it is told which of them to make (`overlap_steps` more than the
    tile's on either side share samples with it); 0 where it makes all it is given.
    """

    tile_frames: int
    halo_frames: int
    noise_per_frame: int = 0
    steps_per_frame: int = 0
    overlap_steps: int = 0


@dataclass(frozen=True)
class Exports:
    """`bundle_digest` names the bundle that was exported; `files` maps each file of the graphs to its sha256."""

    folder: Path
    bundle_digest: str
    graphs: Mapping[Role, GraphRecord]
    files: Mapping[str, str]
    text: TextInputs
    tiling: Tiling

    def graph_file(self, role: Role) -> Path:
        """Raises BundleError where no such graph was exported."""
        if role not in self.graphs:
            raise BundleError(
                f"{self.folder / EXPORTS} lists no graph {role.value!r}; it lists: "
                f"{', '.join(sorted(self.graphs)) or 'none'}. Export the bundle again with `soundctm export onnx`."
            )
        return self.folder / self.graphs[role].file

    def engine_bytes(self) -> int:
        """Size of what an engine loads: all but the preview, which shares the others' weights. Raises BundleError."""
        try:
            return sum((self.folder / name).stat().st_size for name in self._engine_files())
        except OSError as error:
            raise BundleError(f"{self.folder} cannot be read ({error}). Export the bundle again.") from error

    def _engine_files(self) -> Iterator[str]:
        return (name for name in self.files if not name.startswith(f"{Role.PREVIEW.value}."))

    def verify(self) -> None:
        """Compare every file with its checksum. Raises DigestMismatchError naming the first that differs."""
        for name, expected in sorted(self.files.items()):
            path = self.folder / name
            found = sha256_file(path) if path.is_file() else "that of no file: it is missing"
            if found != expected:
                raise DigestMismatchError(path, expected, found)

    def write(self) -> None:
        """Write `exports.json` into the folder. Raises OSError."""
        data = {
            "format": FORMAT,
            "bundle_digest": self.bundle_digest,
            "graphs": [asdict(self.graphs[role]) for role in sorted(self.graphs)],
            "files": dict(self.files),
            "text": asdict(self.text),
            "tiling": asdict(self.tiling),
        }
        (self.folder / EXPORTS).write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_exports(bundle: Bundle) -> Exports | None:
    """None where the folder holds no exported graphs. Raises BundleError where they cannot be those of the bundle."""
    path = bundle.path / EXPORTS
    if not path.exists():
        return None
    try:
        data = json.loads(path.read_bytes())
        version = data["format"]
        if version != FORMAT:
            raise BundleError(
                f"{path} has format {version}; this version reads format {FORMAT}. Export the bundle again."
            )
        exports = _from_json(bundle.path, data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path} is not a valid list of graphs ({error}). Export the bundle again.") from error
    if exports.bundle_digest != bundle.digest:
        raise BundleError(
            f"{path} lists graphs of the bundle {exports.bundle_digest[:12]}, this one is {bundle.digest[:12]}. "
            "Export this bundle again."
        )
    return exports


def exported_folders(bundle: Bundle) -> list[tuple[Bundle, Exports]]:
    """Folders with graphs of this bundle that an engine can run: its own, and those of installed models of its digest.

    Raises BundleError where its own graphs cannot be right; others' are not its concern.
    """
    found = {bundle.path: (bundle, exports)} if (exports := _complete(bundle)) else {}
    for name in installed_names():
        try:
            other = find_bundle(name)
            if other.digest == bundle.digest and (exports := _complete(other)):
                found.setdefault(other.path, (other, exports))
        except BundleError:
            continue
    return list(found.values())


def _complete(bundle: Bundle) -> Exports | None:
    exports = read_exports(bundle)
    if exports is not None:
        for role in REQUIRED:
            exports.graph_file(role)
    return exports


def _from_json(folder: Path, data: dict[str, Any]) -> Exports:
    records = [GraphRecord(**{**record, "role": Role(record["role"])}) for record in data["graphs"]]
    files = {str(name): str(digest) for name, digest in data["files"].items()}
    names = [*files, *(record.file for record in records)]
    if any(Path(name).name != name for name in names) or any(record.file not in files for record in records):
        raise ValueError("it names a file outside its folder, or without a checksum")
    return Exports(
        folder, str(data["bundle_digest"]), {record.role: record for record in records}, files,
        TextInputs(**data["text"]), Tiling(**data["tiling"]),
    )  # fmt: skip
