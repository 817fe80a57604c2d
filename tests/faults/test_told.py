"""What is lost is seen: the judge of every other test here."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pytest

from faults import crowd
from faults.told import Told, losses
from running_daemon import RunningDaemon, steered
from soundctm_daemon.files import partial_path
from soundctm_daemon.library import DATABASE_NAME
from soundgen import paths, types
from soundgen.client import Client

pytestmark = pytest.mark.usefixtures("models")


def file_gone(told: Told, clip: types.Clip) -> None:
    clip.path.unlink()


def file_cut(told: Told, clip: types.Clip) -> None:
    clip.path.write_bytes(clip.path.read_bytes()[:-100])


def row_gone(told: Told, clip: types.Clip) -> None:
    clip.path.unlink()
    with closing(sqlite3.connect(paths.clips_dir() / DATABASE_NAME, isolation_level=None)) as hand:
        hand.execute("DELETE FROM clips WHERE id = ?", (clip.id,))


def half_written(told: Told, clip: types.Clip) -> None:
    partial_path(clip.path).write_bytes(b"RIFF")


def nobodys_file(told: Told, clip: types.Clip) -> None:
    clip.path.with_name("stray.wav").write_bytes(clip.path.read_bytes())


def told_otherwise(told: Told, clip: types.Clip) -> None:
    told.ready[clip.id] = replace(clip, sha256="0" * 64)


def other_name(told: Told, clip: types.Clip) -> None:
    told.labels[clip.id] = "the name it was given"


def failed_but_there(told: Told, clip: types.Clip) -> None:
    del told.ready[clip.id]
    told.failed[clip.id] = "DISK_FULL"


def other_recipe(told: Told, clip: types.Clip) -> None:
    del told.ready[clip.id]
    told.asked[clip.id] = replace(told.asked[clip.id], seed=told.asked[clip.id].seed ^ 1)


def something_unexpected(told: Told, clip: types.Clip) -> None:
    told.unexpected.append("a client met what it should not")


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (file_gone, "is missing"),
        (file_cut, "is not what its sha256 says"),
        (row_gone, "was reported ready, and is not there"),
        (half_written, "remains"),
        (nobodys_file, "belongs to no clip"),
        (told_otherwise, "was Clip"),
        (other_name, "is called"),
        (failed_but_there, "was reported failed (DISK_FULL), and is there"),
        (other_recipe, "another recipe"),
        (something_unexpected, "should not"),
    ],
)
def test_a_loss_is_told(loss: Callable[[Told, types.Clip], None], says: str) -> None:
    told = Told()
    with RunningDaemon(steered()), Client() as client:
        crowd.follow(client.generate("rain", seconds=crowd.SECONDS), told)
        (clip,) = told.ready.values()
        assert losses(told, client, paths.clips_dir()) == []
        loss(told, clip)
        assert any(says in sentence for sentence in losses(told, client, paths.clips_dir()))
