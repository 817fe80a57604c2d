"""Clips as tests store them, without a daemon."""

from __future__ import annotations

import asyncio
import string
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from numpy.typing import NDArray

from soundctm.recipe import Recipe
from soundctm_daemon.clip import ClipRecord, new_clip_id
from soundctm_daemon.clip_service import ClipService
from soundctm_daemon.library import Library
from soundctm_daemon.meaning import Embed, Embedded
from soundgen.v1 import clip_service_pb2_grpc

PATIENCE_SECONDS = 180.0  # how long a test waits for what must happen; reached only when it never does

AUDIO = (0.3 * np.sin(np.arange(4410, dtype=np.float32)))[None]
RECIPE = Recipe(
    bundle_digest="d" * 64, prompt="雷雨 " + "é" * 997, negative_prompt="ø" * 1000, seed=2**32 - 1,
    seconds=0.5, steps=1, gamma=0.0, omega=3.0, nu=1.0,
)  # the longest there may be, and not in ASCII


def record(created_at: float = 1e9, **changes: Any) -> ClipRecord:
    """Of AUDIO, made by RECIPE."""
    facts = {
        "id": new_clip_id(), "model": "tiny", "recipe": RECIPE, "parent_id": "", "label": "rain",
        "created_at": created_at, "render_seconds": 0.1, "sample_rate_hz": 44100, "channels": 1,
        "samples": AUDIO.shape[1], "peak": float(np.abs(AUDIO).max()),
    }
    return ClipRecord(**{**facts, **changes})


class FakeEmbed:
    """Texts of the same letters lie near. `digest` is that of the model in use, `told` every text it was asked for."""

    def __init__(self, digest: str = "e" * 64) -> None:
        self.digest = digest
        self.told: list[str] = []

    async def __call__(self, prompts: Sequence[str]) -> Embedded:
        self.told.extend(prompts)
        return Embedded(embedded(prompts), self.digest)


def embedded(prompts: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors float32 [N, 26]."""
    counts = [[1e-3 + prompt.lower().count(letter) for letter in string.ascii_lowercase] for prompt in prompts]
    vectors = np.array(counts, np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


@contextmanager
def serving(
    library: Library, embed: Embed | None = None, import_limit_mb: int = 1
) -> Iterator[clip_service_pb2_grpc.ClipServiceStub]:
    """The clip service alone, without tokens, on an event loop of its own."""
    up, addresses = threading.Event(), list[str]()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        server = grpc.aio.server()
        service = ClipService(library, embed or FakeEmbed(), import_limit_mb)
        clip_service_pb2_grpc.add_ClipServiceServicer_to_server(service, server)
        addresses.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        await server.start()
        up.set()
        await stop.wait()
        await server.stop(0)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), name="clips under test")
    thread.start()
    try:
        assert up.wait(PATIENCE_SECONDS)
        with grpc.insecure_channel(addresses[0]) as channel:
            yield clip_service_pb2_grpc.ClipServiceStub(channel)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE_SECONDS)
        loop.close()


def fault_of(error: grpc.RpcError) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    """The code, and the reason and what else an ErrorInfo says."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    assert status is not None and status.details[0].Unpack(info)
    return error.code(), info.reason, dict(info.metadata)
