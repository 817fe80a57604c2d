"""A digest in every row of the clip library: what a failing disk or a foreign hand changed within it is noticed when
the library opens. SQLite itself notices only what breaks its own structure.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from typing import Any

_SEALED = (
    "sequence, id, file_name, size_bytes, modified_ns, sha256, problem, record, created_us, words, label, tags, "
    "favourite, notes, deleted_at"
)


def seal(connection: sqlite3.Connection, clip_id: str) -> None:
    """After every change of a row, in its transaction."""
    found = connection.execute(f"SELECT {_SEALED} FROM clips WHERE id = ?", (clip_id,)).fetchone()
    if found is not None:
        connection.execute("UPDATE clips SET seal = ? WHERE id = ?", (_digest(found), clip_id))


def seal_all(connection: sqlite3.Connection) -> None:
    for found in connection.execute(f"SELECT {_SEALED} FROM clips").fetchall():
        connection.execute("UPDATE clips SET seal = ? WHERE sequence = ?", (_digest(found), found[0]))


def broken_seals(connection: sqlite3.Connection) -> list[int]:
    """Sequence numbers of the rows that are not what was stored."""
    rows = connection.execute(f"SELECT seal, {_SEALED} FROM clips").fetchall()
    return [row[1] for row in rows if row[0] != _digest(row[1:])]


def _digest(values: Sequence[Any]) -> str:
    return hashlib.sha256(repr(tuple(values)).encode("utf-8", "surrogatepass")).hexdigest()
