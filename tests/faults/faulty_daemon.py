"""A daemon that kills itself: `python -m faults.faulty_daemon POINT CLIPS [ENGINE]`.

As `python -m soundctm_daemon start --foreground`, but it dies by SIGKILL when a clip comes by POINT (of faults.points,
or "recovery"), once CLIPS clips were stored or taken up again. With "never" it lives; with "clock" it does, and its
clock jumps. ENGINE is `tiny` (the tests' bundle on PyTorch) or `steered` (no network at all: it is up in a moment).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import sys
from contextlib import ExitStack

from faults.points import IN_RECOVERY, POINTS, after, clock_jumps
from running_daemon import steered
from soundctm.engines.choosing import Wanted
from soundctm_daemon import recovery
from soundctm_daemon.auth import load_or_create_token
from soundctm_daemon.engines import engine_loader
from soundctm_daemon.instance import sole_instance
from soundctm_daemon.library import Library, open_library
from soundctm_daemon.server import serve
from soundctm_daemon.settings import load_settings

NEVER, RECOVERY, CLOCK = "never", "recovery", "clock"


class _Death:
    """Comes at the first strike after so many clips."""

    def __init__(self, clips: int) -> None:
        self._clips, self._stored = clips, itertools.count(1)
        self._due = clips == 0

    def stored(self) -> None:
        if next(self._stored) >= self._clips:
            self._due = True

    def strike(self) -> None:
        if self._due:
            os.kill(os.getpid(), signal.SIGKILL)


def main(point: str, clips: int, engine: str = "tiny") -> None:
    logging.basicConfig(level=logging.INFO)
    settings = load_settings({"port": 0, "model": "tiny", "drain_seconds": 60.0})
    death = _Death(clips)
    with ExitStack() as struck:
        struck.enter_context(after(Library, "add", death.stored))
        struck.enter_context(after(recovery, "_take_up", death.stored))
        if point == CLOCK:
            struck.enter_context(clock_jumps())
        elif point != NEVER:
            struck.enter_context((IN_RECOVERY if point == RECOVERY else POINTS[point])(death.strike))
        struck.enter_context(sole_instance(settings))
        token = load_or_create_token(settings.token_file)
        library = open_library(settings.clips_dir)
        load = engine_loader(Wanted(threads=1)) if engine == "tiny" else steered()
        asyncio.run(serve(settings, token, library, load))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
