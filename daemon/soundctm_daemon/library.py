"""The clip library: WAV files and a database that names them. All methods block on the disk; any thread may call.

A clip's file is written aside, fsynced and renamed, then recorded in one transaction; only then does the clip exist.
Each file carries its whole record, so that a lost database is made again from the files.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from soundctm_daemon.clip import ClipRecord, StoredClip
from soundctm_daemon.database import Database, DatabaseDamagedError, Row
from soundctm_daemon.errors import ClipDamagedError, ClipNotFoundError, LibraryError
from soundctm_daemon.files import PARTIAL_PATTERN, WriteFile, library_error, sha256_file, write_durably

DATABASE_NAME = "library.sqlite"
_log = logging.getLogger(__name__)


class Library:
    def __init__(self, folder: Path, database: Database, write_file: WriteFile = write_durably) -> None:
        self.folder = folder
        self._database = database
        self._write_file = write_file

    def close(self) -> None:
        self._database.close()

    def add(self, record: ClipRecord, audio: NDArray[np.float32]) -> StoredClip:
        """Store audio float32 [channels, samples]. Raises LibraryError and its kinds; nothing is stored then."""
        from soundctm_daemon import wav  # soundfile is loaded with the first clip, not with the daemon

        data, path = wav.encode(audio, record), self.folder / f"{record.id}.wav"
        if path.exists():
            raise LibraryError(f"{path} exists already and is not overwritten; ask for the clip again.")
        sha256 = hashlib.sha256(data).hexdigest()
        with self._disk():
            self._write_file(path, data)
            modified_ns = path.stat().st_mtime_ns
        try:
            self._database.insert(Row(record.id, path.name, len(data), modified_ns, sha256, "", record.to_json()))
        except LibraryError:
            path.unlink(missing_ok=True)  # never announced, so it must not come back as a clip
            raise
        return StoredClip(record, path, len(data), sha256)

    def get(self, clip_id: str) -> StoredClip:
        """Raises ClipNotFoundError, LibraryError."""
        row = self._database.get(clip_id)
        if row is None:
            raise ClipNotFoundError(f"no clip has the id {clip_id!r}. List them with `soundctm clips list`.")
        return self._stored(row)

    def page(self, size: int, before: int | None) -> tuple[list[StoredClip], int | None]:
        """Newest first, older than `before`; and the `before` of the next page, None on the last."""
        rows = self._database.page(size + 1, before)
        clips = [self._stored(row) for _, row in rows[:size]]
        return clips, rows[size - 1][0] if len(rows) > size else None

    def read(self, clip: StoredClip) -> bytes:
        """The bytes of a clip's file. Raises ClipDamagedError when they are not the ones that were stored."""
        try:
            data = clip.path.read_bytes()
        except OSError as error:
            raise ClipDamagedError(f"clip {clip.record.id}: {clip.path} cannot be read ({error.strerror}).") from error
        if hashlib.sha256(data).hexdigest() != clip.sha256:
            raise ClipDamagedError(
                f"clip {clip.record.id}: {clip.path} is not the file that was stored (its sha256 differs). Its recipe "
                "is still known: `soundctm clips show` prints it, and the same recipe makes the same clip again."
            )
        return data

    def recover(self) -> None:
        """After a crash or a foreign hand: remove half-written files, flag clips whose file is gone or altered,
        take up files the database does not know. Everything found is logged by name.
        """
        with self._disk():
            for partial in self.folder.glob(PARTIAL_PATTERN):
                _log.warning("removed the half-written file %s", partial)
                partial.unlink(missing_ok=True)
        rows = self._database.all()
        for row in rows:
            self._check(row)
        known = {row.file_name for row in rows}
        orphans = [path for path in self.folder.glob("*.wav") if path.name not in known]
        if orphans:
            self._adopt(orphans)

    def _check(self, row: Row) -> None:
        path = self.folder / row.file_name
        try:
            found = path.stat()
            altered = (found.st_size, found.st_mtime_ns) != (row.size_bytes, row.modified_ns)
            problem = "altered" if (altered or row.problem) and sha256_file(path) != row.sha256 else ""
            modified_ns = found.st_mtime_ns
        except FileNotFoundError:
            problem, modified_ns = "missing", row.modified_ns
        except OSError as error:
            problem, modified_ns = f"unreadable: {error.strerror}", row.modified_ns
        if problem:
            _log.warning("clip %s: its file %s is %s", row.id, path, problem)
        if (problem, modified_ns) != (row.problem, row.modified_ns):
            self._database.update_file(row.id, modified_ns=modified_ns, problem=problem)

    def _adopt(self, paths: list[Path]) -> None:
        from soundctm_daemon import wav

        found: list[tuple[ClipRecord, Path]] = []
        for path in paths:
            try:
                found.append((wav.read_record(path), path))
            except (ValueError, OSError) as error:
                _log.warning("%s is not a clip of this library and is left alone: %s", path, error)
        for record, path in sorted(found, key=lambda pair: pair[0].created_at):
            if self._database.get(record.id) is not None:
                _log.warning("%s is a copy of clip %s and is left alone", path, record.id)
                continue
            about = path.stat()
            self._database.insert(
                Row(record.id, path.name, about.st_size, about.st_mtime_ns, sha256_file(path), "", record.to_json())
            )
            _log.warning("took up clip %s from its file %s", record.id, path)

    def _stored(self, row: Row) -> StoredClip:
        try:
            record = ClipRecord.from_json(row.record)
        except ValueError as error:
            raise LibraryError(f"clip {row.id} has an unreadable record in {self.folder}: {error}") from error
        return StoredClip(record, self.folder / row.file_name, row.size_bytes, row.sha256, row.problem)

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise library_error(error, self.folder) from error


def open_library(folder: Path, write_file: WriteFile = write_durably) -> Library:
    """Open or make the library of a folder, and recover it. A damaged database is moved aside, under a name, and
    made again from the WAV files. Raises LibraryError and its kinds.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise library_error(error, folder) from error
    path = folder / DATABASE_NAME
    try:
        database = Database(path)
    except DatabaseDamagedError as error:
        _log.error("%s", error)
        _move_aside(path)
        database = Database(path)
    library = Library(folder, database, write_file)
    library.recover()
    return library


def _move_aside(path: Path) -> None:
    """The database with its journals, to a name that says when. Raises LibraryError."""
    aside = path.with_name(f"{path.stem}.damaged-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}{path.suffix}")
    for suffix in ("", "-wal", "-shm"):
        piece = path.with_name(path.name + suffix)
        if piece.exists():
            try:
                piece.rename(aside.with_name(aside.name + suffix))
            except OSError as error:
                raise library_error(error, path.parent) from error
    _log.error("the damaged clip library was moved to %s; its clips are taken up again from their files", aside)
