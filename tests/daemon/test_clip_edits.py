"""What people say of a clip is kept, through crashes, lost databases and earlier versions; deleting can be undone."""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from soundctm.errors import InvalidRequestError
from soundctm_daemon.clip import AudioFinding, ClipOrigin, ClipRecord, StoredClip
from soundctm_daemon.clip_filter import ClipFilter
from soundctm_daemon.database_versions import VERSION
from soundctm_daemon.edits import Edits, checked_tags
from soundctm_daemon.errors import ClipNotFoundError, LibraryError
from soundctm_daemon.library import DATABASE_NAME, Library, open_library
from stored_clips import AUDIO, record

DELETED = ClipFilter(deleted=True)
DAY_SECONDS = 86400.0
SAID = {"label": "Dach ☂", "tags": ("rain", "wet roof"), "favourite": True, "notes": "half speed\nfor the title"}
SCHEMA_OF_1 = """
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


def say(library: Library, clip: StoredClip, **changes: Any) -> StoredClip:
    return library.edit(clip.record.id, lambda edits: replace(edits, **changes))


def listed(library: Library, which: ClipFilter = ClipFilter()) -> list[StoredClip]:  # noqa: B008 (immutable)
    return library.page(100, None, which)[0]


def test_edits_are_kept_and_the_wav_file_is_not_touched(tmp_path: Path) -> None:
    library = open_library(tmp_path)
    stored = library.add(record(), AUDIO)
    before = (stored.path.read_bytes(), stored.path.stat().st_mtime_ns)
    edited = say(library, stored, **SAID)
    assert edited.edits == Edits(**SAID)
    assert edited.record.label == "Dach ☂"
    assert say(library, stored, notes="").edits == Edits(**{**SAID, "notes": ""})
    library.close()
    library = open_library(tmp_path)
    assert library.get(stored.record.id).edits == Edits(**{**SAID, "notes": ""})
    assert (stored.path.read_bytes(), stored.path.stat().st_mtime_ns) == before
    assert library.get(stored.record.id).sha256 == stored.sha256
    with pytest.raises(ClipNotFoundError):
        library.edit("nosuchclip", lambda edits: edits)
    library.close()


@pytest.mark.parametrize("damage", ["rubbish", "lost"])
def test_a_lost_database_loses_nothing_that_was_said(tmp_path: Path, damage: str) -> None:
    library = open_library(tmp_path)
    plain, edited, deleted, back = (library.add(record(1e9 + second), AUDIO) for second in range(4))
    edited, deleted = say(library, edited, **SAID), say(library, deleted, notes="away")
    deleted = library.delete(deleted.record.id)
    library.delete(back.record.id)
    back = library.undelete(back.record.id)
    library.close()
    for journal in tmp_path.glob(f"{DATABASE_NAME}-*"):
        journal.unlink()
    if damage == "lost":
        (tmp_path / DATABASE_NAME).unlink()
    else:
        (tmp_path / DATABASE_NAME).write_bytes(b"this is no database" * 1000)
    library = open_library(tmp_path)
    assert listed(library) == [back, edited, plain]
    assert listed(library, DELETED) == [deleted]
    assert library.undelete(deleted.record.id).edits.notes == "away"
    library.close()


def test_a_deleted_clip_lies_in_the_trash_and_comes_back(tmp_path: Path) -> None:
    library = open_library(tmp_path)
    kept, gone = library.add(record(), AUDIO), library.add(record(), AUDIO)
    began = time.time()
    deleted = library.delete(gone.record.id)
    assert deleted.path == tmp_path / "trash" / gone.path.name
    assert deleted.path.exists() and not gone.path.exists()
    assert deleted.edits.deleted_at is not None and began <= deleted.edits.deleted_at <= time.time()
    assert library.delete(gone.record.id) == deleted == library.get(gone.record.id)
    assert (listed(library), listed(library, DELETED)) == ([kept], [deleted])
    library.close()
    library = open_library(tmp_path)
    assert (listed(library), listed(library, DELETED)) == ([kept], [deleted])
    assert library.undelete(gone.record.id) == gone == library.undelete(gone.record.id)
    assert (listed(library), listed(library, DELETED)) == ([gone, kept], [])
    with library.open(gone) as stream:
        assert len(stream.read()) == gone.size_bytes
    library.close()


def test_a_clip_without_its_file_is_deleted_and_brought_back_as_it_is(tmp_path: Path) -> None:
    library = open_library(tmp_path)
    clip = library.add(record(), AUDIO)
    clip.path.unlink()
    assert library.delete(clip.record.id).edits.deleted_at is not None
    assert library.undelete(clip.record.id) == clip
    library.close()


def test_the_trash_is_emptied_when_its_time_has_come(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = [0.0]
    library = open_library(tmp_path, trash_days=2.0, clock=lambda: clock[0])
    kept, gone = library.add(record(), AUDIO), library.add(record(), AUDIO)
    path = library.delete(gone.record.id).path
    clock[0] = 1.9 * DAY_SECONDS
    kept_too = library.add(record(), AUDIO)
    assert path.exists()
    clock[0] = 2.1 * DAY_SECONDS
    with caplog.at_level(logging.INFO):
        library.add(record(), AUDIO)
    assert gone.record.id in caplog.text
    with pytest.raises(ClipNotFoundError):
        library.undelete(gone.record.id)
    assert list((tmp_path / "trash").iterdir()) == list((tmp_path / "edits").iterdir()) == []
    assert {kept, kept_too} <= set(listed(library))
    library.close()


def test_a_system_clock_set_forward_does_not_empty_the_trash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    library = open_library(tmp_path, trash_days=30.0, clock=lambda: clock[0])
    deleted = library.delete(library.add(record(), AUDIO).record.id)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3650 * DAY_SECONDS)
    clock[0] = 2 * 3600.0
    library.add(record(), AUDIO)
    assert listed(library, DELETED) == [deleted]
    library.close()


@pytest.mark.parametrize("moment", ["edits written", "file moved"])
def test_a_deletion_cut_off_by_a_crash_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    library = open_library(tmp_path)
    clip = library.add(record(), AUDIO)

    class Crash(BaseException):
        pass

    def die(*arguments: object, **named: object) -> None:
        raise Crash

    with monkeypatch.context() as patched:
        if moment == "edits written":
            patched.setattr(library._shelf, "put", die)
        else:
            patched.setattr(library._database, "update_edits", die)
        with pytest.raises(Crash):
            library.delete(clip.record.id)
    library.close()
    library = open_library(tmp_path)
    (deleted,) = listed(library, DELETED)
    assert (deleted.path.exists(), deleted.path.parent, deleted.problem) == (True, tmp_path / "trash", "")
    assert listed(library) == []
    assert library.undelete(clip.record.id) == clip
    library.close()


def test_edits_that_cannot_be_read_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    library = open_library(tmp_path)
    clip = say(library, library.add(record(), AUDIO), **SAID)
    library.close()
    path = tmp_path / "edits" / f"{clip.record.id}.json"
    good = json.loads(path.read_text())
    for bad in (
        b"", b"\xff\xfe", b"[]", b"[" * 100_000, b"{}", *(
            json.dumps({**good, **changes}).encode()
            for changes in (
                {"format": 9}, {"favourite": 1}, {"tags": 3}, {"tags": [3]}, {"label": None}, {"notes": "\ud800"},
                {"deleted_at": "now"}, {"deleted_at": 1e300}, {"deleted_at": float("nan")}, {"deleted_at": 10**400},
                {"unknown": 1},
            )
        ),
    ):  # fmt: skip
        path.write_bytes(bad)
        library = open_library(tmp_path)
        assert listed(library) == [clip]
        library.close()
        assert path.read_bytes() == bad
        assert str(path) in caplog.text
        caplog.clear()


def test_tags_are_made_plain_and_bounded() -> None:
    assert checked_tags(["Wet  Roof", " rain\t", "RAIN", "Éte\u0301"]) == ("rain", "wet roof", "été")
    assert checked_tags([]) == ()
    for tags, said in ((["x"] * 33, "33 tags"), (["x" * 41], "41 characters"), (["rain", " \n"], "an empty tag")):
        with pytest.raises(InvalidRequestError, match=said):
            checked_tags(tags)


def test_a_library_of_version_1_is_taken_over(tmp_path: Path) -> None:
    library = open_library(tmp_path)
    made = [record(1e9 + second, label=f"Ründ {second}") for second in range(3)]
    stored = [library.add(each, AUDIO) for each in made]
    rows = library._database.all()
    library.close()
    for path in tmp_path.glob(f"{DATABASE_NAME}*"):
        path.unlink()
    connection = sqlite3.connect(tmp_path / DATABASE_NAME)
    connection.execute(SCHEMA_OF_1)
    for row in rows:
        values = (row.id, row.file_name, row.size_bytes, row.modified_ns, row.sha256, "", as_of_version_1(row.record))
        connection.execute(
            "INSERT INTO clips (id, file_name, size_bytes, modified_ns, sha256, problem, record) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)", values,
        )  # fmt: skip
    connection.execute("PRAGMA user_version = 1")
    connection.execute("UPDATE clips SET record = 'unreadable' WHERE id = ?", (made[0].id,))
    connection.commit()
    connection.close()
    library = open_library(tmp_path)
    assert {clip.record.id: clip for clip in listed(library)} == {clip.record.id: clip for clip in stored}
    assert listed(library, ClipFilter(words=("ründ", "1", "雷雨"))) == [stored[1]]
    assert listed(library, ClipFilter(after_us=1_000_000_001_000_000)) == [stored[2]]
    assert say(library, stored[1], **SAID).edits == Edits(**SAID)
    library.close()
    assert sqlite3.connect(tmp_path / DATABASE_NAME).execute("PRAGMA user_version").fetchone() == (VERSION,)


def as_of_version_1(text: str) -> str:
    """A clip record without what version 1 did not know."""
    data = json.loads(text)
    for name in ("mean", "asked_samples", "other_weights", "origin", "tags"):
        del data[name]
    return json.dumps(data)


def test_records_tell_every_finding_and_old_ones_still_read() -> None:
    made = record(mean=-0.02, asked_samples=5000, other_weights=True, peak=2.0)
    assert made.findings == (
        AudioFinding.CLIPPING, AudioFinding.DC_OFFSET, AudioFinding.SHORT, AudioFinding.OTHER_WEIGHTS,
    )  # fmt: skip
    assert ClipRecord.from_json(made.to_json()) == made
    imported = record(recipe=None, model="", origin=ClipOrigin.IMPORTED, tags=("a", "b"))
    assert ClipRecord.from_json(imported.to_json()) == imported
    old = ClipRecord.from_json(as_of_version_1(record().to_json()))
    assert (old.findings, old.origin, old.tags) == ((), ClipOrigin.GENERATED, ())


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "../../../etc"}, {"id": "abc"}, {"id": 3}, {"label": None}, {"label": "\ud800"}, {"model": []},
        {"created_at": 1e300}, {"created_at": -1}, {"created_at": "now"}, {"sample_rate_hz": 0}, {"channels": 2**40},
        {"samples": -1}, {"samples": 1.5}, {"peak": float("nan")}, {"mean": None}, {"other_weights": 1},
        {"origin": "stolen"}, {"tags": 3}, {"tags": [3]}, {"recipe": []}, {"recipe": {}}, {"familiarity": 3},
        {"familiarity": {"label": 1, "similarity": 0.0, "threshold": 0.0}}, {"unknown": 1}, {"format": 2},
        {"render_seconds": 10**400}, {"asked_samples": True},
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    data = json.loads(record().to_json())
    with pytest.raises(ValueError, match=r"record|format|stolen"):
        ClipRecord.from_json(json.dumps({**data, **changes}))
    for name, value in (("seed", 2**32), ("seed", -1), ("steps", 0), ("prompt", 1), ("omega", None), ("nu", "1")):
        with pytest.raises(ValueError, match=name):
            ClipRecord.from_json(json.dumps({**data, "recipe": {**data["recipe"], name: value}}))


def test_a_row_that_cannot_be_read_is_made_again_from_the_file(tmp_path: Path) -> None:
    library = open_library(tmp_path)
    clip, other = library.add(record(), AUDIO), library.add(record(), AUDIO)
    library.close()
    connection = sqlite3.connect(tmp_path / DATABASE_NAME)
    connection.execute("UPDATE clips SET record = '{}'")
    connection.commit()
    connection.close()
    other.path.write_bytes(b"RIFF")
    library = open_library(tmp_path)
    assert listed(library) == [clip]
    library.close()


def test_a_file_in_the_way_of_one_that_comes_back_is_not_overwritten(tmp_path: Path) -> None:
    library = open_library(tmp_path)
    clip = library.add(record(), AUDIO)
    library.delete(clip.record.id)
    clip.path.write_bytes(b"mine")
    with pytest.raises(LibraryError, match="is in the way"):
        library.undelete(clip.record.id)
    assert clip.path.read_bytes() == b"mine"
    clip.path.unlink()
    assert library.undelete(clip.record.id) == clip
    library.open(clip).close()
    library.close()
