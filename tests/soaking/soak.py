"""Eight clients at a daemon as people run it, for a while; then everything they were told is compared with what is
there."""

from __future__ import annotations

import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

from faults.processes import product, unexpected
from faults.told import strange_files, wholeness
from running_daemon import PATIENCE_SECONDS
from soaking.clients import KINDS, run
from soaking.memory import Slope, resident_mb, slope
from soaking.world import World
from soundctm_daemon.library import DATABASE_NAME
from soundgen import paths
from soundgen.client import Client

_FEWEST_SAMPLES = 240  # of memory
_LONGEST_PAUSE_SECONDS = 1.0
_WARM_UP_SHARE = 0.2   # of the time, in which caches and the list of ended jobs fill


@dataclass
class Outcome:
    """`samples` are (seconds since the beginning, megabytes) of the daemon; `errors` are sentences."""

    seconds: float
    world: World = field(default_factory=World)
    samples: list[tuple[float, float]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    clips: int = 0

    @property
    def slope(self) -> Slope:
        """After the warm-up."""
        return slope([sample for sample in self.samples if sample[0] >= self.seconds * _WARM_UP_SHARE])


def soak(seconds: float, report: Callable[[Outcome], None] = lambda outcome: None) -> Outcome:
    """`report` is told how far it is, sixty times."""
    outcome, over = Outcome(seconds), threading.Event()
    with product() as daemon:
        with Client() as client:
            outcome.world.keep(client.generate("rain", seconds=0.5).clip())  # the model is loaded
        threads = [threading.Thread(target=run, args=(name, outcome.world, over), name=name) for name in KINDS]
        for thread in threads:
            thread.start()
        _measure(daemon, outcome, report)
        over.set()
        for thread in threads:
            thread.join()
        outcome.errors += outcome.world.errors
        outcome.errors += _untrue(outcome)
        daemon.terminate()
        if daemon.wait(PATIENCE_SECONDS) != 0:
            outcome.errors.append(f"the daemon ended with {daemon.returncode}")
    outcome.errors += [*_damaged_database(), *unexpected()]
    return outcome


def _measure(daemon: subprocess.Popen[bytes], outcome: Outcome, report: Callable[[Outcome], None]) -> None:
    began, pause = time.monotonic(), min(_LONGEST_PAUSE_SECONDS, outcome.seconds / _FEWEST_SAMPLES)
    every = max(1, round(outcome.seconds / pause / 60))
    while (now := time.monotonic() - began) < outcome.seconds:
        if daemon.poll() is not None:
            return
        outcome.samples.append((now, resident_mb(daemon.pid)))
        if len(outcome.samples) % every == 0:
            report(outcome)
        time.sleep(pause)


def _untrue(outcome: Outcome) -> Iterator[str]:
    """What clients were told, and is not so; what is there, and nobody asked for."""
    world = outcome.world
    with Client() as client:
        clips = {clip.id: clip for deleted in (False, True) for clip in client.all_clips(deleted=deleted)}
        outcome.clips = len(clips)
        for clip_id, told in world.told.items():
            if clips.get(clip_id) != told:
                yield f"clip {clip_id} was told as {told} and is {clips.get(clip_id)}"
        for clip_id in clips.keys() - world.told.keys() - world.asked:
            yield f"clip {clip_id} is there, and nobody was told of it"
        for clip in clips.values():
            yield from wholeness(clip)
        yield from strange_files(clips, client, paths.clips_dir())
        in_flight = client.jobs()
        if in_flight:
            yield f"{len(in_flight)} clips are in flight, and nobody waits for them"


def _damaged_database() -> Iterator[str]:
    path = paths.clips_dir() / DATABASE_NAME
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        verdict = [row[0] for row in connection.execute("PRAGMA integrity_check")]
    if verdict != ["ok"]:
        yield f"{path} is damaged: {verdict[:3]}"
