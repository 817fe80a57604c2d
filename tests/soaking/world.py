"""What all clients together were told of the library."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import dataclass, field

from soundgen import types


@dataclass
class World:
    """Of clips by id: `told` as they were told last; `asked`, which somebody left without hearing the end. `free` are
    those whose makers are done with them. `errors` are sentences."""

    told: dict[str, types.Clip] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    free: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def note(self, *clips: types.Clip) -> None:
        with self.lock:
            self.told |= {clip.id: clip for clip in clips}

    def keep(self, *clips: types.Clip) -> None:
        """They are there, and anybody's to change."""
        self.note(*clips)
        with self.lock:
            self.free += [clip.id for clip in clips]

    def leave(self, clip_id: str) -> None:
        """It may come to be there."""
        with self.lock:
            self.asked.add(clip_id)

    def take(self, chance: random.Random) -> types.Clip | None:
        """One that is nobody else's until it is kept again."""
        with self.lock:
            if not self.free:
                return None
            return self.told[self.free.pop(chance.randrange(len(self.free)))]
