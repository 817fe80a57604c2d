"""A broken connection is taken up again: the caller's iteration goes on, and nothing is told or made twice."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from scripted_daemon import ScriptedDaemon, failed, jump, queued, ready, started
from soundgen import errors, types
from soundgen.async_client import AsyncClient
from soundgen.client import Client
from soundgen.connection import CHANNEL_OPTIONS
from soundgen.patience import Patience
from soundgen.v1 import clip_service_pb2, generation_service_pb2

PATIENCE_SECONDS = 180.0
DATA = bytes(range(256)) * 40

Events = list[generation_service_pb2.ClipEvent]


def one_after_another(scripted: ScriptedDaemon, name: str, *parts: Events) -> None:
    """Each call tells one part and breaks off; the last one ends well."""
    response = getattr(generation_service_pb2, f"{name}Response")

    def answer(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        part = parts[len(scripted.requests(name)) - 1]
        for event in part:
            yield response(event=event)
        if part is not parts[-1]:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")

    scripted.answers[name] = answer


CALLS: dict[str, Callable[[Any], Any]] = {
    "Generate": lambda client: client.generate("rain"),
    "Refine": lambda client: client.refine("clip"),
    "Rerender": lambda client: client.rerender("{}"),
    "Watch": lambda client: client.watch("clip"),
    "GenerateVariations": lambda client: client.generate_variations("rain", 2),
    "RefineProgressively": lambda client: client.refine_progressively("clip"),
}
FIRST = [queued(position=1), queued(), started(), jump(1, 2)]
AGAIN = [queued(), started(), jump(1, 2), jump(2, 2), ready()]
TOLD = [types.Queued, types.Queued, types.Started, types.JumpDone, types.JumpDone, types.ClipReady]


@pytest.mark.parametrize("name", CALLS)
def test_the_iteration_goes_on_and_tells_everything_once(scripted: ScriptedDaemon, client: Client, name: str) -> None:
    one_after_another(scripted, name, FIRST, AGAIN)
    assert [type(event) for event in CALLS[name](client)] == TOLD
    first, second = scripted.requests(name)
    assert first == second
    if name != "Watch":
        assert (first.request if name == "GenerateVariations" else first).request_id


@pytest.mark.parametrize("name", CALLS)
def test_so_it_does_for_asyncio(scripted: ScriptedDaemon, name: str) -> None:
    async def told() -> list[type]:
        async with AsyncClient(scripted.address, token="x") as client:
            return [type(event) async for event in CALLS[name](client)]

    one_after_another(scripted, name, FIRST, AGAIN)
    assert asyncio.run(told()) == TOLD
    first, second = scripted.requests(name)
    assert first == second


def test_the_clips_of_several_become_ready_once_each(scripted: ScriptedDaemon, client: Client) -> None:
    one_after_another(
        scripted,
        "GenerateVariations",
        [queued("a"), queued("b"), started("a"), ready("a")],
        [ready("a"), queued("b"), started("b")],
        [ready("a"), started("b"), ready("b")],
    )
    assert [clip.id for clip in client.generate_variations("rain", 2).clips()] == ["a", "b"]


def test_a_daemon_that_lost_the_clip_makes_it_anew_and_the_caller_sees_it(
    scripted: ScriptedDaemon, client: Client
) -> None:
    one_after_another(scripted, "Generate", [queued("a"), started("a")], [queued("b"), started("b"), ready("b")])
    assert [(type(event), event.clip_id) for event in client.generate("rain")] == [
        (types.Queued, "a"), (types.Started, "a"),
        (types.Queued, "b"), (types.Started, "b"), (types.ClipReady, "b"),
    ]  # fmt: skip


def test_who_never_answered_is_not_waited_for(scripted: ScriptedDaemon, client: Client) -> None:
    one_after_another(scripted, "Generate", *[[]] * 9, [ready()])
    with pytest.raises(errors.DaemonUnreachableError):
        list(client.generate("rain"))


def test_a_connection_that_stays_broken_is_given_up(scripted: ScriptedDaemon) -> None:
    one_after_another(scripted, "Generate", [queued()], [ready()])
    with (
        Client(scripted.address, token="x", reconnect_seconds=0.0) as client,
        pytest.raises(errors.DaemonUnreachableError),
    ):
        list(client.generate("rain"))
    assert len(scripted.requests("Generate")) == 1


def test_an_error_that_is_no_broken_connection_ends_it(scripted: ScriptedDaemon, client: Client) -> None:
    def answer(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        yield generation_service_pb2.GenerateResponse(event=queued())
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")

    scripted.answers["Generate"] = answer
    with pytest.raises(errors.ExhaustedError, match="full"):
        list(client.generate("rain"))
    assert len(scripted.requests("Generate")) == 1


def test_ending_early_ends_the_call(scripted: ScriptedDaemon, client: Client) -> None:
    ended = threading.Event()

    def answer(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        context.add_callback(ended.set)
        yield generation_service_pb2.GenerateResponse(event=queued())
        assert ended.wait(PATIENCE_SECONDS)

    scripted.answers["Generate"] = answer
    for _ in client.generate("rain"):
        break
    assert ended.wait(PATIENCE_SECONDS)


def test_one_of_several_that_failed_is_told_and_the_others_go_on(scripted: ScriptedDaemon, client: Client) -> None:
    one_after_another(scripted, "GenerateVariations", [failed("a", "NON_FINITE_AUDIO", "NaN"), ready("b")])
    events = list(client.generate_variations("rain", 2))
    assert events[0] == types.ClipFailed("a", "NON_FINITE_AUDIO", "NaN")
    assert isinstance(events[1], types.ClipReady)


@pytest.mark.parametrize(
    ("reason", "kind"), [("NON_FINITE_AUDIO", errors.GenerationFailedError), ("CANCELLED", errors.ClipCancelledError)]
)
@pytest.mark.parametrize("name", CALLS)
def test_failure_is_never_success_whatever_the_status_says(
    scripted: ScriptedDaemon, client: Client, name: str, reason: str, kind: type[errors.SoundgenError]
) -> None:
    one_after_another(scripted, name, [queued(), failed("clip", reason, "why")])
    with pytest.raises(kind, match="why") as caught:
        list(CALLS[name](client))
    assert caught.value.reason == reason


def download_in(scripted: ScriptedDaemon, *ends: int, data: bytes = DATA) -> None:
    """Each call sends the bytes up to one of the ends and breaks off; the last one ends well."""

    def answer(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        turn = len(scripted.requests("Download")) - 1
        header = clip_service_pb2.DownloadHeader(size_bytes=len(DATA), sha256=hashlib.sha256(DATA).hexdigest())
        yield clip_service_pb2.DownloadResponse(header=header)
        yield clip_service_pb2.DownloadResponse(chunk=data[request.offset_bytes : ends[turn]])
        if turn < len(ends) - 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")

    scripted.answers["Download"] = answer


def test_a_download_goes_on_where_it_stopped(scripted: ScriptedDaemon, client: Client, tmp_path: Path) -> None:
    download_in(scripted, 1000, 1000, 5000, len(DATA))
    assert client.download("clip", tmp_path / "clip.wav").read_bytes() == DATA
    assert [request.offset_bytes for request in scripted.requests("Download")] == [0, 1000, 1000, 5000]


def test_so_does_one_of_asyncio(scripted: ScriptedDaemon, tmp_path: Path) -> None:
    async def download() -> Path:
        async with AsyncClient(scripted.address, token="x") as client:
            return await client.download("clip", tmp_path / "clip.wav")

    download_in(scripted, 1000, len(DATA))
    assert asyncio.run(download()).read_bytes() == DATA
    assert [request.offset_bytes for request in scripted.requests("Download")] == [0, 1000]


@pytest.mark.parametrize("data", [DATA[:5000] + bytes(len(DATA) - 5000), DATA + b"more", DATA[:-1]])
def test_a_download_that_goes_on_as_another_file_is_no_file(
    scripted: ScriptedDaemon, client: Client, tmp_path: Path, data: bytes
) -> None:
    download_in(scripted, 5000, len(data), data=data)
    with pytest.raises(errors.DataLossError, match="Nothing was written"):
        client.download("clip", tmp_path / "clip.wav")
    assert not list(tmp_path.glob("*.wav*")) + list(tmp_path.glob(".clip*"))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


LOST = errors.DaemonUnreachableError("lost")


def test_waits_grow_and_end_with_the_time_for_reconnecting() -> None:
    clock = Clock()
    patience = Patience(600.0, 5.0, clock)
    patience.rewarded()
    waits = []
    while (wait := patience.wait_seconds(LOST)) is not None:
        waits.append(wait)
        clock.now += wait
    assert waits[:5] == [0.1, 0.2, 0.4, 0.8, 1.0]
    assert 4.0 < clock.now < 5.0


def test_a_connection_that_held_again_has_all_the_time_again() -> None:
    clock = Clock()
    patience = Patience(600.0, 5.0, clock)
    for _ in range(3):
        patience.rewarded()
        assert patience.wait_seconds(LOST) == 0.1
        clock.now += 4.0


def test_the_time_for_the_whole_call_bounds_everything() -> None:
    clock = Clock()
    patience = Patience(2.0, 100.0, clock)
    patience.rewarded()
    clock.now = 1.95
    assert patience.remaining_seconds() == pytest.approx(0.05)
    assert patience.wait_seconds(LOST) is None
    clock.now = 3.0
    assert patience.remaining_seconds() == 0.0


def test_the_daemon_says_how_long_to_wait() -> None:
    patience = Patience(600.0, 30.0, Clock())
    patience.rewarded()
    assert patience.wait_seconds(errors.DaemonUnreachableError("stopping", retry_after_seconds=7.0)) == 7.0
    assert patience.wait_seconds(errors.DaemonUnreachableError("stopping", retry_after_seconds=31.0)) is None


def test_a_call_that_reaches_nobody_is_tried_four_times_and_one_that_is_refused_once() -> None:
    clock = Clock()
    patience = Patience(600.0, 5.0, clock)
    assert [patience.wait_seconds(LOST) for _ in range(4)] == [0.1, 0.2, 0.4, None]
    refused = errors.DaemonUnreachableError("stopping", reason="DAEMON_STOPPING", retry_after_seconds=1.0)
    assert Patience(600.0, 5.0, clock).wait_seconds(refused) is None
    assert Patience(0.05, 5.0, clock).wait_seconds(LOST) is None


def test_grpc_itself_tries_nothing_again() -> None:
    """With its own retries on, calls that begin while a daemon dies hang for ever, whatever their deadline."""
    assert dict(CHANNEL_OPTIONS)["grpc.enable_retries"] == 0
    assert "grpc.service_config" not in dict(CHANNEL_OPTIONS)
