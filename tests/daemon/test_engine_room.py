"""Scheduler, worker, engines and library together, without the wire: what shares a step, what a fault costs, what a
deadline gives."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from running_daemon import (
    ALL_TOGETHER,
    ONE_BY_ONE,
    PATIENCE_SECONDS,
    Gate,
    HeldWrites,
    SteeredEngine,
    ToldCost,
    install,
)
from soundctm.bundle import Bundle, open_bundle
from soundctm.engines.costs import Costs
from soundctm.engines.protocol import Engine, Floats
from soundctm.engines.torch import load_engine
from soundctm.errors import CancelledError, NonFiniteAudioError, OutOfMemoryError, SoundCTMError
from soundctm.licences import AcceptedLicences
from soundctm.recipe import make_recipe
from soundctm.render import render
from soundctm_daemon import flight, worker
from soundctm_daemon.catalogue import Catalogue
from soundctm_daemon.clip import AudioFinding, StoredClip, new_clip_id
from soundctm_daemon.engines import EnginePool, States
from soundctm_daemon.errors import (
    DaemonStoppingError,
    InternalError,
    ModelInUseError,
    ModelLoadError,
    ModelMemoryBusyError,
    NotInFlightError,
    QueueFullError,
)
from soundctm_daemon.files import WriteFile, write_durably
from soundctm_daemon.jobs import Failed, Job, JobEvent, JumpDone, Priority, Queued, Ready, Started
from soundctm_daemon.library import Library, open_library
from soundctm_daemon.scheduler import Scheduler
from soundctm_daemon.worker import Worker
from tiny import write_tiny_bundle

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


@pytest.fixture(autouse=True)
def _time_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine too, everybody chosen begins in the same tick."""
    monkeypatch.setattr(worker, "_BEGIN_SECONDS", PATIENCE_SECONDS)


@pytest.fixture
def bundle(tiny_bundle_dir: Path, tmp_path: Path) -> Bundle:
    return open_bundle(install(tiny_bundle_dir, tmp_path / "models"))


@pytest.fixture
def opened(tmp_path: Path, bundle: Bundle) -> Iterator[Callable[..., Room]]:
    rooms: list[Room] = []

    def open_room(load: Callable[[Bundle], Engine] | Engine, **options: Any) -> Room:
        rooms.append(Room(tmp_path, bundle, load if callable(load) else lambda asked: load, **options))
        return rooms[-1]

    yield open_room
    for room in rooms:
        room.close()


def held(room: Room, engine: Engineered, gate: Gate) -> Order:
    """A clip whose only jump waits at the gate: what is asked for meanwhile is there when the next tick begins."""
    engine.on_jump = lambda prompts: gate.wait()
    (first,) = room.asked(room.order(Priority.PREVIEW, prompt="first"))
    gate.wait_until_reached()
    engine.on_jump = lambda prompts: None
    return first


# ---- sharing ----


def test_what_is_ready_shares_forwards_and_tiles_whatever_its_plan(
    opened: Callable[..., Room], bundle: Bundle
) -> None:
    engine, gate = Engineered(bundle, ALL_TOGETHER, tiles=2), Gate()
    room = opened(engine)
    first = held(room, engine, gate)
    orders = room.asked(
        *(room.order(prompt=f"{steps} jumps", steps=steps, seed=steps) for steps in (1, 2, 3)),
        room.order(prompt="with nu", negative_prompt="without", nu=2.0, steps=2, seed=9),
    )
    gate.let_through()
    assert [order.clip.record.recipe.steps for order in (first, *orders)] == [1, 1, 2, 3, 2]
    assert sorted(map(len, engine.jumps[1:]), reverse=True) == [5, 4, 1]
    assert [prompts for prompts in engine.jumps if len(prompts) == 5] == [
        ["1 jumps", "2 jumps", "3 jumps", "with nu", "without"]
    ]
    assert [2, 9] in engine.tiles  # whose jumps ended together
    assert orders[2].jumps == [(1, 3), (2, 3), (3, 3)]


