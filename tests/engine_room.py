"""Scheduler, worker, engines and library together, without the wire."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from running_daemon import ONE_BY_ONE, PATIENCE_SECONDS, Gate, SteeredEngine
from soundctm.bundle import Bundle
from soundctm.engines.costs import Costs
from soundctm.engines.protocol import Engine, Floats
from soundctm.errors import SoundCTMError
from soundctm.licences import AcceptedLicences
from soundctm.recipe import make_recipe
from soundctm_daemon.catalogue import Catalogue
from soundctm_daemon.clip import StoredClip, new_clip_id
from soundctm_daemon.engines import EnginePool, States
from soundctm_daemon.files import WriteFile, write_durably
from soundctm_daemon.jobs import Failed, Job, JobEvent, JumpDone, Priority, Ready
from soundctm_daemon.library import Library, open_library
from soundctm_daemon.scheduler import Scheduler
from soundctm_daemon.worker import Worker

ROOMY = 10**12


class Order:
    """One clip asked for, and what became of it."""

    def __init__(
        self, bundle: Bundle, priority: Priority, deadline_seconds: float | None, wishes: dict[str, Any]
    ) -> None:
        self.events: list[JobEvent] = []
        self._ended = threading.Event()
        recipe = make_recipe(bundle.spec, bundle.digest, **{"prompt": "rain", "seed": 7, "seconds": 0.5, **wishes})
        self.job = Job(
            new_clip_id(), bundle.path.name, bundle, recipe, "", "a clip", self._emit, priority, deadline_seconds
        )

    def _emit(self, event: JobEvent) -> None:
        self.events.append(event)
        if isinstance(event, Ready | Failed):
            self._ended.set()

    def _last(self) -> JobEvent:
        assert self._ended.wait(PATIENCE_SECONDS)
        return self.events[-1]

    @property
    def clip(self) -> StoredClip:
        event = self._last()
        assert isinstance(event, Ready), event
        return event.clip

    @property
    def error(self) -> SoundCTMError:
        event = self._last()
        assert isinstance(event, Failed), event
        return event.error

    @property
    def jumps(self) -> list[tuple[int, int]]:
        return [(event.done, event.total) for event in self.events if isinstance(event, JumpDone)]


class Room:
    def __init__(
        self,
        folder: Path,
        bundle: Bundle,
        load: Callable[[Bundle], Engine],
        budget_bytes: int = ROOMY,
        queue_limit: int = 64,
        write_file: WriteFile = write_durably,
    ) -> None:
        self.bundle = bundle
        self.scheduler = Scheduler(queue_limit)
        self.on_states: Callable[[States], None] = lambda states: None
        self.pool = EnginePool(load, lambda: budget_bytes, lambda states: self.on_states(states))
        self.library: Library = open_library(folder / "clips", write_file)
        catalogue = Catalogue("tiny", AcceptedLicences(folder / "licences"), self.pool.holds)
        self.worker = Worker(self.scheduler, self.library, catalogue, self.pool)
        self.worker.start()

    def order(
        self,
        priority: Priority = Priority.REFINEMENT,
        deadline_seconds: float | None = None,
        bundle: Bundle | None = None,
        **wishes: Any,
    ) -> Order:
        return Order(bundle or self.bundle, priority, deadline_seconds, wishes)

    def asked(self, *orders: Order) -> tuple[Order, ...]:
        self.scheduler.submit([order.job for order in orders])
        return orders

    def close(self) -> None:
        self.scheduler.stop_all()
        self.scheduler.end()
        self.worker.join(PATIENCE_SECONDS)
        assert not self.worker.is_alive()
        self.library.close()


class Engineered(SteeredEngine):
    """Notes the prompts of every forward and of every tile; `on_jump` and `on_tile` may wait or raise."""

    def __init__(self, bundle: Bundle, costs: Costs = ONE_BY_ONE, tiles: int = 1) -> None:
        super().__init__(bundle, lambda: None, costs=costs)
        self.jumps: list[list[str]] = []
        self.tiles: list[list[int]] = []
        self.on_jump: Callable[[list[str]], None] = lambda prompts: None
        self.on_tile: Callable[[list[int]], None] = lambda seeds: None
        self._tiles = tiles

    def jump(self, z: Any, t: Sequence[float], s: Sequence[float], omega: Sequence[float], text: Sequence[Any]) -> Any:
        self.jumps.append(list(text))
        self.on_jump(list(text))
        return z

    def decode_tiles(self, frames: int) -> int:
        return self._tiles

    def decode_tile(self, z: Any, seeds: Sequence[int], index: int, carries: Sequence[Any]) -> tuple[Floats, list[Any]]:
        self.tiles.append(list(seeds))
        self.on_tile(list(seeds))
        assert all(carry == (index or None) for carry in carries)
        audio = self.decode(z, seeds)
        samples = audio.shape[-1]
        part = audio[..., samples * index // self._tiles : samples * (index + 1) // self._tiles]
        return part, [index + 1] * len(seeds)


def held(room: Room, engine: Engineered, gate: Gate) -> Order:
    """A clip whose only jump waits at the gate: what is asked for meanwhile is there when the next tick begins."""
    engine.on_jump = lambda prompts: gate.wait()
    (first,) = room.asked(room.order(Priority.PREVIEW, prompt="first"))
    gate.wait_until_reached()
    engine.on_jump = lambda prompts: None
    return first


def read(clip: StoredClip) -> np.ndarray:
    return soundfile.read(clip.path, dtype="float32")[0]
