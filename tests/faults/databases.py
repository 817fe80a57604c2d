"""The library's database: held by another program, damaged or gone."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import running_daemon
from faults import crowd
from faults.points import replaced
from faults.processes import wait_until
from faults.scale import Scale
from faults.told import Told, losses
from running_daemon import RunningDaemon, steered
from soundctm_daemon.library import DATABASE_NAME
from soundgen import paths, types
from soundgen.client import Client
from soundgen.errors import DaemonUnreachableError, SoundgenError


def held(scale: Scale) -> list[str]:
    """Another program holds it; clips asked for meanwhile are made as soon as it is free."""
    told = Told()
    soon = replaced(running_daemon, "open_library", lambda real: partial(real, busy_seconds=0.1))
    with soon, RunningDaemon(steered()), Client() as client:
        crowd.run(scale.clips, told)
        with closing(sqlite3.connect(_database(), isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            events = client.generate("rain", seconds=crowd.SECONDS)
            told.hear(next(events))
            wait_until(lambda: any(job.state is types.JobState.FAILED for job in client.jobs(include_ended=True)))
            try:
                client.update_clip(next(iter(told.ready)), label="not now")
                told.unexpected.append("a name was changed in a database that somebody else holds")
            except DaemonUnreachableError as error:
                if error.retry_after_seconds is None:
                    told.unexpected.append(f"it is not said when to ask again: {error}")
            other.execute("ROLLBACK")
        for event in events:  # the client has asked again
            told.hear(event)
    return _after_restart(told)


def damaged(damage: Callable[[Path, random.Random], None], scale: Scale) -> list[str]:
    """While no daemon runs."""
    told = Told()
    with RunningDaemon(steered()):
        crowd.run(scale.clips, told)
    chance = random.Random(1)
    lost = []
    for _ in range(scale.damages):
        damage(_database(), chance)
        lost += _after_restart(told)
    return lost


def damaged_in_use(scale: Scale) -> list[str]:
    """Under the daemon's hands: calls may fail from then on; the next daemon has everything that was ready."""
    told = Told()
    with RunningDaemon(steered()), Client() as client:
        crowd.run(scale.clips, told)
        for piece in (_database(), Path(f"{_database()}-wal")):
            if piece.exists():
                piece.write_bytes(b"\xa5" * piece.stat().st_size)
        for _ in range(scale.clips):
            try:
                for event in client.generate("rain", seconds=crowd.SECONDS):
                    told.hear(event)
            except SoundgenError as error:
                told.ended(event.clip_id, error)
    return _after_restart(told)


def garbage(database: Path, chance: random.Random) -> None:
    database.write_bytes(chance.randbytes(database.stat().st_size))


def cut(database: Path, chance: random.Random) -> None:
    with database.open("r+b") as file:
        file.truncate(chance.randrange(database.stat().st_size))


def emptied(database: Path, chance: random.Random) -> None:
    with database.open("r+b") as file:
        file.truncate(0)


def gone(database: Path, chance: random.Random) -> None:
    database.unlink()


def page_of_zeros(database: Path, chance: random.Random) -> None:
    page = 4096 * chance.randrange(database.stat().st_size // 4096)
    _overwrite(database, page, bytes(4096))


def one_byte(database: Path, chance: random.Random) -> None:
    _overwrite(database, chance.randrange(database.stat().st_size), chance.randbytes(1))


def _overwrite(database: Path, position: int, data: bytes) -> None:
    with database.open("r+b") as file:
        file.seek(position)
        file.write(data)


def _after_restart(told: Told) -> list[str]:
    with RunningDaemon(steered()), Client() as client:
        return losses(told, client, paths.clips_dir())


def _database() -> Path:
    return paths.clips_dir() / DATABASE_NAME
