"""The clip library's table in SQLite. Knows rows, not files."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from soundctm_daemon.errors import ClipFolderNotWritableError, DiskFullError, LibraryError

_VERSION = 1
_NEWER_THAN_ALL = 2**63 - 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS clips (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    file_name TEXT NOT NULL UNIQUE,
    size_bytes INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    problem TEXT NOT NULL DEFAULT '',
    record TEXT NOT NULL
)
"""
_COLUMNS = "id, file_name, size_bytes, modified_ns, sha256, problem, record"


class DatabaseDamagedError(LibraryError):
    """The file is no database, or a damaged one; the library moves it aside."""

    reason = "DATABASE_DAMAGED"


@dataclass(frozen=True)
class Row:
    """`modified_ns` is the file's time stamp when it was stored, `record` its clip record as JSON."""

    id: str
    file_name: str
    size_bytes: int
    modified_ns: int
    sha256: str
    problem: str
    record: str


class Database:
    """One connection behind one lock; every method may be called from any thread and blocks on the disk."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises DatabaseDamagedError, LibraryError and its other kinds."""
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        try:
            with self._translated():
                self._connection = self._open()
        except LibraryError:
            self.close()
            raise

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, check_same_thread=False)
        self._connection = connection  # so that close() reaches it when a pragma fails
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if answer != "ok":
            raise DatabaseDamagedError(f"{self._path}: {answer}")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise LibraryError(
                f"{self._path} was made by a newer version (format {version}, this one knows {_VERSION}). Upgrade "
                "soundctm-daw, or name another clip folder by SOUNDCTM_CLIPS."
            )
        with connection:
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        return connection

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def insert(self, row: Row) -> None:
        with self._session() as connection:
            connection.execute(
                f"INSERT INTO clips ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (row.id, row.file_name, row.size_bytes, row.modified_ns, row.sha256, row.problem, row.record),
            )

    def update_file(self, clip_id: str, *, modified_ns: int, problem: str) -> None:
        with self._session() as connection:
            connection.execute(
                "UPDATE clips SET modified_ns = ?, problem = ? WHERE id = ?", (modified_ns, problem, clip_id)
            )

    def get(self, clip_id: str) -> Row | None:
        with self._session() as connection:
            found = connection.execute(f"SELECT {_COLUMNS} FROM clips WHERE id = ?", (clip_id,)).fetchone()
        return Row(*found) if found else None

    def all(self) -> list[Row]:
        with self._session() as connection:
            return [Row(*found) for found in connection.execute(f"SELECT {_COLUMNS} FROM clips ORDER BY sequence")]

    def page(self, size: int, before: int | None) -> list[tuple[int, Row]]:
        """Up to `size` rows with their sequence numbers, newest first, all older than sequence `before`."""
        query = f"SELECT sequence, {_COLUMNS} FROM clips WHERE sequence < ? ORDER BY sequence DESC LIMIT ?"
        limits = (_NEWER_THAN_ALL if before is None else before, size)
        with self._session() as connection:
            return [(found[0], Row(*found[1:])) for found in connection.execute(query, limits)]

    @contextmanager
    def _session(self) -> Iterator[sqlite3.Connection]:
        """One transaction. Raises LibraryError and its kinds."""
        with self._lock, self._translated():
            if self._connection is None:
                raise LibraryError(f"{self._path} is closed: the daemon is stopping.")
            with self._connection:
                yield self._connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _library_error(error, self._path) from error


def _library_error(error: sqlite3.Error, path: Path) -> LibraryError:
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:  # the low byte is the primary code
        case sqlite3.SQLITE_FULL:
            return DiskFullError(f"the disk that holds {path} is full. Free some space and ask for the clip again.")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return ClipFolderNotWritableError(
                f"the clip library {path} cannot be written ({error}). Make {path.parent} writable for the daemon's "
                "user, or name another folder by SOUNDCTM_CLIPS and start the daemon again."
            )
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return DatabaseDamagedError(
                f"the clip library {path} is damaged ({error}). Stop the daemon and start it again: it moves the "
                "database aside and takes every clip up again from its WAV file."
            )
        case _:
            return LibraryError(f"the clip library {path} failed: {error}. Look at the daemon's log.")