def test_where_sharing_gains_nothing_a_preview_waits_for_one_step_only(
    opened: Callable[..., Room], bundle: Bundle
) -> None:
    engine, gate = Engineered(bundle, ONE_BY_ONE, tiles=2), Gate()
    room = opened(engine)
    engine.on_jump = lambda prompts: gate.wait()
    refinements = room.asked(*(room.order(prompt=f"refined {k}", steps=4) for k in range(3)))
    gate.wait_until_reached()
    (preview,) = room.asked(room.order(Priority.PREVIEW, prompt="preview", steps=1))
    gate.let_through(1000)
    assert preview.clip and all(order.clip for order in refinements)
    assert engine.jumps[:3] == [["refined 0"], ["preview"], ["refined 0"]]
    assert [prompt for (prompt,) in engine.jumps[2:]] == ["refined 0"] * 3 + ["refined 1"] * 4 + ["refined 2"] * 4


def test_a_preview_goes_between_the_tiles_of_others(opened: Callable[..., Room], bundle: Bundle) -> None:
    engine, gate = Engineered(bundle, tiles=3), Gate()
    room = opened(engine)
    engine.on_tile = lambda seeds: gate.wait() if seeds == [1] else None
    (refinement,) = room.asked(room.order(steps=2, seed=1))
    gate.wait_until_reached()
    (preview,) = room.asked(room.order(Priority.PREVIEW, seed=2))
    gate.let_through(3)
    assert preview.clip and refinement.clip
    assert engine.tiles == [[1], [2], [2], [2], [1], [1]]


def test_batch_work_goes_last_and_never_starves(opened: Callable[..., Room], bundle: Bundle) -> None:
    engine, gate = Engineered(bundle), Gate()
    room = opened(engine)
    first = held(room, engine, gate)
    (batch,) = room.asked(room.order(Priority.BATCH, prompt="batch", steps=2))
    refinements = room.asked(*(room.order(prompt="refined", steps=16) for _ in range(3)))
    gate.let_through()
    assert all(order.clip for order in (first, batch, *refinements))
    places = [place for place, prompts in enumerate(engine.jumps) if prompts == ["batch"]]
    assert 10 < places[0] < 20 and places[1] < 40


def test_the_latent_of_a_clip_is_its_own_whoever_shares_its_steps(opened: Callable[..., Room], bundle: Bundle) -> None:
    """The real engine, told that sharing costs nothing; each clip against itself alone."""
    engine = load_engine(bundle)
    engine._costs = ALL_TOGETHER
    room = opened(lambda asked: engine)
    orders = room.asked(
        *(room.order(steps=steps, seed=steps, gamma=0.5, seconds=3.0) for steps in (1, 4, 8)),
        room.order(steps=3, nu=2.0, negative_prompt="dog", seconds=3.0),
    )
    for order in orders:
        stored = order.clip
        audio = read(stored)
        alone = render(engine, stored.record.recipe)[0]
        assert np.abs(audio - alone).max() < 1e-5 + 1e-4 * np.abs(alone).max()


def read(clip: StoredClip) -> np.ndarray:
    return soundfile.read(clip.path, dtype="float32")[0]


# ---- faults ----


def test_a_fault_in_a_batch_fails_the_guilty_clip_alone(opened: Callable[..., Room], bundle: Bundle) -> None:
    engine, gate = Engineered(bundle, ALL_TOGETHER), Gate()
    room = opened(engine)
    first = held(room, engine, gate)

    def poisoned(prompts: list[str]) -> None:
        if "poison" in prompts:
            raise RuntimeError("a kernel failed")

    engine.on_jump = poisoned
    good = [room.order(prompt=f"good {k}", steps=3) for k in range(3)]
    poison = room.order(prompt="poison", steps=3)
    room.asked(*good[:2], poison, good[2])
    gate.let_through()
    assert isinstance(poison.error, InternalError) and "a kernel failed" in str(poison.error)
    for order in good:
        assert order.clip.record.recipe == order.job.recipe
        assert order.jumps == [(1, 3), (2, 3), (3, 3)]
    assert first.clip
    (following,) = room.asked(room.order())
    assert following.clip


