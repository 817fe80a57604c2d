"""What is stored stays stored: whole files only, and a way back from whatever happened to the folder."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from soundctm.familiarity import Familiarity
from soundctm_daemon import library as library_module
from soundctm_daemon.clip import AudioFinding, ClipRecord, StoredClip
from soundctm_daemon.errors import (
    ClipDamagedError,
    ClipFolderNotWritableError,
    ClipNotFoundError,
    DiskFullError,
    LibraryError,
)
from soundctm_daemon.files import write_durably
from soundctm_daemon.library import DATABASE_NAME, Library, open_library
from stored_clips import AUDIO, record


def failing(number: int) -> Callable[[Path, bytes], None]:
    def write(path: Path, data: bytes) -> None:
        raise OSError(number, os.strerror(number), str(path))

    return write


def read(library: Library, clip: StoredClip) -> bytes:
    with library.open(clip) as stream:
        return stream.read()


def test_a_clip_stored_before_familiarity_was_known_still_reads() -> None:
    made = record()
    data = json.loads(made.to_json())
    del data["familiarity"]
    assert ClipRecord.from_json(json.dumps(data)) == made
    told = replace(made, familiarity=Familiarity("rain", 0.3, 0.4))
    assert ClipRecord.from_json(told.to_json()) == told
    assert told.findings == (AudioFinding.UNFAMILIAR_PROMPT,)


def test_a_clip_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    made = record()
    library = open_library(tmp_path)
    stored = library.add(made, AUDIO)
    library.close()
    library = open_library(tmp_path)
    assert library.get(made.id) == stored
    assert library.get(made.id).record == made
    audio, rate_hz = soundfile.read(stored.path, dtype="float32")
    assert rate_hz == 44100
    np.testing.assert_array_equal(audio, AUDIO[0])
    assert read(library, stored) == stored.path.read_bytes()
    library.close()


@pytest.mark.parametrize(
    ("number", "kind", "advice"),
    [
        (errno.ENOSPC, DiskFullError, "Free some space"),
        (errno.EDQUOT, DiskFullError, "Free some space"),
        (errno.EROFS, ClipFolderNotWritableError, "SOUNDCTM_CLIPS"),
        (errno.EACCES, ClipFolderNotWritableError, "SOUNDCTM_CLIPS"),
        (errno.EIO, LibraryError, "untouched"),
    ],
)
def test_a_failed_write_is_explained_and_loses_nothing(
    tmp_path: Path, number: int, kind: type[LibraryError], advice: str
) -> None:
    library = open_library(tmp_path)
    kept = library.add(record(), AUDIO)
    library.close()
    library = open_library(tmp_path, failing(number))
    with pytest.raises(kind, match=advice) as caught:
        library.add(record(), AUDIO)
    assert type(caught.value) is kind
    assert str(tmp_path) in str(caught.value)
    assert library.page(10, None) == ([kept], None)
    assert read(library, kept)
    library.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_write_that_fails_half_way_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=os.strerror(number)):
        write_durably(tmp_path / "clip.wav", b"x" * 1000)
    assert list(tmp_path.iterdir()) == []


def test_a_clip_that_could_not_be_recorded_does_not_exist(tmp_path: Path) -> None:
    library = open_library(tmp_path)
    kept = library.add(record(), AUDIO)
    library._database._connection.execute("PRAGMA max_page_count = 1")  # no page more than it has
    with pytest.raises(DiskFullError, match="Free some space"):
        for _ in range(100):  # until the pages it has are full
            library.add(made := record(), AUDIO)
    assert not (tmp_path / f"{made.id}.wav").exists()
    library.close()
    ids, problems = open_and_list(tmp_path)
    assert kept.record.id in ids
    assert made.id not in ids
    assert set(problems) == {""}


def test_a_stored_clip_is_never_overwritten(tmp_path: Path) -> None:
    library = open_library(tmp_path)
    made = record()
    stored = library.add(made, AUDIO)
    with pytest.raises(LibraryError, match="is not overwritten"):
        library.add(replace(made, label="the same id again"), AUDIO * 0.5)
    assert library.get(made.id) == stored
    assert read(library, stored)
    library.close()


def open_and_list(folder: Path) -> tuple[list[str], list[str]]:
    """Ids newest first, and the problems they have."""
    library = open_library(folder)
    clips, _ = library.page(100, None)
    library.close()
    return [clip.record.id for clip in clips], [clip.problem for clip in clips]


def filled(folder: Path, count: int = 3) -> list[str]:
    """Ids of clips stored one second apart, newest first."""
    library = open_library(folder)
    made = [record(1e9 + second) for second in range(count)]
    for each in made:
        library.add(each, AUDIO)
    library.close()
    return [each.id for each in made][::-1]


@pytest.mark.parametrize("damage", ["rubbish", "page", "emptied", "lost"])
def test_a_damaged_database_is_kept_aside_and_made_again_from_the_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    ids = filled(tmp_path)
    database = tmp_path / DATABASE_NAME
    match damage:
        case "rubbish":
            database.write_bytes(b"this is no database" * 1000)
        case "page":
            data = bytearray(database.read_bytes())
            data[4096 + 8 : 4096 + 2000] = b"\xff" * 1992  # the root page of the table's index or rows
            data[8192 : 8192 + 2000] = b"\xff" * 2000
            database.write_bytes(data)
        case "emptied":
            database.write_bytes(b"")
        case _:
            database.unlink()
    with caplog.at_level(logging.WARNING):
        assert open_and_list(tmp_path) == (ids, ["", "", ""])
    assert all(clip_id in caplog.text for clip_id in ids)
    if damage in ("rubbish", "page"):
        (aside,) = tmp_path.glob("library.damaged-*.sqlite")
        assert str(aside) in caplog.text


def test_a_missing_and_an_altered_file_are_named_and_the_rest_is_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    newest, middle, oldest = filled(tmp_path)
    (tmp_path / f"{middle}.wav").unlink()
    altered = tmp_path / f"{oldest}.wav"
    altered.write_bytes(altered.read_bytes()[:-1])
    assert open_and_list(tmp_path) == ([newest, middle, oldest], ["", "missing", "altered"])
    assert middle in caplog.text
    assert str(altered) in caplog.text
    library = open_library(tmp_path)
    for clip_id in (middle, oldest):
        with pytest.raises(ClipDamagedError, match=clip_id):
            library.open(library.get(clip_id))
    library.close()


def test_a_file_that_came_back_is_sound_again(tmp_path: Path) -> None:
    (clip_id,) = filled(tmp_path, 1)
    path = tmp_path / f"{clip_id}.wav"
    shutil.move(path, tmp_path / "elsewhere")
    assert open_and_list(tmp_path) == ([clip_id], ["missing"])
    shutil.move(tmp_path / "elsewhere", path)
    assert open_and_list(tmp_path) == ([clip_id], [""])


def test_a_touched_file_is_still_sound(tmp_path: Path) -> None:
    (clip_id,) = filled(tmp_path, 1)
    os.utime(tmp_path / f"{clip_id}.wav")
    assert open_and_list(tmp_path) == ([clip_id], [""])


def test_a_crash_between_file_and_record_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = open_library(tmp_path)
    made = record()

    class Crash(BaseException):
        pass

    def die(self: object, row: object, embedding: object) -> None:
        raise Crash

    monkeypatch.setattr(library_module.Database, "insert", die)
    with pytest.raises(Crash):
        library.add(made, AUDIO)
    monkeypatch.undo()
    library.close()
    (tmp_path / ".halfwritten.wav.partial").write_bytes(b"RIFF")
    assert open_and_list(tmp_path) == ([made.id], [""])
    assert not list(tmp_path.glob(".*.partial"))


def test_files_of_others_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (clip_id,) = filled(tmp_path, 1)
    soundfile.write(tmp_path / "mine.wav", AUDIO[0], 44100)
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    shutil.copy(tmp_path / f"{clip_id}.wav", tmp_path / "copy.wav")
    (tmp_path / "cut.wav").write_bytes((tmp_path / f"{clip_id}.wav").read_bytes()[:-4000])
    assert open_and_list(tmp_path)[0] == [clip_id]
    for name in ("mine.wav", "broken.wav", "copy.wav", "cut.wav"):
        assert (tmp_path / name).exists()
        assert name in caplog.text


def test_a_newer_library_is_not_touched(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    connection = sqlite3.connect(tmp_path / DATABASE_NAME)
    connection.execute("PRAGMA user_version = 99")
    connection.commit()
    connection.close()
    with pytest.raises(LibraryError, match="format 99"):
        open_library(tmp_path)
    assert not list(tmp_path.glob("*damaged*"))


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LibraryError, match="file/clips"):
        open_library(tmp_path / "file" / "clips")
    (tmp_path / "clips" / DATABASE_NAME).mkdir(parents=True)
    with pytest.raises(ClipFolderNotWritableError, match="SOUNDCTM_CLIPS"):
        open_library(tmp_path / "clips")


def test_unknown_clips_are_not_found(tmp_path: Path) -> None:
    library = open_library(tmp_path)
    with pytest.raises(ClipNotFoundError, match="soundctm clips list"):
        library.get("'; DROP TABLE clips; --")
    library.close()
    with pytest.raises(LibraryError, match="is closed"):
        library.get("x")
