"""The clip library: WAV files and a database that names them. All methods block on the disk; any thread may call.

A clip's file is written aside, fsynced and renamed, then recorded in one transaction; only then does the clip exist.
Each file carries its whole record, and what people say of a clip lies in a file beside it, so that a lost database is
made again from the files.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from soundctm_daemon.clip import ClipRecord, StoredClip, first_edits
from soundctm_daemon.clip_filter import ClipFilter
from soundctm_daemon.database import BUSY_SECONDS, Database, DatabaseDamagedError, Embedding, Row
from soundctm_daemon.edits import Edits
from soundctm_daemon.errors import ClipDamagedError, ClipNotFoundError, LibraryError
from soundctm_daemon.files import WriteFile, write_durably
from soundctm_daemon.recovery import move_aside, recover
from soundctm_daemon.rows import described, make_row, words_of
from soundctm_daemon.shelf import Shelf

DATABASE_NAME = "library.sqlite"
TRASH_DAYS = 30.0
_DAY_SECONDS = 86400.0
_PURGE_EVERY_SECONDS = 3600.0
_EVERYTHING = ClipFilter()
_FLOAT, _FLOAT_BYTES = "<f4", 4
_VECTORS_IN_PAGE = 1024
_log = logging.getLogger(__name__)


class Library:
    """`clock` gives seconds that only grow, from any start."""

    def __init__(
        self, database: Database, shelf: Shelf, trash_days: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.folder = shelf.folder
        self._database, self._shelf = database, shelf
        self._trash_seconds, self._clock = trash_days * _DAY_SECONDS, clock
        # from here on by the clock that only grows: a system clock set forward must not empty the trash
        self._opened_at, self._opened_clock = time.time(), clock()
        self._purged_clock: float | None = None
        self._editing = threading.Lock()
        self._unsettled: dict[str, Row] = {}  # whose files could not be brought back to what the row says

    def close(self) -> None:
        self._database.close()

    def add(
        self, record: ClipRecord, audio: NDArray[np.float32], embedding: NDArray[np.float32] | None = None
    ) -> StoredClip:
        """Store audio float32 [channels, samples], and the unit vector [D] of its prompt as the bundle of its recipe
        embeds it. Raises LibraryError and its kinds; nothing is stored then.
        """
        from soundctm_daemon import wav  # soundfile is loaded with the first clip, not with the daemon

        self.purge_if_due()
        data, edits = wav.encode(audio, record), first_edits(record)
        path, sha256 = self._shelf.write(f"{record.id}.wav", data), hashlib.sha256(data).hexdigest()
        try:
            with self._shelf.disk():
                row = make_row(record, path, sha256, edits)
            self._database.insert(row, _embedding(record, embedding))
        except LibraryError:
            self._shelf.discard(path)  # never announced, so it must not come back as a clip
            raise
        return StoredClip(record, path, len(data), sha256, edits)

    def get(self, clip_id: str) -> StoredClip:
        """Raises ClipNotFoundError, LibraryError."""
        return self._stored(self._row(clip_id))

    def page(
        self, size: int, before: int | None, which: ClipFilter = _EVERYTHING
    ) -> tuple[list[StoredClip], int | None]:
        """Newest first, older than `before`; and the `before` of the next page, None on the last."""
        rows = self._database.page(size + 1, before, which)
        clips = [self._stored(row) for _, row in rows[:size]]
        return clips, rows[size - 1][0] if len(rows) > size else None

    def open(self, clip: StoredClip) -> BinaryIO:
        """A clip's file, from its start. Raises ClipDamagedError when it is not the one that was stored."""
        with ExitStack() as unless_sound:
            try:
                stream = unless_sound.enter_context(clip.path.open("rb"))
                found = hashlib.file_digest(stream, "sha256").hexdigest()
                stream.seek(0)
            except OSError as error:
                raise ClipDamagedError(
                    f"clip {clip.record.id}: {clip.path} cannot be read ({error.strerror})."
                ) from error
            if found != clip.sha256:
                raise ClipDamagedError(
                    f"clip {clip.record.id}: {clip.path} is not the file that was stored (its sha256 differs). Its "
                    "recipe is still known: `soundctm clips show` prints it, and the same recipe makes the same clip "
                    "again."
                )
            unless_sound.pop_all()
        return stream

    def edit(self, clip_id: str, change: Callable[[Edits], Edits]) -> StoredClip:
        """Change what people say of a clip. Raises ClipNotFoundError, LibraryError and its kinds; all is as it was
        then, or will be before the next edit."""
        with self._editing:
            for unsettled in tuple(self._unsettled.values()):
                self._take_back(unsettled)
            row = self._row(clip_id)
            edits = change(row.edits)
            deleted = edits.deleted_at is not None
            if deleted != (row.edits.deleted_at is not None):
                self._shelf.require_room(row.file_name, deleted=deleted)
            if edits != row.edits:
                try:
                    self._bring_about(row, edits)
                except LibraryError:
                    self._take_back(row)
                    raise
                self._unsettled.pop(clip_id, None)
        return self.get(clip_id)

    def delete(self, clip_id: str) -> StoredClip:
        """To the trash; nothing happens to a clip that lies there. Raises as `edit` does."""
        now = time.time()
        clip = self.edit(
            clip_id, lambda edits: replace(edits, deleted_at=now if edits.deleted_at is None else edits.deleted_at)
        )
        self.purge_if_due()
        return clip

    def undelete(self, clip_id: str) -> StoredClip:
        """Out of the trash again. Raises as `edit` does."""
        return self.edit(clip_id, lambda edits: replace(edits, deleted_at=None))

    def purge_if_due(self) -> None:
        """Once an hour, remove for good what lay in the trash for long enough. What fails is tried again."""
        clock = self._clock()
        if self._purged_clock is not None and clock - self._purged_clock < _PURGE_EVERY_SECONDS:
            return
        self._purged_clock = clock
        now = self._opened_at + clock - self._opened_clock
        try:
            with self._editing:
                for row in self._database.deleted_before(now - self._trash_seconds):
                    self._database.delete(row.id)
                    self._shelf.remove(row.id, row.file_name)
                    _log.info("clip %s was deleted long ago; its file is removed", row.id)
        except LibraryError as error:
            _log.warning("the trash was not emptied: %s", error)

    def not_embedded(self, digest: str, dim: int) -> list[tuple[str, str]]:
        """Ids of clips without a vector [dim] of this bundle, and the texts that describe them."""
        found = []
        for row in self._database.not_embedded_by(digest, dim * _FLOAT_BYTES):
            try:
                found.append((row.id, described(row)))
            except ValueError as error:
                _log.warning("clip %s cannot be found by meaning: %s", row.id, error)
        return found

    def keep_embeddings(self, texts: Sequence[tuple[str, str]], vectors: NDArray[np.float32], digest: str) -> None:
        """Of ids and texts as `not_embedded` gave them: unit vectors [N, D] of this bundle."""
        with self._editing:  # a clip that was renamed meanwhile is described by another text
            rows = [(self._database.get(clip_id), text) for clip_id, text in texts]
            self._database.keep_embeddings(
                (row.id, Embedding(_as_bytes(vector), digest))
                for (row, text), vector in zip(rows, vectors, strict=True)
                if row is not None and described(row) == text
            )

    def nearest(
        self, query: NDArray[np.float32], digest: str, limit: int, besides: str = ""
    ) -> list[tuple[StoredClip, float]]:
        """Clips, without `besides`, by their cosine to a unit vector [D] of this bundle, nearest first."""
        best: list[tuple[str, float]] = []
        for ids, vectors in self._embedded(digest, query.size, besides):
            best += zip(ids, np.clip(vectors @ query, -1.0, 1.0).tolist(), strict=True)
            best = sorted(best, key=lambda found: -found[1])[:limit]
        rows = [(self._database.get(clip_id), cosine) for clip_id, cosine in best]
        return [(self._stored(row), cosine) for row, cosine in rows if row is not None]

    def _embedded(self, digest: str, dim: int, besides: str) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        """Ids and vectors [N, dim], newest first; in pages, so that a large library is never in memory whole."""
        before: int | None = None
        while page := self._database.embedded_by(digest, dim * _FLOAT_BYTES, _VECTORS_IN_PAGE, before):
            before = page[-1][0]
            kept = [(clip_id, vector) for _, clip_id, vector in page if clip_id != besides]
            vectors = np.frombuffer(b"".join(vector for _, vector in kept), _FLOAT).reshape(len(kept), dim)
            yield [clip_id for clip_id, _ in kept], vectors

    def _row(self, clip_id: str) -> Row:
        row = self._database.get(clip_id)
        if row is None:
            raise ClipNotFoundError(f"no clip has the id {clip_id!r}. List them with `soundctm clips list`.")
        return row

    def _bring_about(self, row: Row, edits: Edits) -> None:
        """Files first, the database last: what is half done when the power fails is finished at the next start."""
        try:
            record = ClipRecord.from_json(row.record)
        except ValueError as error:
            raise self._unreadable(row, error) from error
        self._place(row, edits)
        renamed = record.recipe is None and edits.label != row.edits.label
        self._database.update_edits(row.id, edits, words_of(record, edits), keep_embedding=not renamed)

    def _place(self, row: Row, edits: Edits) -> None:
        self._shelf.write_edits(row.id, edits)
        self._shelf.put(row.file_name, deleted=edits.deleted_at is not None)

    def _take_back(self, row: Row) -> None:
        """Make the files what the row says, now or before the next edit."""
        self._unsettled[row.id] = row
        try:
            self._place(row, row.edits)
            del self._unsettled[row.id]
        except LibraryError as error:
            _log.warning("an edit of clip %s was taken back only in part, the rest follows: %s", row.id, error)

    def _stored(self, row: Row) -> StoredClip:
        try:
            record = ClipRecord.from_json(row.record)
        except ValueError as error:
            raise self._unreadable(row, error) from error
        path = self._shelf.locate(row.file_name, deleted=row.edits.deleted_at is not None)
        named = replace(record, label=row.edits.label)
        return StoredClip(named, path, row.size_bytes, row.sha256, row.edits, row.problem)

    def _unreadable(self, row: Row, error: ValueError) -> LibraryError:
        return LibraryError(f"clip {row.id} has an unreadable record in {self.folder}: {error}")


def open_library(
    folder: Path,
    write_file: WriteFile = write_durably,
    trash_days: float = TRASH_DAYS,
    busy_seconds: float = BUSY_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Library:
    """Open or make the library of a folder, recover it, and empty its trash of what lay there for `trash_days`. A
    damaged database is moved aside, under a name, and made again from the WAV files. `busy_seconds` is how long
    another program may hold the database. Raises LibraryError and its kinds.
    """
    shelf, path = Shelf(folder, write_file), folder / DATABASE_NAME
    shelf.prepare()
    try:
        database = Database(path, busy_seconds)
    except DatabaseDamagedError as error:
        _log.error("%s", error)
        move_aside(path)
        database = Database(path, busy_seconds)
    recover(database, shelf)
    library = Library(database, shelf, trash_days, clock)
    library.purge_if_due()
    return library


def _embedding(record: ClipRecord, vector: NDArray[np.float32] | None) -> Embedding | None:
    if vector is None or record.recipe is None or record.other_weights:
        return None  # of weights that nothing names: a search embeds the prompt itself
    return Embedding(_as_bytes(vector), record.recipe.bundle_digest)


def _as_bytes(vector: NDArray[np.float32]) -> bytes:
    return vector.astype(_FLOAT).tobytes()
