"""Whatever write fails, at whatever step, once or until somebody mends the disk: no clip is lost or half there, what
failed did not happen, and everything works again afterwards."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faults.points import StruckFile
from soundctm_daemon import database as database_module
from soundctm_daemon.clip import StoredClip
from soundctm_daemon.clip_filter import ClipFilter
from soundctm_daemon.errors import ClipFolderNotWritableError, DiskFullError, LibraryError, LibraryLockedError
from soundctm_daemon.library import DATABASE_NAME, Library, open_library
from stored_clips import AUDIO, embedded, record

FAULTS = {
    "full": (errno.ENOSPC, sqlite3.SQLITE_FULL, DiskFullError),
    "read-only": (errno.EROFS, sqlite3.SQLITE_READONLY, ClipFolderNotWritableError),
    "broken": (errno.EIO, sqlite3.SQLITE_IOERR, LibraryError),
}
State = dict[str, tuple[Any, ...]]


class Disk:
    """Every step by which the library writes is counted; one of them fails, or all from that one on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._fail_at, self._lasting, self._fault = 0, False, "full"
        self._steps = 0
        self.failed = False
        monkeypatch.setattr(os, "fsync", self._counted(lambda descriptor: None))  # no power fails here: not to wait for
        for name in ("replace", "rename", "unlink"):
            monkeypatch.setattr(Path, name, self._counted(getattr(Path, name)))
        self._open = Path.open
        monkeypatch.setattr(Path, "open", lambda path, mode="r", **named: self._opened(path, mode, **named))
        transaction = database_module._transaction

        @contextmanager
        def counted(connection: sqlite3.Connection) -> Iterator[None]:
            self._step(in_database=True)
            with transaction(connection):
                yield
                self._step(in_database=True)

        monkeypatch.setattr(database_module, "_transaction", counted)

    def break_at(self, step: int, fault: str, lasting: bool) -> None:
        self._steps, self._fail_at, self._fault, self._lasting, self.failed = 0, step, fault, lasting, False

    def mend(self) -> None:
        self._fail_at = 0

    def _step(self, in_database: bool = False) -> None:
        self._steps += 1
        if self._fail_at and (self._steps == self._fail_at or (self._lasting and self._steps > self._fail_at)):
            self.failed = True
            number, code, _ = FAULTS[self._fault]
            if not in_database:
                raise OSError(number, os.strerror(number))
            error = sqlite3.OperationalError(self._fault)
            error.sqlite_errorcode = code
            raise error

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            self._step()
            return real(*arguments, **named)

        return step

    def _opened(self, path: Path, mode: str, **named: Any) -> Any:
        if "r" in mode:
            return self._open(path, mode, **named)
        self._step()
        file = self._open(path, mode, **named)
        return StruckFile(file, self._step)


def add(library: Library, plain: StoredClip, deleted: StoredClip) -> None:
    library.add(record(created_at=3e9), AUDIO, np.ones(4, np.float32) / 2)


def rename(library: Library, plain: StoredClip, deleted: StoredClip) -> None:
    library.edit(plain.record.id, lambda edits: replace(edits, label="other", tags=("new",)))


def delete(library: Library, plain: StoredClip, deleted: StoredClip) -> None:
    library.delete(plain.record.id)


def undelete(library: Library, plain: StoredClip, deleted: StoredClip) -> None:
    library.undelete(deleted.record.id)


def edited_twice(library: Library, plain: StoredClip, deleted: StoredClip) -> None:
    library.edit(deleted.record.id, lambda edits: replace(edits, notes="still in the trash"))


def embed(library: Library, plain: StoredClip, deleted: StoredClip) -> None:
    texts = library.not_embedded("e" * 64, 26)
    library.keep_embeddings(texts, embedded([text for _, text in texts]), "e" * 64)


OPERATIONS = [add, rename, delete, undelete, edited_twice, embed]


def opened_copy(tmp_path: Path, folder: Path) -> tuple[Library, StoredClip, StoredClip]:
    """A library with one clip, and one more in the trash."""
    template = tmp_path / "template"
    if not template.exists():
        library = open_library(template)
        library.add(record(1e9), AUDIO)
        library.delete(library.add(record(2e9, label="gone"), AUDIO).record.id)
        library.close()
    library = open_library(Path(shutil.copytree(template, folder)))
    return library, library.page(1, None)[0][0], library.page(1, None, ClipFilter(deleted=True))[0][0]


def state(library: Library) -> State:
    """All that is known of every clip, each of which must be whole."""
    clips = library.page(100, None)[0] + library.page(100, None, ClipFilter(deleted=True))[0]
    for clip in clips:
        library.open(clip).close()
    return {clip.record.id: (clip.edits, clip.problem, clip.sha256) for clip in clips}


