"""The client speaks of errors in its own words, and never hands over half a file."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from soundgen import errors, paths
from soundgen.client import AsyncClient, Client
from soundgen.download import Receiver
from soundgen.v1 import (
    clip_service_pb2,
    clip_service_pb2_grpc,
    generation_service_pb2,
    generation_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
)

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


def test_no_token_is_said_with_its_path() -> None:
    with pytest.raises(errors.UnauthenticatedError) as caught:
        Client()
    assert str(paths.token_path()) in str(caught.value)


class Misbehaving(
    generation_service_pb2_grpc.GenerationServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
    clip_service_pb2_grpc.ClipServiceServicer,
):
    """A server that is not the daemon: aborts with the code a test sets, drops calls, sends half a file."""

    code = grpc.StatusCode.INTERNAL
    attempts = 0

    def Generate(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        yield generation_service_pb2.GenerateResponse(
            event=generation_service_pb2.ClipEvent(clip_id="x", started=generation_service_pb2.Started())
        )

    def GetModel(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        context.abort(self.code, "the server's own words")

    def ListModels(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        self.attempts += 1
        if self.attempts < 3:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        return model_service_pb2.ListModelsResponse()

    def Download(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        header = clip_service_pb2.DownloadHeader(size_bytes=len(DATA), sha256=hashlib.sha256(DATA).hexdigest())
        yield clip_service_pb2.DownloadResponse(header=header)
        yield clip_service_pb2.DownloadResponse(chunk=DATA[: int(request.clip_id)])


@pytest.fixture
def misbehaving(tmp_path: Path):  # type: ignore[no-untyped-def]
    server = grpc.server(futures.ThreadPoolExecutor(2))
    servicer = Misbehaving()
    generation_service_pb2_grpc.add_GenerationServiceServicer_to_server(servicer, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(servicer, server)
    clip_service_pb2_grpc.add_ClipServiceServicer_to_server(servicer, server)
    address = f"unix:{tmp_path / 'server.sock'}"
    server.add_insecure_port(address)
    server.start()
    with Client(address, token="x") as client:
        yield servicer, client
    server.stop(None).wait()


EXPECTED = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: errors.NotFoundError,
    grpc.StatusCode.UNAUTHENTICATED: errors.UnauthenticatedError,
    grpc.StatusCode.UNAVAILABLE: errors.DaemonUnreachableError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.PreconditionError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ExhaustedError,
    grpc.StatusCode.CANCELLED: errors.ClipCancelledError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceededError,
    grpc.StatusCode.DATA_LOSS: errors.DataLossError,
}


def test_every_status_code_is_an_error_of_ours(misbehaving) -> None:  # type: ignore[no-untyped-def]
    servicer, client = misbehaving
    for code in grpc.StatusCode:
        if code is grpc.StatusCode.OK:
            continue
        servicer.code = code
        with pytest.raises(errors.SoundgenError) as caught:
            client.model()
        assert type(caught.value) is EXPECTED.get(code, errors.GenerationFailedError), code
        assert isinstance(caught.value.__cause__, grpc.RpcError)


def test_the_error_tree_is_the_one_its_docstring_draws() -> None:
    drawn = errors.__doc__ or ""
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]
    assert len(classes) > len(EXPECTED)
    assert not [kind.__name__ for kind in classes if kind.__name__ not in drawn]


def test_a_daemon_that_is_coming_up_is_asked_again(misbehaving) -> None:  # type: ignore[no-untyped-def]
    servicer, client = misbehaving
    assert client.models() == ()
    assert servicer.attempts == 3


def test_a_stream_that_ends_without_a_clip_is_a_failure(misbehaving) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(errors.GenerationFailedError, match="without a clip"):
        list(misbehaving[1].generate("rain"))


def test_half_a_file_is_no_file(misbehaving, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    _, client = misbehaving
    target = tmp_path / "clip.wav"
    target.write_bytes(b"what was there before")
    with pytest.raises(errors.DataLossError, match=f"{len(DATA) - 1} bytes arrived"):
        client.download(str(len(DATA) - 1), target)
    assert target.read_bytes() == b"what was there before"
    client.download(str(len(DATA)), target)
    assert target.read_bytes() == DATA
    assert not list(tmp_path.glob(".*"))


def test_a_download_without_a_header_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(errors.DataLossError, match="before its header"), Receiver(tmp_path / "clip.wav"):
        pass
    assert not list(tmp_path.iterdir())