def test_a_batch_too_large_for_the_memory_is_split_and_not_tried_again(
    opened: Callable[..., Room], bundle: Bundle
) -> None:
    engine, gate = Engineered(bundle, ALL_TOGETHER), Gate()
    room = opened(engine)
    first = held(room, engine, gate)

    def scarce(prompts: list[str]) -> None:
        if len(prompts) > 3:
            raise OutOfMemoryError("no memory left for this much at once")

    engine.on_jump = scarce
    orders = room.asked(*(room.order(prompt=str(k), steps=4) for k in range(6)))
    gate.let_through()
    assert first.clip and all(order.clip for order in orders)
    assert [len(prompts) for prompts in engine.jumps].count(6) == 1
    assert max(len(prompts) for prompts in engine.jumps[2:]) == 3


def test_a_clip_that_never_fits_says_so(opened: Callable[..., Room], bundle: Bundle) -> None:
    engine = Engineered(bundle)
    room = opened(engine)

    def none_left(prompts: list[str]) -> None:
        raise OutOfMemoryError("no memory left for this much at once")

    engine.on_jump = none_left
    (order,) = room.asked(room.order())
    assert order.error.reason == "OUT_OF_MEMORY"
    engine.on_jump = lambda prompts: None
    assert room.asked(room.order())[0].clip


def test_a_fault_in_a_tile_and_in_a_prompt_fail_their_clips_alone(opened: Callable[..., Room], bundle: Bundle) -> None:
    engine, gate = Engineered(bundle, ALL_TOGETHER, tiles=2), Gate()
    room = opened(engine)
    encode = engine.encode_text

    def encoded(prompts: Sequence[str]) -> list[Any]:
        if "unreadable" in prompts:
            raise ValueError("no such token")
        return encode(prompts)

    def broken(seeds: list[int]) -> None:
        if 13 in seeds:
            raise RuntimeError("a tile failed")

    engine.encode_text = encoded  # type: ignore[method-assign]
    engine.on_tile = broken
    first = held(room, engine, gate)
    good, bad_tile, bad_prompt = room.asked(
        room.order(seed=12), room.order(seed=13), room.order(seed=14, prompt="unreadable")
    )
    gate.let_through()
    assert "a tile failed" in str(bad_tile.error) and "no such token" in str(bad_prompt.error)
    assert first.clip and good.clip


def test_not_a_number_fails_its_clip_alone(opened: Callable[..., Room], bundle: Bundle) -> None:
    engine, gate = Engineered(bundle, ALL_TOGETHER), Gate()
    decode = engine.decode

    def decoded(z: Any, seeds: Sequence[int]) -> Floats:
        audio = np.array(decode(z, seeds))
        audio[[seed == 13 for seed in seeds]] = np.nan
        return audio

    engine.decode = decoded  # type: ignore[method-assign]
    room = opened(engine)
    first = held(room, engine, gate)
    good, bad = room.asked(room.order(seed=12), room.order(seed=13))
    gate.let_through()
    assert isinstance(bad.error, NonFiniteAudioError)
    assert first.clip and good.clip
    assert len(room.library.page(10, None)[0]) == 2


def test_an_engine_that_cannot_be_measured_fails_its_clips_and_nobody_elses(
    opened: Callable[..., Room], bundle: Bundle
) -> None:
    engine = Engineered(bundle)
    measure = engine.costs
    engine.costs = lambda: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    room = opened(engine)
    (order,) = room.asked(room.order())
    assert isinstance(order.error, InternalError)
    engine.costs = measure  # type: ignore[method-assign]
    assert room.asked(room.order())[0].clip


# ---- cancelling ----


def test_a_clip_is_cancelled_before_its_next_tile(opened: Callable[..., Room], bundle: Bundle) -> None:
    engine, gate = Engineered(bundle, tiles=3), Gate()
    room = opened(engine)
    engine.on_tile = lambda seeds: gate.wait()
    (order,) = room.asked(room.order())
    gate.wait_until_reached()
    room.scheduler.cancel(order.job.clip_id)
    gate.let_through(3)
    assert isinstance(order.error, CancelledError)
    assert len(engine.tiles) == 1
    assert room.library.page(10, None)[0] == []


