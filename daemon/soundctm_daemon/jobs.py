"""A clip in flight, and what happens to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from soundctm.bundle import Bundle
from soundctm.errors import SoundCTMError
from soundctm.recipe import Recipe
from soundctm_daemon.clip import StoredClip


@dataclass(frozen=True)
class Queued:
    """`position` clips go before this one, those being made included."""

    position: int


@dataclass(frozen=True)
class Started:
    pass


@dataclass(frozen=True)
class JumpDone:
    done: int
    total: int


@dataclass(frozen=True)
class Ready:
    clip: StoredClip


@dataclass(frozen=True)
class Failed:
    error: SoundCTMError


JobEvent = Queued | Started | JumpDone | Ready | Failed


class Priority(IntEnum):
    """Lower goes first; within one kind the oldest. Who waits long enough moves up."""

    PREVIEW = 0     # few jumps, and somebody waits at it
    REFINEMENT = 1
    BATCH = 2       # nobody waits at it


@dataclass(eq=False)
class Stop:
    """Of one clip: what it fails with, once it is not to be made after all. Set by the scheduler, read by anybody."""

    error: SoundCTMError | None = None


@dataclass(frozen=True)
class Job:
    """One clip to be made. `emit` takes events from any thread and must not block; `model` is what `bundle` is called.

    `deadline_seconds`, on time.monotonic's clock: make the best take that is done by then, `recipe.steps` jumps at
    most; the clip that `Ready` brings says how many it has. None: make the recipe as it is.
    """

    clip_id: str
    model: str
    bundle: Bundle
    recipe: Recipe
    parent_id: str
    label: str
    emit: Callable[[JobEvent], None]
    priority: Priority = Priority.REFINEMENT
    deadline_seconds: float | None = None
    request_id: str = ""
    client: str = ""         # name of the token that asked; empty for the owner's own
    other_weights: bool = False  # the recipe was made for a bundle of another digest
    created_at: float = field(default_factory=time.time)
    stop: Stop = field(default_factory=Stop)

    @property
    def first_priority(self) -> Priority:
        """Of its first take. Who has a deadline begins with a preview; only the better takes after it can wait."""
        hurried = self.deadline_seconds is not None and self.priority is not Priority.BATCH
        return Priority.PREVIEW if hurried else self.priority
