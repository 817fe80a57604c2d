"""The tables of the clip library as they are now, and how those of earlier versions become them."""

from __future__ import annotations

import json
import sqlite3

from soundctm_daemon.clip_filter import folded
from soundctm_daemon.seals import seal_all

VERSION = 3

_SCHEMA_OF_1 = """
CREATE TABLE clips (
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
_COLUMNS_OF_2 = (
    "created_us INTEGER NOT NULL DEFAULT 0",
    "words TEXT NOT NULL DEFAULT ''",   # prompt, label and notes, folded: what a text filter looks at
    "label TEXT NOT NULL DEFAULT ''",
    "tags TEXT NOT NULL DEFAULT ''",    # each between two marks
    "favourite INTEGER NOT NULL DEFAULT 0",
    "notes TEXT NOT NULL DEFAULT ''",
    "deleted_at REAL",                  # NULL: not deleted
    "embedding BLOB",                   # of the clip's description, float32 of unit length
    "embedded_by TEXT NOT NULL DEFAULT ''",  # digest of the bundle that made it
)


def bring_up_to_date(connection: sqlite3.Connection, version: int) -> None:
    """From nothing (0) or an earlier version, inside the caller's transaction."""
    if version == 0:
        connection.execute(_SCHEMA_OF_1)
    if version < 2:
        _from_1_to_2(connection)
    if version < 3:
        connection.execute("ALTER TABLE clips ADD COLUMN seal TEXT NOT NULL DEFAULT ''")  # see soundctm_daemon.seals
        seal_all(connection)
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _from_1_to_2(connection: sqlite3.Connection) -> None:
    for column in _COLUMNS_OF_2:
        connection.execute(f"ALTER TABLE clips ADD COLUMN {column}")
    rows = connection.execute("SELECT sequence, record FROM clips").fetchall()
    for sequence, record in rows:
        try:
            data = json.loads(record)
            label, prompt, created_us = data["label"], data["recipe"]["prompt"], round(data["created_at"] * 1e6)
            values = (created_us, folded(f"{prompt}\n{label}"), label)
        except (ValueError, KeyError, TypeError):
            continue  # the library drops rows that it cannot read, and takes their files up again
        connection.execute(
            "UPDATE clips SET created_us = ?, words = ?, label = ? WHERE sequence = ?", (*values, sequence)
        )
