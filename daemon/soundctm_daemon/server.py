"""The service put together: listening, health, and an orderly end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from soundctm_daemon.auth import TokenInterceptor
from soundctm_daemon.catalogue import Catalogue
from soundctm_daemon.clip_service import ClipService
from soundctm_daemon.errors import SettingsError
from soundctm_daemon.generation_service import GenerationService
from soundctm_daemon.library import Library
from soundctm_daemon.model_service import ModelService
from soundctm_daemon.scheduler import Scheduler
from soundctm_daemon.settings import DEFAULT_PORT, Settings
from soundctm_daemon.worker import EngineState, LoadEngine, Worker
from soundgen import paths
from soundgen.v1 import (
    clip_service_pb2,
    clip_service_pb2_grpc,
    generation_service_pb2,
    generation_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
)

_log = logging.getLogger(__name__)
_HEAD_START_SECONDS = 0.05  # for who waited for the socket: importing PyTorch holds the interpreter's lock for long
_GRACE_SECONDS = 2.0        # for answers under way when the server closes
_WORKER_END_SECONDS = 5.0   # for a jump under way when everything was cancelled

SERVICE_NAMES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (generation_service_pb2, "GenerationService"),
        (model_service_pb2, "ModelService"),
        (clip_service_pb2, "ClipService"),
    )
)
_SERVER_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.so_reuseport", 0),  # a second daemon on the port must fail, not share it
    # never punish a client's pings: between two jumps of a big model nothing else may pass for long, and gRPC would
    # close the connection, the clip with it ("too_many_pings")
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
)


@dataclass(frozen=True)
class Listening:
    """`address` is TCP, host:port."""

    socket: Path
    address: str


class Daemon:
    """Front end, scheduler and worker of one process. `start`, then `drain`; both on one event loop."""

    def __init__(self, settings: Settings, token: str, library: Library, load: LoadEngine) -> None:
        self._settings, self._library = settings, library
        self._scheduler = Scheduler(settings.queue_limit, settings.preview_steps)
        self._catalogue = Catalogue(settings.model)
        self._health = health.aio.HealthServicer()
        self._loop = asyncio.get_running_loop()
        self._worker = Worker(self._scheduler, library, self._catalogue, load, self._on_engine_state)
        self._health_news: asyncio.Queue[EngineState] = asyncio.Queue()
        interceptor = TokenInterceptor(token, settings.token_file)
        self._server = grpc.aio.server(interceptors=[interceptor], options=_SERVER_OPTIONS)
        self._register()

    async def start(self) -> Listening:
        """Listen, answer, and only then let the worker load the model. Raises SettingsError."""
        await self._set_health(serving=False)
        listening = Listening(self._settings.socket, self._bind_tcp())
        # written before the socket is there: who finds the socket finds the rest
        paths.write_endpoint(paths.Endpoint(os.getpid(), str(listening.socket), listening.address))
        self._bind(f"unix:{listening.socket}")
        listening.socket.chmod(0o600)
        await self._server.start()
        self._health_task = asyncio.create_task(self._tell_health())
        await asyncio.sleep(_HEAD_START_SECONDS)
        self._worker.start()
        return listening

    async def drain(self) -> bool:
        """Take no more clips, finish those in flight or cancel them in time, close. False if the worker is stuck."""
        self._scheduler.stop_accepting()
        await self._health.enter_graceful_shutdown()
        if not await asyncio.to_thread(self._scheduler.wait_idle, self._settings.drain_seconds):
            _log.warning("clips in flight took more than %g s and are cancelled", self._settings.drain_seconds)
            self._scheduler.cancel_all()
        self._scheduler.end()
        await asyncio.to_thread(self._worker.join, _WORKER_END_SECONDS)
        await self._server.stop(_GRACE_SECONDS)
        self._health_task.cancel()
        self._library.close()
        return not self._worker.is_alive()

    def _register(self) -> None:
        def state() -> EngineState:
            return self._worker.state

        generation = GenerationService(self._scheduler, self._catalogue, self._library, state)
        generation_service_pb2_grpc.add_GenerationServiceServicer_to_server(generation, self._server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(self._catalogue, state), self._server)
        clip_service_pb2_grpc.add_ClipServiceServicer_to_server(ClipService(self._library), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*SERVICE_NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    def _bind(self, address: str) -> int:
        try:
            return self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise SettingsError(f"the daemon cannot listen at {address}: {error}") from error

    def _bind_tcp(self) -> str:
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        if self._settings.port is not None:
            return f"{host}:{self._bind(f'{host}:{self._settings.port}')}"
        try:
            return f"{host}:{self._bind(f'{host}:{DEFAULT_PORT}')}"
        except SettingsError:
            port = self._bind(f"{host}:0")
            _log.warning("port %d is taken by another program; listening at %s:%d", DEFAULT_PORT, host, port)
            return f"{host}:{port}"

    def _on_engine_state(self, state: EngineState) -> None:
        self._loop.call_soon_threadsafe(self._health_news.put_nowait, state)

    async def _tell_health(self) -> None:
        while True:
            state = await self._health_news.get()
            await self._set_health(serving=state.loaded is not None)

    async def _set_health(self, *, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *SERVICE_NAMES):
            await self._health.set(name, status)


async def serve(settings: Settings, token: str, library: Library, load: LoadEngine) -> bool:
    """Run until SIGTERM or SIGINT, then drain. False when the worker had to be left behind. Raises SettingsError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    daemon = Daemon(settings, token, library, load)
    listening = await daemon.start()
    _log.info("listening at %s and %s; clips in %s", listening.socket, listening.address, settings.clips_dir)
    await stop.wait()
    _log.info("stopping: finishing what is in flight")
    finished = await daemon.drain()
    paths.endpoint_path().unlink(missing_ok=True)
    _log.info("stopped")
    return finished
