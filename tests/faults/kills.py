"""`kill -9` while clips are being made: at every stage of a clip, at any moment, and while a library is recovered."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager

from faults import crowd, faulty_daemon
from faults.points import POINTS
from faults.processes import process, product, wait_until
from faults.scale import Scale
from faults.told import Told, losses
from soundctm_daemon.library import DATABASE_NAME
from soundgen import paths
from soundgen.client import Client

AT_EVERY_POINT = "kill -9, a clip"
_KILLED = -9


def at_every_point(scale: Scale) -> Iterator[tuple[str, list[str]]]:
    """One library, one daemon after another: each meets what the one before left, makes clips, and is killed in the
    middle, elsewhere than the one before. Gives the stage, and what was lost there."""
    told, before = Told(), ""
    for point in [*POINTS][:: scale.every_point]:
        with _dying(point, scale.clips // 2, scale.engine) as daemon:
            if before:
                yield before, _lost(told)
            crowd.run(scale.clips, told)
            _expect_killed(daemon, told)
        before = f"{AT_EVERY_POINT} {point}"
    with product():
        yield before, _lost(told)


def at_any_moment(scale: Scale) -> list[str]:
    chance, told = random.Random(1), Told()
    for _ in range(scale.random_kills):
        with _dying(faulty_daemon.NEVER, 0, scale.engine) as daemon:
            told.unexpected += _lost(told)
            enough = len(told.ready) + chance.randrange(scale.clips)
            killer = threading.Thread(target=_kill, args=(daemon, told, enough, chance.uniform(0.0, 0.02)))
            killer.start()
            crowd.run(scale.clips * 2, told)
            killer.join()
            _expect_killed(daemon, told)
    with product():
        return _lost(told)


def in_recovery(scale: Scale) -> list[str]:
    """The database is gone, and so is, twice, the daemon that makes it again from the files."""
    told = Told()
    with _dying(faulty_daemon.NEVER, 0, scale.engine):
        crowd.run(scale.clips, told)
    for suffix in ("", "-wal", "-shm"):
        (paths.clips_dir() / f"{DATABASE_NAME}{suffix}").unlink(missing_ok=True)
    for _ in range(2):
        with _dying(faulty_daemon.RECOVERY, scale.clips // 3, scale.engine) as daemon:
            _expect_killed(daemon, told)
    with product():
        return _lost(told)


def _dying(point: str, clips: int, engine: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return process("faults.faulty_daemon", point, str(clips), engine)


def _kill(daemon: subprocess.Popen[bytes], told: Told, ready: int, seconds: float) -> None:
    wait_until(lambda: len(told.ready) >= ready)
    time.sleep(seconds)  # so that it strikes anywhere, not only after a clip
    daemon.kill()


def _expect_killed(daemon: subprocess.Popen[bytes], told: Told) -> None:
    code = daemon.wait()
    if code != _KILLED:
        told.unexpected.append(f"the daemon ended with {code}, and should have been killed")


def _lost(told: Told) -> list[str]:
    with Client() as client:
        lost = losses(told, client, paths.clips_dir())
    told.unexpected.clear()
    return lost
