"""The clip library's table in SQLite. Knows rows, not files."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soundctm_daemon.clip_filter import TAG_MARK, ClipFilter
from soundctm_daemon.database_versions import VERSION, bring_up_to_date
from soundctm_daemon.edits import Edits
from soundctm_daemon.errors import (
    ClipFolderNotWritableError,
    DiskFullError,
    LibraryError,
    LibraryLockedError,
)
from soundctm_daemon.seals import broken_seals, seal

_NEWER_THAN_ALL = 2**63 - 1
BUSY_SECONDS = 5.0  # how long another process may hold the database before a call fails
_FACTS = ("id", "file_name", "size_bytes", "modified_ns", "sha256", "problem", "record", "created_us", "words")
_EDITS = ("label", "tags", "favourite", "notes", "deleted_at")
_COLUMNS = ", ".join((*_FACTS, *_EDITS))
_PLACES = ", ".join("?" for _ in (*_FACTS, *_EDITS))


class DatabaseDamagedError(LibraryError):
    """The file is no database, or a damaged one; the library moves it aside."""

    reason = "DATABASE_DAMAGED"


@dataclass(frozen=True)
class Row:
    """`modified_ns` is the file's time stamp when it was stored, `record` its clip record as JSON, `created_us`
    microseconds since 1970, `words` what a text filter looks at.
    """

    id: str
    file_name: str
    size_bytes: int
    modified_ns: int
    sha256: str
    problem: str
    record: str
    created_us: int
    words: str
    edits: Edits


@dataclass(frozen=True)
class Embedding:
    """`vector` is float32, as bytes; `made_by` the digest of the bundle that made it."""

    vector: bytes
    made_by: str


class Database:
    """One connection behind one lock; every method may be called from any thread and blocks on the disk."""

    def __init__(self, path: Path, busy_seconds: float = BUSY_SECONDS) -> None:
        """Open, make or bring up to date the file. Raises DatabaseDamagedError, LibraryError and its other kinds."""
        self._path, self._busy_seconds = path, busy_seconds
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        try:
            with self._translated():
                self._connection = self._open()
        except LibraryError:
            self.close()
            raise

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=self._busy_seconds, isolation_level=None, check_same_thread=False
        )
        self._connection = connection  # so that close() reaches it when a pragma fails
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        (answer,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if answer != "ok":
            raise DatabaseDamagedError(f"{self._path}: {answer}")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise LibraryError(
                f"{self._path} was made by a newer version (format {version}, this one knows {VERSION}). Upgrade "
                "soundctm-daw, or name another clip folder by SOUNDCTM_CLIPS."
            )
        if version < VERSION:
            with _transaction(connection):
                bring_up_to_date(connection, version)
        if broken := broken_seals(connection):
            raise DatabaseDamagedError(f"{self._path}: {len(broken)} rows are not what was stored (row {broken[0]})")
        return connection

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def insert(self, row: Row, embedding: Embedding | None = None) -> None:
        values = (*(getattr(row, name) for name in _FACTS), *_edit_values(row.edits))
        with self._writing() as connection:
            connection.execute(f"INSERT INTO clips ({_COLUMNS}) VALUES ({_PLACES})", values)
            if embedding is not None:
                _embed(connection, row.id, embedding)
            seal(connection, row.id)

    def update_file(self, clip_id: str, *, modified_ns: int, problem: str) -> None:
        with self._writing() as connection:
            connection.execute(
                "UPDATE clips SET modified_ns = ?, problem = ? WHERE id = ?", (modified_ns, problem, clip_id)
            )
            seal(connection, clip_id)

    def update_edits(self, clip_id: str, edits: Edits, words: str, *, keep_embedding: bool) -> None:
        """`keep_embedding` False: the clip's description has changed."""
        with self._writing() as connection:
            connection.execute(
                f"UPDATE clips SET words = ?, {', '.join(f'{name} = ?' for name in _EDITS)} WHERE id = ?",
                (words, *_edit_values(edits), clip_id),
            )
            if not keep_embedding:
                connection.execute("UPDATE clips SET embedding = NULL, embedded_by = '' WHERE id = ?", (clip_id,))
            seal(connection, clip_id)

    def delete(self, clip_id: str) -> None:
        with self._writing() as connection:
            connection.execute("DELETE FROM clips WHERE id = ?", (clip_id,))

    def get(self, clip_id: str) -> Row | None:
        with self._reading() as connection:
            found = connection.execute(f"SELECT {_COLUMNS} FROM clips WHERE id = ?", (clip_id,)).fetchone()
        return _row(found) if found else None

    def all(self) -> list[Row]:
        with self._reading() as connection:
            return [_row(found) for found in connection.execute(f"SELECT {_COLUMNS} FROM clips ORDER BY sequence")]

    def page(self, size: int, before: int | None, which: ClipFilter) -> list[tuple[int, Row]]:
        """Up to `size` rows with their sequence numbers, newest first, all older than sequence `before`."""
        condition, values = which.condition()
        query = (
            f"SELECT sequence, {_COLUMNS} FROM clips WHERE sequence < ? AND {condition} ORDER BY sequence DESC LIMIT ?"
        )
        with self._reading() as connection:
            found = connection.execute(query, (_NEWER_THAN_ALL if before is None else before, *values, size))
            return [(each[0], _row(each[1:])) for each in found]

    def deleted_before(self, time: float) -> list[Row]:
        query = f"SELECT {_COLUMNS} FROM clips WHERE deleted_at IS NOT NULL AND deleted_at < ?"
        with self._reading() as connection:
            return [_row(found) for found in connection.execute(query, (time,))]

    def keep_embeddings(self, embeddings: Iterable[tuple[str, Embedding]]) -> None:
        with self._writing() as connection:
            for clip_id, embedding in embeddings:
                _embed(connection, clip_id, embedding)

    def not_embedded_by(self, digest: str, size_bytes: int) -> list[Row]:
        """Clips that are not deleted and have no vector of this bundle and size."""
        query = (
            f"SELECT {_COLUMNS} FROM clips WHERE deleted_at IS NULL "
            "AND (embedded_by != ? OR embedding IS NULL OR length(embedding) != ?) ORDER BY sequence"
        )
        with self._reading() as connection:
            return [_row(found) for found in connection.execute(query, (digest, size_bytes))]

    def embedded_by(
        self, digest: str, size_bytes: int, size: int, before: int | None
    ) -> list[tuple[int, str, bytes]]:
        """Sequences, ids and vectors of clips that are not deleted: the `size` newest of those before `before`."""
        query = (
            "SELECT sequence, id, embedding FROM clips WHERE sequence < ? AND deleted_at IS NULL AND embedded_by = ? "
            "AND length(embedding) = ? ORDER BY sequence DESC LIMIT ?"
        )
        with self._reading() as connection:
            last = _NEWER_THAN_ALL if before is None else before
            return connection.execute(query, (last, digest, size_bytes, size)).fetchall()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Raises LibraryError and its kinds."""
        with self._lock, self._translated():
            if self._connection is None:
                raise LibraryError(f"{self._path} is closed: the daemon is stopping.")
            yield self._connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction. Raises LibraryError and its kinds."""
        with self._reading() as connection, _transaction(connection):
            yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _library_error(error, self._path) from error


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite ends it by itself after some errors
            connection.execute("ROLLBACK")
        raise


