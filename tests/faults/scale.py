"""How much a fault is tried with: in the tests, and by `python -m faults`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """`engine` as in faults.faulty_daemon. `every_point`: each so-manieth of the points where a kill may strike.
    `lasting`: whether what fails is mended after one failure (False), or only in the end (True).
    """

    clips: int
    engine: str
    every_point: int
    random_kills: int
    lasting: tuple[bool, ...]
    damages: int
    connections: int


SMALL = Scale(
    clips=24, engine="steered", every_point=3, random_kills=1, lasting=(True,), damages=1, connections=60
)
FULL = Scale(
    clips=200, engine="tiny", every_point=1, random_kills=10, lasting=(False, True), damages=5, connections=1000
)
