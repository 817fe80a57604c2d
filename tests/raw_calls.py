"""Calls by the contract's own stubs, without the client: what any program in any language sees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from running_daemon import PATIENCE_SECONDS, Gate, RunningDaemon, steered
from soundctm_daemon.errors import LibraryError
from soundctm_daemon.files import WriteFile, write_durably
from soundgen.v1 import clip_pb2, clip_service_pb2, clip_service_pb2_grpc, generation_service_pb2_grpc
from soundgen.v1 import generation_service_pb2 as contract


class Api:
    """Each method is a call of that name, with the request's fields; streams are read by `read` and `first`."""

    def __init__(self, daemon: RunningDaemon, channel: grpc.Channel, token: str) -> None:
        self.daemon = daemon
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._generation = generation_service_pb2_grpc.GenerationServiceStub(channel)
        self._clips = clip_service_pb2_grpc.ClipServiceStub(channel)

    def generate(self, prompt: str = "rain", seconds: float = 0.5, **fields: Any) -> Any:
        return self.send("Generate", contract.GenerateRequest(prompt=prompt, seconds=seconds, **fields))

    def variations(self, count: int = 0, seeds: tuple[int, ...] = (), **fields: Any) -> Any:
        shared = contract.GenerateRequest(**{"prompt": "rain", "seconds": 0.5, **fields})
        request = contract.GenerateVariationsRequest(request=shared, count=count, seeds=seeds)
        return self.send("GenerateVariations", request)

    def refine(self, clip_id: str, **fields: Any) -> Any:
        return self.send("Refine", contract.RefineRequest(clip_id=clip_id, **fields))

    def progressively(self, clip_id: str, **fields: Any) -> Any:
        return self.send("RefineProgressively", contract.RefineProgressivelyRequest(clip_id=clip_id, **fields))

    def rerender(self, recipe_json: str, **fields: Any) -> Any:
        return self.send("Rerender", contract.RerenderRequest(recipe_json=recipe_json, **fields))

    def watch(self, clip_id: str) -> Any:
        return self.send("Watch", contract.WatchRequest(clip_id=clip_id))

    def cancel(self, clip_id: str) -> None:
        self.send("Cancel", contract.CancelRequest(clip_id=clip_id))

    def jobs(self, include_ended: bool = False) -> list[contract.Job]:
        return list(self.send("ListJobs", contract.ListJobsRequest(include_ended=include_ended)).jobs)

    def stored_ids(self) -> list[str]:
        """Newest first."""
        request = clip_service_pb2.ListClipsRequest(page_size=200)
        response = self._clips.ListClips(request, metadata=self._metadata, timeout=PATIENCE_SECONDS)
        return [clip.id for clip in response.clips]

    def make(self, **fields: Any) -> clip_pb2.Clip:
        """A clip, made."""
        return clips_of(read(self.generate(**fields))[0])[0]

    def send(self, method: str, request: Any) -> Any:
        return getattr(self._generation, method)(request, metadata=self._metadata, timeout=PATIENCE_SECONDS)


@contextmanager
def api_of(daemon: RunningDaemon, token: str | None = None) -> Iterator[Api]:
    """With the owner's token, or another one."""
    with grpc.insecure_channel(daemon.listening.address) as channel:
        yield Api(daemon, channel, token or daemon.settings.token_file.read_text().strip())


@contextmanager
def gated_api(write_file: WriteFile = write_durably, **settings: Any) -> Iterator[tuple[Api, Gate]]:
    """Of a daemon whose jumps wait at the gate; they are let through in the end."""
    gate = Gate()
    with RunningDaemon(steered(gate.wait), write_file, **settings) as daemon, api_of(daemon) as api:
        try:
            yield api, gate
        finally:
            gate.let_through(10_000)


@contextmanager
def open_api(write_file: WriteFile = write_durably, **settings: Any) -> Iterator[Api]:
    """Of a daemon that makes clips at once."""
    with RunningDaemon(steered(), write_file, **settings) as daemon, api_of(daemon) as api:
        yield api


def until_leaving_is_noticed(api: Api) -> None:
    """Until the daemon knows of every call that was left; the gate holds the engine. Calls of one connection end in
    the order in which they are left, and a clip that waits is cancelled at once."""
    call = api.generate(steps=16)
    clip_id = first(call).clip_id
    call.cancel()
    assert read(api.watch(clip_id))[1] is grpc.StatusCode.CANCELLED


def kind(event: contract.ClipEvent) -> str:
    return event.WhichOneof("event") or ""


def first(call: Any) -> contract.ClipEvent:
    return next(call).event


def read(call: Any) -> tuple[list[contract.ClipEvent], grpc.StatusCode]:
    """All further events, and how the call ended."""
    events = []
    try:
        for response in call:
            events.append(response.event)
    except grpc.RpcError:
        pass
    return events, call.code()


def clips_of(events: list[contract.ClipEvent]) -> list[clip_pb2.Clip]:
    return [event.clip_ready.clip for event in events if kind(event) == "clip_ready"]


def failed_ids(events: list[contract.ClipEvent]) -> list[str]:
    return [event.clip_id for event in events if kind(event) == "failed"]


def refusal(call: Any) -> tuple[grpc.StatusCode, error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo | None]:
    """How a call that made nothing ended: its code, its ErrorInfo and, where there is one, its RetryInfo."""
    events, code = read(call)
    assert [kind(event) for event in events] in ([], ["failed"])
    status = status_pb2.Status.FromString(dict(call.trailing_metadata())["grpc-status-details-bin"])
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    given = [detail for detail in status.details if detail.Is(retry.DESCRIPTOR)]
    if not given:
        return code, info, None
    given[0].Unpack(retry)
    return code, info, retry


class FailingWrites:
    """Writes files, but fails at the ones whose number, from 0, is named."""

    def __init__(self, *numbers: int) -> None:
        self._failing, self._written = numbers, 0

    def __call__(self, path: Any, data: bytes) -> None:
        number, self._written = self._written, self._written + 1
        if number in self._failing:
            raise LibraryError(f"write {number} is told to fail")
        write_durably(path, data)
