"""Clients that do not behave, and a second daemon."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import grpc

from faults import crowd
from faults.processes import product, wait_until
from faults.scale import Scale
from faults.told import Told, losses
from running_daemon import PATIENCE_SECONDS, Gate, RunningDaemon, steered
from soundctm_daemon.files import write_durably
from soundgen import paths, types
from soundgen.client import Client
from soundgen.errors import ClipCancelledError, NotFoundError
from soundgen.v1 import clip_service_pb2, clip_service_pb2_grpc, generation_service_pb2_grpc
from soundgen.v1 import generation_service_pb2 as contract

_SILENT_CALLS = 16
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: no farewell
_FILES_IN_PASSING = 8  # that Python or gRPC open for themselves


def that_stop_reading(scale: Scale) -> list[str]:
    """Streams of events and of sound that nobody reads: others notice nothing, and a drain comes to its end."""
    told = Told()
    with RunningDaemon(steered()) as daemon, Client() as client:
        long = crowd.follow(client.generate("rain", seconds=10.0), told)
        assert long is not None
        with _raw_channel(daemon) as (channel, metadata):
            making = generation_service_pb2_grpc.GenerationServiceStub(channel)
            clips = clip_service_pb2_grpc.ClipServiceStub(channel)
            many = contract.GenerateVariationsRequest(
                request=contract.GenerateRequest(prompt="rain", seconds=crowd.SECONDS, steps=100), count=2
            )
            unread = [making.GenerateVariations(many, metadata=metadata) for _ in range(_SILENT_CALLS)]
            download = clip_service_pb2.DownloadRequest(clip_id=long.id)
            unread += [clips.Download(download, metadata=metadata) for _ in range(_SILENT_CALLS)]
            crowd.run(scale.clips, told)
            told.unexpected += _not_serving(client)
            daemon.request_stop()
            for call in unread:
                call.cancel()
    if not daemon.drained:
        told.unexpected.append("the daemon did not come to its end")
    return _after_restart(told)


def that_come_and_go(scale: Scale) -> list[str]:
    """By Unix socket and TCP: silent, in the middle of a handshake, in the middle of a call, with and without farewell;
    afterwards the daemon has as many files open as before."""
    told, chance = Told(), random.Random(1)
    with RunningDaemon(steered()) as daemon, Client() as client:
        client.models()
        files = _open_files()
        work = threading.Thread(target=crowd.run, args=(scale.clips, told))
        work.start()
        for number in range(scale.connections):
            _come_and_go(number, chance, daemon)
        work.join()
        told.unexpected += _not_serving(client)
        try:
            wait_until(lambda: _open_files() <= files + _FILES_IN_PASSING)
        except TimeoutError:
            told.unexpected.append(f"{files} files were open before, {_open_files()} are afterwards")
    return _after_restart(told)


def that_cancel(scale: Scale) -> list[str]:
    """What waits, what is being made, what waits for the disk, what has just become ready; and at any moment. A clip
    whose file is being written is as good as ready."""
    told, engine, disk = Told(), Gate(), Gate()

    def write_file(path: Path, data: bytes) -> None:
        if path.suffix == ".wav":
            disk.wait()
        write_durably(path, data)

    with RunningDaemon(steered(engine.wait), write_file), Client() as client:
        asked = [client.generate("rain", seconds=crowd.SECONDS, steps=2) for _ in range(4)]
        ids = [next(events).clip_id for events in asked]
        making, waiting, ready, made = ids
        engine.wait_until_reached()
        for clip_id in (waiting, making):
            client.cancel(clip_id)
        engine.let_through(1_000_000)
        disk.wait_until_reached()
        told.unexpected += _not_cancelled(ready, client)
        client.cancel(made)
        disk.let_through(1_000_000)
        for clip_id, events in zip(ids, asked, strict=True):
            told.unexpected += _ended(clip_id, events, told, may_be_ready=clip_id == ready)
        if ready not in told.ready:
            told.unexpected.append("a clip that nobody cancelled was not made")
        told.unexpected += _not_cancelled(ready, client)
        told.unexpected += _cancelled_at_any_moment(scale, told)
    return _after_restart(told)


def second_daemon(scale: Scale) -> list[str]:
    """On the same state folder, and on another one with the same clips."""
    told = Told()
    elsewhere = {"SOUNDCTM_STATE": str(paths.state_dir()) + "-2", "SOUNDCTM_CLIPS": str(paths.clips_dir())}
    with product(), Client() as client:
        work = threading.Thread(target=crowd.run, args=(scale.clips, told))
        work.start()
        for environment in ({}, elsewhere):
            started = subprocess.run(
                [sys.executable, "-m", "soundctm_daemon", "start", "--foreground", "--port=0", "--model=tiny"],
                env={**os.environ, **environment}, capture_output=True, text=True, check=False,
                timeout=PATIENCE_SECONDS,
            )  # fmt: skip
            if started.returncode != paths.ALREADY_RUNNING_EXIT_CODE:
                told.unexpected.append(f"a second daemon ended with {started.returncode}: {started.stderr[-300:]}")
        work.join()
        told.unexpected += _not_serving(client)
    return _after_restart(told)


def _cancelled_at_any_moment(scale: Scale, told: Told) -> Iterator[str]:
    chance = random.Random(2)
    with Client() as client:
        for _ in range(scale.clips):
            events = client.generate("rain", seconds=crowd.SECONDS, steps=3)
            clip_id = next(events).clip_id
            for _ in range(chance.randrange(4)):
                next(events, None)
            with contextlib.suppress(NotFoundError):  # it is ready already
                client.cancel(clip_id)
            yield from _ended(clip_id, events, told, may_be_ready=True)


def _not_cancelled(clip_id: str, client: Client) -> Iterator[str]:
    try:
        client.cancel(clip_id)
    except NotFoundError:
        return
    yield f"clip {clip_id} was ready, and could be cancelled"


def _ended(clip_id: str, events: Iterator[types.Event], told: Told, *, may_be_ready: bool) -> Iterator[str]:
    try:
        for event in events:
            told.hear(event)
    except ClipCancelledError as error:
        told.ended(clip_id, error)
        return
    if not may_be_ready:
        yield f"clip {clip_id} was cancelled in time, and became ready"


def _come_and_go(number: int, chance: random.Random, daemon: RunningDaemon) -> None:
    if number % 4 == 3:
        with _raw_channel(daemon) as (channel, metadata):
            request = contract.GenerateRequest(prompt="rain", seconds=crowd.SECONDS, steps=8)
            call = generation_service_pb2_grpc.GenerationServiceStub(channel).Generate(request, metadata=metadata)
            if chance.random() < 0.5:
                next(call)
        return
    host, _, port = daemon.listening.address.rpartition(":")
    family, address = (socket.AF_INET, (host, int(port))) if number % 2 else (socket.AF_UNIX, str(paths.socket_path()))
    with closing(socket.socket(family, socket.SOCK_STREAM)) as peer, contextlib.suppress(OSError):
        peer.connect(address)
        peer.sendall((_PREFACE + bytes(9))[: chance.choice((0, 5, len(_PREFACE), len(_PREFACE) + 9))])
        if chance.random() < 0.5:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


@contextmanager
def _raw_channel(daemon: RunningDaemon) -> Iterator[tuple[grpc.Channel, tuple[tuple[str, str], ...]]]:
    options = (("grpc.use_local_subchannel_pool", 1),)  # a connection of its own
    with grpc.insecure_channel(daemon.listening.address, options) as channel:
        yield channel, (("authorization", f"Bearer {paths.read_token()}"),)


def _open_files() -> int:
    """Of this process, in which the daemon runs."""
    return len([*Path("/dev/fd").iterdir()])


def _not_serving(client: Client) -> list[str]:
    return [] if client.serving() else ["the daemon does not serve any more"]


def _after_restart(told: Told) -> list[str]:
    with RunningDaemon(steered()), Client() as client:
        return losses(told, client, paths.clips_dir())
