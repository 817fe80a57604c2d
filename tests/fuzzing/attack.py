"""Everything at once: a daemon as people run it, wild messages at every call, wild bytes at its port, and health asked
all the time."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from faults.processes import product, unexpected, wait_until
from fuzzing import port
from fuzzing.calls import Fuzzed, fuzz, known_words
from fuzzing.health import HealthWatch
from fuzzing.messages import METHODS, Known
from running_daemon import PATIENCE_SECONDS
from soundgen import paths
from soundgen.client import Client
from soundgen.errors import SoundgenError

_AT_ONCE = 6  # calls: what one does is in the way of the others


@dataclass
class Outcome:
    """`defects` are sentences; none is as it should be."""

    health: HealthWatch = field(default_factory=HealthWatch)
    sent: int = 0
    defects: list[str] = field(default_factory=list)


def attack(messages: int, connections: int, number: int, report: Callable[[Fuzzed], None]) -> Outcome:
    """So many messages, equally shared by all calls; `number` seeds chance, `report` is told of each call."""
    outcome, chance = Outcome(), random.Random(number)
    with product() as daemon:
        known = known_words()
        with outcome.health:
            for fuzzed in _everywhere(messages, chance, known):
                report(fuzzed)
                outcome.sent += fuzzed.sent
                outcome.defects += [fuzzed.defect] if fuzzed.defect else []
            struck = (port.strike(chance.getrandbits(64)) for _ in range(connections))
            outcome.defects += [defect for defect in struck if defect]
            outcome.defects += _unserved()
        daemon.terminate()
        if daemon.wait(PATIENCE_SECONDS) < 0:
            outcome.defects.append(f"the daemon ended with {daemon.returncode}")
    outcome.defects += outcome.health.failures + unexpected()
    return outcome


def _everywhere(messages: int, chance: random.Random, known: Known) -> Iterator[Fuzzed]:
    numbers = {method: chance.getrandbits(32) for method in METHODS}
    each = -(-messages // len(METHODS))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(lambda method: fuzz(method, each, numbers[method], known), METHODS)


def _unserved() -> list[str]:
    wait_until(lambda: paths.answers(paths.socket_path()))  # a server may just take another's place
    try:
        with Client() as client:
            client.generate("rain", seconds=0.5).clip()
    except SoundgenError as error:
        return [f"no clip could be made in the end: {error}"]
    return []
