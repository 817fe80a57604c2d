"""The clip folder: WAV files, the trash for deleted ones, and a small file of edits for each edited clip.

    clips/<id>.wav    clips/trash/<id>.wav    clips/edits/<id>.json
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from soundctm_daemon.edits import Edits
from soundctm_daemon.errors import LibraryError
from soundctm_daemon.files import PARTIAL_PATTERN, WriteFile, library_error, move_durably, partial_path

_log = logging.getLogger(__name__)


class Shelf:
    """Every method that changes something raises LibraryError and its kinds."""

    def __init__(self, folder: Path, write_file: WriteFile) -> None:
        self.folder, self._write_file = folder, write_file
        self._trash, self._edits = folder / "trash", folder / "edits"
        self._leftovers: set[Path] = set()  # files of clips that do not exist, which could not be removed

    def prepare(self) -> None:
        """Make the folders, and remove what a crash left half written."""
        with self.disk():
            for folder in (self.folder, self._trash, self._edits):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                for partial in folder.glob(PARTIAL_PATTERN):
                    _log.warning("removed the half-written file %s", partial)
                    partial.unlink(missing_ok=True)

    def write(self, file_name: str, data: bytes) -> Path:
        """A new WAV file; nothing of it is there when this fails."""
        for leftover in tuple(self._leftovers):
            self.discard(leftover)
        path = self._at(file_name, deleted=False)
        if path.exists() or self._at(file_name, deleted=True).exists():
            raise LibraryError(f"{path} exists already and is not overwritten; ask for the clip again.")
        try:
            self._write(path, data)
        except LibraryError:
            self.discard(path)
            raise
        return path

    def discard(self, path: Path) -> None:
        """Remove a file that was never announced, now or as soon as the disk allows it."""
        try:
            path.unlink(missing_ok=True)
        except OSError:
            self._leftovers.add(path)
        else:
            self._leftovers.discard(path)

    def sound_files(self) -> list[Path]:
        with self.disk():
            return [*self.folder.glob("*.wav"), *self._trash.glob("*.wav")]

    def is_in_trash(self, path: Path) -> bool:
        return path.parent == self._trash

    def locate(self, file_name: str, *, deleted: bool) -> Path:
        """Where the file is: the other place too, should a move have failed."""
        path, elsewhere = self._at(file_name, deleted=deleted), self._at(file_name, deleted=not deleted)
        return elsewhere if not path.exists() and elsewhere.exists() else path

    def require_room(self, file_name: str, *, deleted: bool) -> None:
        """Nothing lies where the file is to go."""
        path = self._at(file_name, deleted=deleted)
        if path.exists():
            raise LibraryError(f"{path} is in the way and is not overwritten; move it elsewhere and ask again.")

    def put(self, file_name: str, *, deleted: bool) -> None:
        """Move the file to the trash or back, unless it is there or nowhere."""
        source, destination = self._at(file_name, deleted=not deleted), self._at(file_name, deleted=deleted)
        if source.exists() and not destination.exists():
            with self.disk():
                move_durably(source, destination)

    def write_edits(self, clip_id: str, edits: Edits) -> None:
        self._write(self._edits / f"{clip_id}.json", edits.to_json().encode())

    def read_edits(self, clip_id: str) -> Edits | None:
        """None where there are none that can be read."""
        path = self._edits / f"{clip_id}.json"
        try:
            return Edits.from_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            _log.warning("%s is left alone: %s", path, error)
            return None

    def remove(self, clip_id: str, file_name: str) -> None:
        """For good."""
        with self.disk():
            for path in (self.locate(file_name, deleted=True), self._edits / f"{clip_id}.json"):
                path.unlink(missing_ok=True)

    def _write(self, path: Path, data: bytes) -> None:
        try:
            with self.disk():
                self._write_file(path, data)
        except LibraryError:
            self.discard(partial_path(path))
            raise

    @contextmanager
    def disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise library_error(error, self.folder) from error

    def _at(self, file_name: str, *, deleted: bool) -> Path:
        return (self._trash if deleted else self.folder) / file_name
