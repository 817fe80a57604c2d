"""A clip in flight, and what happens to it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from soundctm.bundle import Bundle
from soundctm.errors import SoundCTMError
from soundctm.recipe import Recipe
from soundctm_daemon.clip import StoredClip


@dataclass(frozen=True)
class Queued:
    """`position` clips go before this one, the one being made included."""

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


@dataclass(frozen=True)
class Job:
    """`emit` takes events from any thread and must not block. `model` is the name `bundle` goes by."""

    clip_id: str
    model: str
    bundle: Bundle
    recipe: Recipe
    parent_id: str
    label: str
    emit: Callable[[JobEvent], None]
    stop: threading.Event = field(default_factory=threading.Event)
