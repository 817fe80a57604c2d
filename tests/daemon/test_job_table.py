"""Readers that stand still cost little, what ended is forgotten in time, and refusals say a sensible time."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from pathlib import Path

import pytest

from soundctm.bundle import Bundle, open_bundle
from soundctm.errors import CancelledError, InvalidRequestError
from soundctm.recipe import make_recipe
from soundctm_daemon import job_table, orders, subscription
from soundctm_daemon.clip import new_clip_id
from soundctm_daemon.errors import TooManyJobsError
from soundctm_daemon.job_table import JobState, JobTable
from soundctm_daemon.jobs import Failed, Job, JobEvent, JumpDone, Queued, Started
from soundctm_daemon.orders import Orders
from soundgen.v1 import generation_service_pb2


class Clock:
    def __init__(self) -> None:
        self.seconds = 1e6

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def bundle(tiny_bundle_dir: Path) -> Bundle:
    return open_bundle(tiny_bundle_dir)


def added(table: JobTable, bundle: Bundle, client: str = "") -> Job:
    clip_id = new_clip_id()
    recipe = make_recipe(bundle.spec, bundle.digest, prompt="rain", seed=1, steps=64)
    job = Job(clip_id, "tiny", bundle, recipe, "", "rain", table.emitter(clip_id), client=client)
    table.add([job], kept=False, client_limit=10_000)
    return job


def test_a_reader_is_told_what_it_cannot_have_because_it_was_forgotten(bundle: Bundle) -> None:
    async def had() -> bool:
        table = JobTable()
        job = added(table, bundle)
        return table.attach(table.reader(), [job.clip_id, "forgotten"], holds=False, how_far=True) == [job.clip_id]

    assert asyncio.run(had())


def test_a_reader_that_stands_still_keeps_the_latest_of_each_kind_and_the_end(bundle: Bundle) -> None:
    async def read() -> list[JobEvent]:
        table = JobTable()
        job = added(table, bundle)
        reader = table.reader()
        table.attach(reader, [job.clip_id], holds=True, how_far=False)

        def happen() -> None:
            for position in range(20_000, 0, -1):
                job.emit(Queued(position))
            job.emit(Started())
            for done in range(1, 20_001):
                job.emit(JumpDone(done, 20_000))
            job.emit(Failed(CancelledError("stopped")))

        thread = threading.Thread(target=happen)
        thread.start()
        await asyncio.to_thread(thread.join)
        events: list[JobEvent] = []
        while not events or not isinstance(events[-1], Failed):
            events.append((await reader.next())[1])
        return events

    events = asyncio.run(read())
    assert len(events) <= subscription.WAITING_EVENTS + 4
    assert [type(event) for event in events[-4:]] == [Queued, Started, JumpDone, Failed]
    assert (events[-4], events[-2]) == (Queued(1), JumpDone(20_000, 20_000))


def test_a_reader_that_waits_is_woken_from_another_thread(bundle: Bundle) -> None:
    async def read() -> JobEvent:
        table = JobTable()
        job = added(table, bundle)
        reader = table.reader()
        table.attach(reader, [job.clip_id], holds=True, how_far=False)
        waiting = asyncio.create_task(reader.next())
        await asyncio.sleep(0)
        await asyncio.to_thread(job.emit, Queued(3))
        return (await waiting)[1]

    assert asyncio.run(read()) == Queued(3)


def test_an_event_after_the_loop_of_its_reader_has_ended_hurts_nobody(bundle: Bundle) -> None:
    table = JobTable()
    job = added(table, bundle)

    async def attach() -> None:
        table.attach(table.reader(), [job.clip_id], holds=True, how_far=False)

    asyncio.run(attach())
    job.emit(Started())
    view = table.find(job.clip_id)
    assert view is not None
    assert view.state is JobState.RUNNING


def test_what_ended_is_remembered_for_an_hour_and_a_thousand_at_most(bundle: Bundle) -> None:
    clock = Clock()
    table = JobTable(clock)
    jobs = [added(table, bundle) for _ in range(job_table.REMEMBERED_JOBS + 10)]
    in_flight = added(table, bundle)
    for job in jobs:
        job.emit(Failed(CancelledError("stopped")))
    assert [view.job for view in table.ended()] == jobs[:9:-1]
    clock.seconds += job_table.REMEMBERED_SECONDS - 1
    assert table.find(jobs[-1].clip_id) is not None
    clock.seconds += 2
    assert table.find(jobs[-1].clip_id) is None
    assert table.ended() == []
    assert [view.job for view in table.in_flight()] == [in_flight]


def test_what_happens_after_the_end_changes_nothing(bundle: Bundle) -> None:
    table = JobTable()
    job = added(table, bundle)
    job.emit(Failed(CancelledError("stopped")))
    job.emit(Started())
    assert [view.state for view in table.ended()] == [JobState.FAILED]
    assert table.in_flight() == []


def test_a_share_is_of_one_client_and_what_was_discarded_counts_no_more(bundle: Bundle) -> None:
    table = JobTable()
    first = added(table, bundle, "a")
    second = dataclasses.replace(first, clip_id="other")
    with pytest.raises(TooManyJobsError, match="1 clips of this client are in flight and it asks for 1 more"):
        table.add([second], kept=False, client_limit=1)
    table.add([dataclasses.replace(second, client="b")], kept=False, client_limit=1)
    table.discard([first])
    table.add([dataclasses.replace(first, clip_id="third")], kept=False, client_limit=1)


def test_who_asks_again_is_told_what_a_clip_takes_within_bounds(bundle: Bundle) -> None:
    assert 0.2 <= JobTable().retry_seconds() <= 60.0


def test_an_id_is_free_again_after_an_hour() -> None:
    clock = Clock()
    known = Orders(clock)
    request = generation_service_pb2.GenerateRequest(prompt="rain")
    order = known.open("a", "id")
    order.note(request, [], ["clip"])
    assert known.open("a", "id") is order
    assert known.open("b", "id") is not order
    with pytest.raises(InvalidRequestError, match="request_id is 'id', which named another request"):
        order.require_same(generation_service_pb2.GenerateRequest(prompt="thunder"))
    order.require_same(request)
    clock.seconds += orders.REMEMBERED_SECONDS
    assert known.open("a", "id") is not order
    assert known.open("a", None) is not known.open("a", None)