def _embed(connection: sqlite3.Connection, clip_id: str, embedding: Embedding) -> None:
    connection.execute(
        "UPDATE clips SET embedding = ?, embedded_by = ? WHERE id = ?", (embedding.vector, embedding.made_by, clip_id)
    )


def _row(found: Sequence[Any]) -> Row:
    label, tags, favourite, notes, deleted_at = found[len(_FACTS) :]
    held = tuple(tag for tag in tags.split(TAG_MARK) if tag)
    facts: dict[str, Any] = dict(zip(_FACTS, found, strict=False))
    return Row(**facts, edits=Edits(label, held, bool(favourite), notes, deleted_at))


def _edit_values(edits: Edits) -> tuple[Any, ...]:
    """For the columns _EDITS."""
    tags = "".join(f"{TAG_MARK}{tag}" for tag in edits.tags) + TAG_MARK
    return edits.label, tags, edits.favourite, edits.notes, edits.deleted_at


def _library_error(error: sqlite3.Error, path: Path) -> LibraryError:
    match getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF:  # the low byte is the primary code
        case sqlite3.SQLITE_FULL:
            return DiskFullError(f"the disk that holds {path} is full. Free some space and ask again.")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return ClipFolderNotWritableError(
                f"the clip library {path} cannot be written ({error}). Make {path.parent} writable for the daemon's "
                "user, or name another folder by SOUNDCTM_CLIPS and start the daemon again."
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return LibraryLockedError(
                f"the clip library {path} is held by another program ({error}). Close what has it open, a database "
                "browser perhaps, and ask again."
            )
        # SQLITE_ERROR: the tables are not ours any more; SQLITE_OK: Python's own, of text that is no UTF-8
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_ERROR | sqlite3.SQLITE_OK:
            return DatabaseDamagedError(
                f"the clip library {path} is damaged ({error}). Stop the daemon and start it again: it moves the "
                "database aside and takes every clip up again from its WAV file."
            )
        case _:
            return LibraryError(f"the clip library {path} failed: {error}. Look at the daemon's log.")
