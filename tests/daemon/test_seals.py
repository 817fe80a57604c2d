"""Whatever a failing disk or a foreign hand changes in the database, the next start notices, and has it right again."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from soundctm_daemon.clip import StoredClip
from soundctm_daemon.clip_filter import ClipFilter
from soundctm_daemon.database import Database
from soundctm_daemon.database_versions import VERSION
from soundctm_daemon.library import DATABASE_NAME, open_library
from stored_clips import AUDIO, record

CHANGES = [
    "UPDATE clips SET label = 'rein' WHERE label = 'rain'",
    "UPDATE clips SET label = CAST(x'7261ff6e' AS TEXT) WHERE label = 'rain'",
    "UPDATE clips SET sha256 = replace(sha256, substr(sha256, 1, 1), 'f') || ''",
    "UPDATE clips SET size_bytes = size_bytes + 1",
    "UPDATE clips SET record = replace(record, '\"samples\": 4410', '\"samples\": 4411')",
    "UPDATE clips SET tags = 7, favourite = 'yes'",
    "UPDATE clips SET sequence = sequence + 5",
    "UPDATE clips SET seal = ''",
    "ALTER TABLE clips DROP COLUMN notes",
    "ALTER TABLE clips RENAME TO clops",
    "DROP TABLE clips",
    "PRAGMA user_version = 0",
    f"PRAGMA user_version = {VERSION - 1}",
]


def contents(folder: Path) -> dict[str, StoredClip]:
    library = open_library(folder)
    clips = library.page(100, None)[0] + library.page(100, None, ClipFilter(deleted=True))[0]
    library.close()
    return {clip.record.id: clip for clip in clips}


def filled(folder: Path) -> dict[str, StoredClip]:
    library = open_library(folder)
    clips = [library.add(record(1e9 + number), AUDIO) for number in range(4)]
    library.edit(clips[0].record.id, lambda edits: replace(edits, label="the name", tags=("a", "b"), favourite=True))
    library.delete(clips[1].record.id)
    library.close()
    return contents(folder)


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_row_or_table_is_noticed_and_made_again(tmp_path: Path, change: str) -> None:
    before = filled(tmp_path)
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME, isolation_level=None)) as hand:
        hand.execute(change)
    assert contents(tmp_path) == before
    assert list(tmp_path.glob("library.damaged-*.sqlite"))
    assert contents(tmp_path) == before


def test_any_byte_may_change(tmp_path: Path) -> None:
    before, chance = filled(tmp_path), random.Random(1)
    path = tmp_path / DATABASE_NAME
    for _ in range(30):
        content = bytearray(path.read_bytes())
        position = chance.choice([number for number, byte in enumerate(content) if byte])  # the rest is hardly used
        content[position] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        assert contents(tmp_path) == before, f"byte {position}"


def test_what_the_library_itself_writes_is_never_taken_for_damage(tmp_path: Path) -> None:
    filled(tmp_path)
    assert not list(tmp_path.glob("library.damaged-*"))
    Database(tmp_path / DATABASE_NAME).close()
