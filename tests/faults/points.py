"""Where a fault may strike: places of the daemon, wrapped from outside. Nothing in the product knows of them."""

from __future__ import annotations

import itertools
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from soundctm.render import Take
from soundctm_daemon import database, files, flight, recovery, worker
from soundctm_daemon.library import Library
from soundctm_daemon.scheduler import Scheduler

Strike = Callable[[], None]
Point = Callable[[Strike], AbstractContextManager[None]]
_DAY_SECONDS = 86400.0
_JUMPS_SECONDS = (-_DAY_SECONDS, 3650 * _DAY_SECONDS, -1e9, 90 * _DAY_SECONDS, -3600.0)  # from where it is right
_READINGS_UNTIL_JUMP = 50


@contextmanager
def replaced(owner: Any, name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """`owner.name` is what `make` makes of it, until the end."""
    real = getattr(owner, name)
    setattr(owner, name, make(real))
    try:
        yield
    finally:
        setattr(owner, name, real)


def before(owner: Any, name: str, strike: Strike) -> AbstractContextManager[None]:
    def make(real: Callable[..., Any]) -> Callable[..., Any]:
        def struck(*arguments: Any, **named: Any) -> Any:
            strike()
            return real(*arguments, **named)

        return struck

    return replaced(owner, name, make)


def after(owner: Any, name: str, strike: Strike) -> AbstractContextManager[None]:
    def make(real: Callable[..., Any]) -> Callable[..., Any]:
        def struck(*arguments: Any, **named: Any) -> Any:
            result = real(*arguments, **named)
            strike()
            return result

        return struck

    return replaced(owner, name, make)


def in_step(jumping: bool, strike: Strike) -> AbstractContextManager[None]:
    """Before a batched jump, or before the decoding of a tile."""

    def make(real: Callable[..., list[Take]]) -> Callable[..., list[Take]]:
        def struck(engine: Any, takes: list[Take]) -> list[Take]:
            if takes[0].jumping == jumping:
                strike()
            return real(engine, takes)

        return struck

    return replaced(worker, "step", make)


def opened(strike: Strike) -> AbstractContextManager[None]:
    """A file was made and is empty."""
    return _with_files(strike, lambda: None)


def half_written(strike: Strike) -> AbstractContextManager[None]:
    return _with_files(lambda: None, strike)


def in_transaction(strike: Strike) -> AbstractContextManager[None]:
    """Everything is done and the database has not been told to keep it."""

    def make(real: Callable[[sqlite3.Connection], Any]) -> Callable[[sqlite3.Connection], Any]:
        @contextmanager
        def struck(connection: sqlite3.Connection) -> Iterator[None]:
            with real(connection):
                yield
                strike()

        return struck

    return replaced(database, "_transaction", make)


# In the order in which a clip comes by.
POINTS: Mapping[str, Point] = {
    "asked for, not queued yet": partial(before, Scheduler, "submit"),
    "queued": partial(after, Scheduler, "submit"),
    "its prompt encoded": partial(after, flight, "begin"),
    "in a jump": partial(in_step, True),
    "in the decoding of a tile": partial(in_step, False),
    "made, not stored yet": partial(before, Library, "add"),
    "its file opened": opened,
    "its file half written": half_written,
    "its file written, without its name": partial(before, Path, "replace"),
    "its file named, not recorded": partial(before, database.Database, "insert"),
    "in the database's transaction": in_transaction,
    "recorded, nobody told": partial(after, Library, "add"),
    "told": partial(after, Scheduler, "finish"),
}
IN_RECOVERY: Point = partial(before, recovery, "_take_up")


@contextmanager
def every_write(strike: Callable[[bool], None]) -> Iterator[None]:
    """`strike(in_database)` before every step by which the library writes; a write of bytes is struck in its middle."""
    on_disk, in_database = partial(strike, False), partial(strike, True)
    with ExitStack() as struck:
        for point in (opened, half_written):
            struck.enter_context(point(on_disk))
        for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "rename"), (Path, "unlink")):
            struck.enter_context(before(owner, name, on_disk))
        struck.enter_context(before(database, "_transaction", in_database))
        struck.enter_context(in_transaction(in_database))
        yield


def clock_jumps() -> AbstractContextManager[None]:
    """The system's clock goes back and forth by hours and years, every few readings."""

    def make(real: Callable[[], float]) -> Callable[[], float]:
        readings = itertools.count()
        return lambda: real() + _JUMPS_SECONDS[next(readings) // _READINGS_UNTIL_JUMP % len(_JUMPS_SECONDS)]

    return replaced(time, "time", make)


def _with_files(on_open: Strike, on_write: Strike) -> AbstractContextManager[None]:
    def make(real: Callable[..., Any]) -> Callable[..., Any]:
        def struck(path: Path, mode: str = "r", *arguments: Any, **named: Any) -> Any:
            file = real(path, mode, *arguments, **named)
            if not path.match(files.PARTIAL_PATTERN) or "r" in mode:
                return file
            try:
                on_open()
            except BaseException:
                file.close()
                raise
            return StruckFile(file, on_write)

        return struck

    return replaced(Path, "open", make)


class StruckFile:
    """Strikes in the middle of a `write`."""

    def __init__(self, file: Any, strike: Strike) -> None:
        self._file, self._strike = file, strike

    def __enter__(self) -> StruckFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: bytes) -> None:
        self._file.write(data[: len(data) // 2])
        self._file.flush()
        self._strike()
        self._file.write(data[len(data) // 2 :])
