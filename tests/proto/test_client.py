"""The client speaks of errors in its own words, and never hands over half a file."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from scripted_daemon import ScriptedDaemon, started
from soundgen import errors, paths
from soundgen.client import AsyncClient, Client
from soundgen.download import Receiver
from soundgen.v1 import clip_pb2, clip_service_pb2, generation_service_pb2, model_service_pb2

DATA = bytes(range(256)) * 40


@pytest.fixture
def nowhere(tmp_path: Path) -> str:
    return f"unix:{tmp_path / 'nobody.sock'}"


def test_no_daemon_is_said_with_the_address_and_the_cure(nowhere: str) -> None:
    with Client(nowhere, token="x") as client:
        for call in (client.models, lambda: list(client.generate("rain"))):
            with pytest.raises(errors.DaemonUnreachableError, match="soundctm daemon start") as caught:
                call()
            assert nowhere in str(caught.value)


def test_no_daemon_is_said_to_the_async_client_too(nowhere: str) -> None:
    async def call() -> None:
        async with AsyncClient(nowhere, token="x") as client:
            with pytest.raises(errors.DaemonUnreachableError):
                await client.models()
            with pytest.raises(errors.DaemonUnreachableError):
                async for _ in client.generate("rain"):
                    pass

    asyncio.run(call())


def test_a_thousand_jobs_with_the_longest_prompts_are_received(scripted: ScriptedDaemon, client: Client) -> None:
    longest = clip_pb2.Recipe(prompt="雷" * 1000, negative_prompt="雨" * 1000)
    jobs = [generation_service_pb2.Job(clip_id=str(number), recipe=longest) for number in range(1320)]
    answer = generation_service_pb2.ListJobsResponse(jobs=jobs)
    assert answer.ByteSize() > 4 << 20
    scripted.answers["ListJobs"] = lambda request, context: answer
    assert len(client.jobs(include_ended=True)) == 1320


def test_no_token_is_said_with_its_path() -> None:
    with pytest.raises(errors.UnauthenticatedError) as caught:
        Client()
    assert str(paths.token_path()) in str(caught.value)


EXPECTED = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: errors.NotFoundError,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidRequestError,
    grpc.StatusCode.UNAUTHENTICATED: errors.UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: errors.ForbiddenError,
    grpc.StatusCode.UNAVAILABLE: errors.DaemonUnreachableError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.PreconditionError,
    grpc.StatusCode.UNIMPLEMENTED: errors.PreconditionError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ExhaustedError,
    grpc.StatusCode.CANCELLED: errors.ClipCancelledError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceededError,
    grpc.StatusCode.DATA_LOSS: errors.DataLossError,
}


def test_every_status_code_is_an_error_of_ours(scripted: ScriptedDaemon, client: Client) -> None:
    def fail(request: Any, context: grpc.ServicerContext) -> None:
        context.abort(code, "the server's own words")

    scripted.answers["GetModel"] = fail
    for code in grpc.StatusCode:
        if code is grpc.StatusCode.OK:
            continue
        with pytest.raises(errors.SoundgenError) as caught:
            client.model()
        assert type(caught.value) is EXPECTED.get(code, errors.GenerationFailedError), code
        assert isinstance(caught.value.__cause__, grpc.RpcError)
        assert caught.value.retry_after_seconds is None


def test_a_call_the_daemon_does_not_know_is_said_to_be_newer(client: Client) -> None:
    with pytest.raises(errors.PreconditionError, match="older than this client"):
        client.export_recipe("clip")


def with_details(scripted: ScriptedDaemon, code: grpc.StatusCode, trailer: bytes) -> None:
    def fail(request: Any, context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata(((errors.DETAILS_KEY, trailer),))
        context.abort(code, "the queue is full")

    scripted.answers["GetModel"] = fail


def test_an_error_says_when_to_try_again(scripted: ScriptedDaemon, client: Client) -> None:
    status = status_pb2.Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
    for detail in (
        error_details_pb2.ErrorInfo(reason="QUEUE_FULL", domain="soundctm", metadata={"limit": "64"}),
        error_details_pb2.RetryInfo(retry_delay=Duration(seconds=2, nanos=500_000_000)),
    ):
        status.details.add().Pack(detail)
    with_details(scripted, grpc.StatusCode.RESOURCE_EXHAUSTED, status.SerializeToString())
    with pytest.raises(errors.ExhaustedError) as caught:
        client.model()
    assert (caught.value.reason, caught.value.metadata) == ("QUEUE_FULL", {"limit": "64"})
    assert caught.value.retry_after_seconds == 2.5


def test_details_nobody_can_read_leave_the_code_and_the_message(scripted: ScriptedDaemon, client: Client) -> None:
    unreadable = status_pb2.Status()
    unreadable.details.add(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff\xff")
    for trailer in (b"\xff\x00 no message", unreadable.SerializeToString()):
        with_details(scripted, grpc.StatusCode.NOT_FOUND, trailer)
        with pytest.raises(errors.NotFoundError, match="the queue is full") as caught:
            client.model()
        assert caught.value.reason == "NOT_FOUND"


def test_the_error_tree_is_the_one_its_docstring_draws() -> None:
    drawn = errors.__doc__ or ""
    members = (kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__)
    classes = [kind for kind in members if issubclass(kind, Exception)]
    assert len(classes) > len(EXPECTED)
    assert not [kind.__name__ for kind in classes if kind.__name__ not in drawn]


def test_a_daemon_that_is_coming_up_is_asked_again(scripted: ScriptedDaemon, client: Client) -> None:
    def answer(request: Any, context: grpc.ServicerContext) -> model_service_pb2.ListModelsResponse:
        if len(scripted.requests("ListModels")) < 3:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        return model_service_pb2.ListModelsResponse()

    scripted.answers["ListModels"] = answer
    assert client.models() == ()
    assert len(scripted.requests("ListModels")) == 3


def test_a_stream_that_ends_without_a_clip_is_a_failure(scripted: ScriptedDaemon, client: Client) -> None:
    scripted.answers["Generate"] = lambda request, context: [
        generation_service_pb2.GenerateResponse(event=started())
    ]
    with pytest.raises(errors.GenerationFailedError, match="without a clip"):
        list(client.generate("rain"))


def test_half_a_file_is_no_file(scripted: ScriptedDaemon, client: Client, tmp_path: Path) -> None:
    def answer(request: Any, context: grpc.ServicerContext) -> Iterator[clip_service_pb2.DownloadResponse]:
        header = clip_service_pb2.DownloadHeader(size_bytes=len(DATA), sha256=hashlib.sha256(DATA).hexdigest())
        yield clip_service_pb2.DownloadResponse(header=header)
        yield clip_service_pb2.DownloadResponse(chunk=DATA[: int(request.clip_id)])

    scripted.answers["Download"] = answer
    target = tmp_path / "clip.wav"
    target.write_bytes(b"what was there before")
    with pytest.raises(errors.DataLossError, match=f"{len(DATA) - 1} bytes arrived"):
        client.download(str(len(DATA) - 1), target)
    assert target.read_bytes() == b"what was there before"
    client.download(str(len(DATA)), target)
    assert target.read_bytes() == DATA
    assert not list(tmp_path.glob(".*"))


def test_a_download_without_a_header_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(errors.DataLossError, match="before its header"), Receiver("clip", tmp_path / "clip.wav"):
        pass
    with (
        pytest.raises(errors.DataLossError, match="before its header"),
        Receiver("clip", tmp_path / "clip.wav") as receiver,
    ):
        receiver.take(clip_service_pb2.DownloadResponse(chunk=DATA))
    assert not list(tmp_path.iterdir())
