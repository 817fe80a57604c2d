"""Clip records <-> rows of the database."""

from __future__ import annotations

from pathlib import Path

from soundctm_daemon.clip import ClipRecord, description
from soundctm_daemon.clip_filter import folded
from soundctm_daemon.database import Row
from soundctm_daemon.edits import Edits


def make_row(record: ClipRecord, path: Path, sha256: str, edits: Edits) -> Row:
    """Of a file that is there. Raises OSError."""
    about = path.stat()
    return Row(
        id=record.id,
        file_name=path.name,
        size_bytes=about.st_size,
        modified_ns=about.st_mtime_ns,
        sha256=sha256,
        problem="",
        record=record.to_json(),
        created_us=round(record.created_at * 1e6),
        words=words_of(record, edits),
        edits=edits,
    )


def words_of(record: ClipRecord, edits: Edits) -> str:
    """What a text filter looks at."""
    return folded("\n".join((description(record), edits.label, edits.notes)))


def described(row: Row) -> str:
    """The text that says what is heard. Raises ValueError for a record that cannot be read."""
    record = ClipRecord.from_json(row.record)
    return row.edits.label if record.recipe is None else description(record)