def test_a_tick_spends_little_on_clips_that_begin_in_it(
    opened: Callable[..., Room], bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_BEGIN_SECONDS", 0.0)
    engine, gate = Engineered(bundle, ALL_TOGETHER), Gate()
    room = opened(engine)
    first = held(room, engine, gate)
    orders = room.asked(*(room.order(prompt=str(k), steps=3) for k in range(3)))
    gate.let_through()
    assert first.clip and all(order.clip for order in orders)
    assert engine.jumps[1:4] == [["0"], ["0", "1"], ["0", "1", "2"]]


def test_cancelling_one_of_a_batch_leaves_the_others(opened: Callable[..., Room], bundle: Bundle) -> None:
    engine, gate = Engineered(bundle, ALL_TOGETHER), Gate()
    room = opened(engine)
    first = held(room, engine, gate)
    engine.on_jump = lambda prompts: gate.wait()
    orders = room.asked(*(room.order(prompt=str(k), steps=4) for k in range(3)))
    gate.let_through()
    gate.wait_until_reached()
    room.scheduler.cancel(orders[1].job.clip_id)
    gate.let_through(100)
    assert isinstance(orders[1].error, CancelledError)
    assert first.clip and orders[0].clip and orders[2].clip
    assert engine.jumps[1:] == [["0", "1", "2"], *[["0", "2"]] * 3]


def test_a_stop_ends_what_waits_is_made_or_is_to_be_stored_and_leaves_the_file_being_written(
    opened: Callable[..., Room], bundle: Bundle
) -> None:
    engine, gate, disk = Engineered(bundle), Gate(), HeldWrites()
    room = opened(engine, write_file=disk)
    engine.on_jump = lambda prompts: gate.wait() if prompts == ["third"] else None
    orders = room.asked(*(room.order(prompt=prompt) for prompt in ("first", "second", "third", "fourth")))
    disk.wait_until_reached()
    gate.wait_until_reached()  # whoever went before it is made
    with pytest.raises(NotInFlightError):
        room.scheduler.cancel(orders[0].job.clip_id)
    room.scheduler.stop_all()
    gate.let_through()
    disk.let_through()
    assert orders[0].clip
    assert [order.error.reason for order in orders[1:]] == ["DAEMON_STOPPING"] * 3
    assert room.scheduler.wait_idle(PATIENCE_SECONDS)
    assert [clip.record.id for clip in room.library.page(9, None)[0]] == [orders[0].job.clip_id]


def test_who_cancelled_first_is_told_so_when_the_daemon_stops(opened: Callable[..., Room], bundle: Bundle) -> None:
    engine, gate = Engineered(bundle), Gate()
    room = opened(engine)
    first = held(room, engine, gate)
    room.scheduler.cancel(first.job.clip_id)
    room.scheduler.stop_all()
    gate.let_through()
    assert isinstance(first.error, CancelledError)


def test_many_jobs_are_queued_all_or_none(opened: Callable[..., Room], bundle: Bundle) -> None:
    engine, gate = Engineered(bundle), Gate()
    room = opened(engine, queue_limit=3)
    first = held(room, engine, gate)
    waiting = room.asked(room.order(), room.order())
    refused = [room.order(), room.order()]
    with pytest.raises(QueueFullError, match="2 clips are waiting already, 2 more were asked for, and 3 may wait"):
        room.asked(*refused)
    assert not refused[0].events and not refused[1].events
    with pytest.raises(NotInFlightError):
        room.scheduler.cancel(refused[0].job.clip_id)
    waiting += room.asked(room.order(Priority.PREVIEW))
    waited, running = room.scheduler.load()
    assert (dict(waited), dict(running)) == ({Priority.REFINEMENT: 2, Priority.PREVIEW: 1}, {Priority.PREVIEW: 1})
    gate.let_through()
    assert first.clip and all(order.clip for order in waiting)
    positions = [event.position for event in waiting[1].events if isinstance(event, Queued)]
    assert positions == [2, 3, 2, 1, 0]
    assert [type(event) for event in first.events] == [Queued, Started, JumpDone, Ready]


# ---- deadlines ----


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What flights take for the time: `clock.now`."""
    clock = SimpleNamespace(now=1000.0, perf_counter=time.perf_counter, time=time.time)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(flight, "time", clock)
    return clock


def test_with_time_to_spare_a_preview_is_followed_by_the_whole_plan(
    opened: Callable[..., Room], bundle: Bundle, clock: SimpleNamespace
) -> None:
    engine = Engineered(bundle, tiles=2)
    (order,) = opened(engine).asked(opened_order(bundle, 1060.0, steps=8, gamma=0.5, nu=2.0))
    assert order.clip.record.recipe == order.job.recipe
    assert order.jumps == [(1, 1), *((done, 8) for done in range(1, 9))]
    assert len(engine.tiles) == 4


def opened_order(bundle: Bundle, deadline_seconds: float, **wishes: Any) -> Order:
    return Order(bundle, Priority.PREVIEW, deadline_seconds, wishes)


def test_the_first_take_goes_as_a_preview_and_better_ones_as_what_they_are(
    opened: Callable[..., Room], bundle: Bundle, clock: SimpleNamespace
) -> None:
    engine, gate = Engineered(bundle), Gate()
    room = opened(engine)
    engine.on_jump = lambda prompts: gate.wait()
    (refined,) = room.asked(room.order(prompt="refined", steps=4))
    gate.wait_until_reached()
    waiting, hasty, patient = room.asked(
        room.order(prompt="waiting"),
        Order(bundle, Priority.REFINEMENT, 1060.0, {"prompt": "hasty", "steps": 2}),
        Order(bundle, Priority.BATCH, 1060.0, {"prompt": "batch"}),
    )
    assert hasty.events == [Queued(1)]
    gate.let_through(1000)
    assert all(order.clip for order in (refined, waiting, hasty, patient))
    assert [prompt for (prompt,) in engine.jumps] == [
        "refined", "hasty", *["refined"] * 3, "waiting", *["hasty"] * 2, "batch",
    ]  # fmt: skip


def test_the_largest_plan_that_fits_is_made(
    opened: Callable[..., Room], bundle: Bundle, clock: SimpleNamespace
) -> None:
    engine = Engineered(bundle, Costs(ToldCost.line_of(10.0, 0.0), ToldCost.line_of(1e-9, 0.0)))

    def ten_seconds_later(prompts: list[str]) -> None:
        clock.now += 10.0

    engine.on_jump = ten_seconds_later
    (order,) = opened(engine).asked(opened_order(bundle, 1045.0, steps=16))
    assert order.clip.record.recipe.steps == 3
    assert order.jumps == [(1, 1), (1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("deadline_seconds", [0.0, 1000.0, 1000.5])
def test_a_preview_is_made_even_when_it_comes_late(
    opened: Callable[..., Room], bundle: Bundle, clock: SimpleNamespace, deadline_seconds: float
) -> None:
    costs = Costs(ToldCost.line_of(1.0, 0.0), ToldCost.line_of(1.0, 0.0))
    (order,) = opened(Engineered(bundle, costs)).asked(opened_order(bundle, deadline_seconds, steps=16))
    assert order.clip.record.recipe.steps == 1
    assert order.jumps == [(1, 1)]


@pytest.mark.parametrize("stage", ["jump", "tile"])
def test_when_time_runs_out_the_best_finished_take_is_given(
    opened: Callable[..., Room], bundle: Bundle, clock: SimpleNamespace, stage: str
) -> None:
    """Others used the engine: the second take would come too late, which is seen before its next step."""
    engine = Engineered(bundle, tiles=2)

    def late_jump(prompts: list[str]) -> None:
        clock.now = 2000.0 if stage == "jump" and len(engine.jumps) == 4 else clock.now

    def late_tile(seeds: list[int]) -> None:
        clock.now = 2000.0 if stage == "tile" and len(engine.tiles) == 3 else clock.now

    engine.on_jump, engine.on_tile = late_jump, late_tile
    room = opened(engine)
    (order,) = room.asked(opened_order(bundle, 1060.0, steps=16))
    assert order.clip.record.recipe.steps == 1
    assert (len(engine.jumps), len(engine.tiles)) == ((4, 2) if stage == "jump" else (17, 3))
    assert len(room.library.page(10, None)[0]) == 1


def test_when_time_runs_out_and_the_take_cannot_be_given_nobody_else_is_harmed(
    opened: Callable[..., Room], bundle: Bundle, clock: SimpleNamespace
) -> None:
    engine = Engineered(bundle)
    embed = engine.embed

    def broken_for_thunder(prompts: Sequence[str]) -> Floats:
        if prompts[0] == "thunder":
            raise RuntimeError("no embedding")
        return embed(prompts)

    def late(prompts: list[str]) -> None:
        clock.now = 2000.0 if prompts == ["thunder"] and engine.jumps.count(["thunder"]) == 4 else clock.now

    engine.embed, engine.on_jump = broken_for_thunder, late  # type: ignore[method-assign]
    room = opened(engine)
    hasty, other = room.asked(opened_order(bundle, 1060.0, steps=16, prompt="thunder"), room.order(steps=16))
    assert isinstance(hasty.error, InternalError)
    assert other.clip


def test_cancelled_before_its_deadline_nothing_is_stored(
    opened: Callable[..., Room], bundle: Bundle, clock: SimpleNamespace
) -> None:
    engine, gate = Engineered(bundle), Gate()
    engine.on_jump = lambda prompts: gate.wait() if len(engine.jumps) == 3 else None
    room = opened(engine)
    (order,) = room.asked(opened_order(bundle, 1060.0, steps=16))
    gate.wait_until_reached()
    room.scheduler.cancel(order.job.clip_id)
    gate.let_through()
    assert isinstance(order.error, CancelledError)
    assert room.library.page(10, None)[0] == []


def test_a_better_take_that_fails_leaves_the_preview(
    opened: Callable[..., Room], bundle: Bundle, clock: SimpleNamespace
) -> None:
    engine = Engineered(bundle)
    decode = engine.decode
    engine.decode = lambda z, seeds: decode(z, seeds) * (1.0 if len(engine.tiles) == 1 else np.nan)  # type: ignore
    (order,) = opened(engine).asked(opened_order(bundle, 1060.0, steps=16))
    assert order.clip.record.recipe.steps == 1


# ---- models ----


def test_a_model_that_loads_slowly_holds_up_nobody_else(
    opened: Callable[..., Room], bundle: Bundle, tmp_path: Path
) -> None:
    other, gate = write_tiny_bundle(tmp_path / "other", seed=1), Gate()

    def load(asked: Bundle) -> Engine:
        if asked.digest == other.digest:
            gate.wait()
        return Engineered(asked)

    room = opened(load)
    (slow,) = room.asked(room.order(Priority.PREVIEW, bundle=other))
    gate.wait_until_reached()
    assert room.asked(room.order())[0].clip
    gate.let_through()
    assert slow.clip


def test_a_model_that_cannot_be_loaded_fails_its_clips_and_the_next_one_tries_again(
    opened: Callable[..., Room], bundle: Bundle, tmp_path: Path
) -> None:
    other, faults = write_tiny_bundle(tmp_path / "other", seed=1), [RuntimeError("a damaged layer")]

    def load(asked: Bundle) -> Engine:
        if asked.digest == other.digest and faults:
            raise faults.pop()
        return Engineered(asked)

    room = opened(load)
    (failed,) = room.asked(room.order(bundle=other))
    assert isinstance(failed.error, ModelLoadError)
    assert room.asked(room.order())[0].clip
    assert room.asked(room.order(bundle=other))[0].clip


def test_a_model_that_needs_the_memory_of_clips_being_made_waits_for_them(
    opened: Callable[..., Room], bundle: Bundle, tmp_path: Path
) -> None:
    """And whoever came after it waits for it: it is not put off for ever."""
    other, gate, refused = write_tiny_bundle(tmp_path / "other", seed=1), Gate(), threading.Event()
    engines = {bundle.digest: Engineered(bundle), other.digest: Engineered(other)}
    room = opened(lambda asked: engines[asked.digest], budget_bytes=1_500_000)
    seen: list[States] = []

    def watch(states: States) -> None:
        seen.append(states)
        if any(other.digest in before for before in seen) and other.digest not in states:
            refused.set()

    room.on_states = watch
    engines[bundle.digest].on_jump = lambda prompts: gate.wait()
    (first,) = room.asked(room.order(steps=2))
    gate.wait_until_reached()
    (crowded,) = room.asked(room.order(bundle=other))
    behind = room.asked(*(room.order() for _ in range(3)))
    gate.let_through()
    assert refused.wait(PATIENCE_SECONDS)
    gate.let_through(100)
    assert first.clip and crowded.clip and all(order.clip for order in behind)
    ready = [order.clip.record.created_at for order in (first, crowded, *behind)]
    assert ready == sorted(ready)


def test_a_model_that_fits_beside_none_of_those_in_use_elsewhere_says_so(
    opened: Callable[..., Room], bundle: Bundle, tmp_path: Path
) -> None:
    other = write_tiny_bundle(tmp_path / "other", seed=1)
    room = opened(Engineered, budget_bytes=1_500_000)
    assert room.asked(room.order())[0].clip
    room.pool.pin(bundle.digest)
    (order,) = room.asked(room.order(bundle=other))
    assert isinstance(order.error, ModelMemoryBusyError)
    room.pool.unpin(bundle.digest)
    assert room.asked(room.order(bundle=other))[0].clip


def test_clips_in_flight_pin_their_model(opened: Callable[..., Room], bundle: Bundle) -> None:
    engine, gate = Engineered(bundle), Gate()
    room = opened(engine)
    first = held(room, engine, gate)
    with pytest.raises(ModelInUseError):
        room.pool.unload(bundle.digest)
    gate.let_through()
    assert first.clip
    room.pool.unload(bundle.digest)
    assert room.asked(room.order())[0].clip


# ---- calls ----


def test_a_call_runs_on_the_engines_thread_between_ticks(opened: Callable[..., Room], bundle: Bundle) -> None:
    engine, gate = Engineered(bundle), Gate()
    room = opened(engine)
    first = held(room, engine, gate)
    called: Future[str] = room.worker.call(lambda: threading.current_thread().name)
    failing: Future[float] = room.worker.call(lambda: 1 / 0)
    assert not called.done()
    gate.let_through()
    assert called.result(PATIENCE_SECONDS) == "engine"
    with pytest.raises(ZeroDivisionError):
        failing.result(PATIENCE_SECONDS)
    assert first.clip


def test_after_the_end_a_call_says_so(opened: Callable[..., Room], bundle: Bundle) -> None:
    room = opened(Engineered(bundle))
    room.scheduler.end()
    room.worker.join(PATIENCE_SECONDS)
    with pytest.raises(DaemonStoppingError):
        room.worker.call(lambda: 1).result(PATIENCE_SECONDS)


# ---- findings ----


@pytest.mark.parametrize(("peak", "found"), [(0.9999, False), (1.0, True), (1.5, True)])
def test_samples_at_full_scale_were_cut_by_the_decoder(
    opened: Callable[..., Room], bundle: Bundle, peak: float, found: bool
) -> None:
    engine = Engineered(bundle)
    decode = engine.decode
    engine.decode = lambda z, seeds: np.clip(4 * decode(z, seeds), -peak, peak)  # type: ignore
    (order,) = opened(engine).asked(Order(bundle, Priority.PREVIEW, None, {}))
    assert (AudioFinding.CLIPPING in order.clip.record.findings) == found


def test_a_clip_says_what_was_found_about_it(opened: Callable[..., Room], bundle: Bundle) -> None:
    engine = Engineered(bundle)
    decode = engine.decode
    engine.decode = lambda z, seeds: (decode(z, seeds) + 0.1)[..., :20_000]  # type: ignore
    room = opened(engine)
    order = room.order()
    order.job = dataclasses.replace(order.job, other_weights=True)
    (order,) = room.asked(order)
    assert set(order.clip.record.findings) == {
        AudioFinding.DC_OFFSET, AudioFinding.SHORT, AudioFinding.OTHER_WEIGHTS
    }
    assert order.clip.record.mean == pytest.approx(0.1, abs=0.01)