def said(found: State) -> list[Any]:
    """What can be compared between two libraries: not ids and times."""
    return sorted((edits.label, edits.tags, edits.notes, edits.deleted_at is None) for edits, _, _ in found.values())


def files_of(folder: Path) -> set[str]:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(DATABASE_NAME)]
    return {path.name for path in files if path.suffix != ".json"}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "until mended"])
def test_a_write_that_fails_at_any_step_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: Callable[..., None], lasting: bool
) -> None:
    disk = Disk(monkeypatch)
    done = False
    step = 0
    while not done:
        step += 1
        fault = list(FAULTS)[step % len(FAULTS)]
        folder = tmp_path / str(step)
        library, plain, deleted = opened_copy(tmp_path, folder)
        before, files = state(library), files_of(folder)
        disk.break_at(step, fault, lasting)
        try:
            operation(library, plain, deleted)
        except LibraryError as error:
            assert disk.failed
            assert type(error) is FAULTS[fault][2]
            assert state(library) == before, f"step {step}, while it lasts"
            disk.mend()
            assert state(library) == before, f"step {step}, mended"
            expect_what_was(folder, library, before, files)
            operation(library, plain, deleted)
        else:
            done = not disk.failed  # a failure that was survived, when something was cleared away, is none
            disk.mend()
        after = state(library)
        library.close()
        library = open_library(folder)
        assert state(library) == after, f"step {step}, opened again"
        library.close()
        assert not list(folder.rglob("*.partial"))
    assert step > 2


def expect_what_was(folder: Path, library: Library, before: State, files: set[str]) -> None:
    """The next change puts in order what could not be put in order then."""
    library.add(kept := record(2.5e9), AUDIO)
    library.delete(kept.id)
    found = state(library)
    del found[kept.id]
    assert found == before
    assert files_of(folder) == files | {f"{kept.id}.wav"}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_a_daemon_that_dies_on_a_full_disk_leaves_whole_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: Callable[..., None]
) -> None:
    disk = Disk(monkeypatch)
    outcomes: list[tuple[list[Any], bool]] = []
    for step in range(1, 40):
        folder = tmp_path / str(step)
        library, plain, deleted = opened_copy(tmp_path, folder)
        before = state(library)
        disk.break_at(step, "full", lasting=True)
        failed = False
        try:
            operation(library, plain, deleted)
        except LibraryError:
            failed = True
        library.close()
        disk.mend()
        library = open_library(folder)
        after = state(library)
        library.close()
        assert set(before) <= set(after)
        assert all(problem == "" for _, problem, _ in after.values())
        assert not list(folder.rglob("*.partial"))
        outcomes.append((said(after), failed))
        if not failed:
            break
    done = outcomes[-1][0]
    assert len(outcomes) > 2
    assert all(found in (said(before), done) for found, _ in outcomes)  # whole, or not at all


def test_a_database_that_another_program_holds_is_told_and_passes(tmp_path: Path) -> None:
    library = open_library(tmp_path, busy_seconds=0.01)
    kept = library.add(record(), AUDIO)
    other = sqlite3.connect(tmp_path / DATABASE_NAME, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    for change in (
        lambda: library.add(record(), AUDIO),
        lambda: library.edit(kept.record.id, lambda edits: replace(edits, favourite=True)),
        lambda: library.delete(kept.record.id),
    ):
        with pytest.raises(LibraryLockedError, match="held by another program"):
            change()
    assert state(library) == {kept.record.id: (kept.edits, "", kept.sha256)}  # readers are not held up
    other.execute("ROLLBACK")
    assert library.delete(kept.record.id).edits.deleted_at is not None
    assert library.undelete(kept.record.id) == kept
    library.close()
    other.close()
    assert files_of(tmp_path) == {kept.path.name}


def test_a_database_that_is_held_while_the_library_opens_is_left_alone(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / DATABASE_NAME, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LibraryLockedError):
        open_library(tmp_path, busy_seconds=0.01)
    other.execute("ROLLBACK")
    other.close()
    assert files_of(tmp_path) == set()
    library = open_library(tmp_path)
    kept = library.add(record(), AUDIO)
    assert state(library) == {kept.record.id: (kept.edits, "", kept.sha256)}
    library.close()


def test_a_real_folder_that_is_read_only(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        assert os.access(tmp_path, os.W_OK)  # permissions do not bind this user: the step-by-step test stands for it
        return
    library = open_library(tmp_path)
    kept = library.add(record(), AUDIO)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ClipFolderNotWritableError):
            library.add(record(), AUDIO)
        assert list(state(library)) == [kept.record.id]
    finally:
        tmp_path.chmod(0o700)
    library.add(record(), AUDIO)
    library.close()
