"""Every fault that is tried, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from faults import clocks, databases, disk, engines, kills, peers
from faults.scale import Scale

Fault = Callable[[Scale], list[str]]  # what was lost, in sentences

FAULTS: Mapping[str, Fault] = {
    "kill -9 at any moment, again and again": kills.at_any_moment,
    "kill -9 while the library is recovered": kills.in_recovery,
    "disk full, at every write": partial(disk.at_every_write, disk.FULL),
    "disk read-only, at every write": partial(disk.at_every_write, disk.READ_ONLY),
    "disk broken, at every write": partial(disk.at_every_write, disk.BROKEN),
    "database held by another program": databases.held,
    "database gone": partial(databases.damaged, databases.gone),
    "database emptied": partial(databases.damaged, databases.emptied),
    "database cut short": partial(databases.damaged, databases.cut),
    "database full of garbage": partial(databases.damaged, databases.garbage),
    "database with a page of zeros": partial(databases.damaged, databases.page_of_zeros),
    "database with another byte anywhere": partial(databases.damaged, databases.one_byte),
    "database damaged under the running daemon": databases.damaged_in_use,
    "engine exception, in every method": engines.exceptions,
    "engine gives NaN": engines.not_a_number,
    "no memory for many clips at once": engines.memory_of_many,
    "no memory for one clip among others": engines.memory_of_one,
    "clients that stop reading": peers.that_stop_reading,
    "clients that come and go": peers.that_come_and_go,
    "cancelled: queued, running, just finished, at any moment": peers.that_cancel,
    "a second daemon": peers.second_daemon,
    "the clock jumps": clocks.jumps,
}
