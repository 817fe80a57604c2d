"""What the library finds when it opens: after a crash, after a foreign hand, with or without its database.

The files tell the truth and the database is made to follow them: a WAV file carries its record, a file of edits what
people said of the clip, and that it is deleted. Everything found is logged by name.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from soundctm_daemon.clip import ClipRecord, first_edits
from soundctm_daemon.database import Database, Row
from soundctm_daemon.errors import LibraryError
from soundctm_daemon.files import library_error, sha256_file
from soundctm_daemon.rows import make_row, words_of
from soundctm_daemon.shelf import Shelf

_log = logging.getLogger(__name__)


def recover(database: Database, shelf: Shelf) -> None:
    """Finish or forget what was half done, flag clips whose file is gone or altered, take up files the database does
    not know. Raises LibraryError and its kinds.
    """
    known = {row.file_name for row in database.all() if _keep(row, database, shelf)}
    orphans = [path for path in shelf.sound_files() if path.name not in known]
    if orphans:
        _adopt(orphans, database, shelf)


def move_aside(path: Path) -> None:
    """A damaged database with its journals, to a name that says when. Raises LibraryError."""
    aside = path.with_name(f"{path.stem}.damaged-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}{path.suffix}")
    for suffix in ("", "-wal", "-shm"):
        piece = path.with_name(path.name + suffix)
        if piece.exists():
            try:
                piece.rename(aside.with_name(aside.name + suffix))
            except OSError as error:
                raise library_error(error, path.parent) from error
    _log.error("the damaged clip library was moved to %s; its clips are taken up again from their files", aside)


def _keep(row: Row, database: Database, shelf: Shelf) -> bool:
    """Bring a row in line with its files. False when the row cannot be read: it goes, its file is looked at anew."""
    try:
        record = ClipRecord.from_json(row.record)
    except ValueError as error:
        _log.warning("clip %s has a record that cannot be read and is forgotten: %s", row.id, error)
        database.delete(row.id)
        return False
    edits = shelf.read_edits(row.id) or row.edits
    if edits != row.edits:
        _log.warning("clip %s: an edit was not recorded when the daemon ended; it is now", row.id)
        database.update_edits(row.id, edits, words_of(record, edits), keep_embedding=False)
    deleted = edits.deleted_at is not None
    try:
        shelf.put(row.file_name, deleted=deleted)
    except LibraryError as error:
        _log.warning("clip %s lies in the wrong folder: %s", row.id, error)
    _check(row, shelf.locate(row.file_name, deleted=deleted), database)
    return True


def _check(row: Row, path: Path, database: Database) -> None:
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
        database.update_file(row.id, modified_ns=modified_ns, problem=problem)


def _adopt(paths: Iterable[Path], database: Database, shelf: Shelf) -> None:
    from soundctm_daemon import wav  # soundfile is loaded only where there is something to read

    found: list[tuple[ClipRecord, Path]] = []
    for path in paths:
        try:
            found.append((wav.read_record(path), path))
        except (ValueError, OSError) as error:
            _log.warning("%s is not a clip of this library and is left alone: %s", path, error)
    for record, path in sorted(found, key=lambda pair: pair[0].created_at):
        if database.get(record.id) is not None:
            _log.warning("%s is a copy of clip %s and is left alone", path, record.id)
            continue
        _take_up(record, path, database, shelf)


def _take_up(record: ClipRecord, path: Path, database: Database, shelf: Shelf) -> None:
    edits = shelf.read_edits(record.id)
    if edits is None:
        edits = first_edits(record)
        if shelf.is_in_trash(path):
            edits = replace(edits, deleted_at=time.time())
    try:
        row = make_row(record, path, sha256_file(path), edits)
    except OSError as error:
        _log.warning("%s is left alone: %s", path, error)
        return
    database.insert(row)
    shelf.put(path.name, deleted=edits.deleted_at is not None)
    _log.warning("took up clip %s from its file %s", record.id, path)
