"""The service put together: listening, health, and an orderly end."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from soundctm.licences import AcceptedLicences
from soundctm_daemon.auth import TokenInterceptor, identify
from soundctm_daemon.catalogue import Catalogue
from soundctm_daemon.clip_service import ClipService
from soundctm_daemon.engines import EnginePool, LoadEngine, Phase, States
from soundctm_daemon.errors import SettingsError
from soundctm_daemon.generation_service import GenerationService
from soundctm_daemon.health_service import HealthService
from soundctm_daemon.library import Library
from soundctm_daemon.limits import CallsAtOnceInterceptor, RateInterceptor, RequestRate, server_options
from soundctm_daemon.listening import bind_again, bind_socket, bind_tcp
from soundctm_daemon.meaning import engine_embed
from soundctm_daemon.memory import memory_budget
from soundctm_daemon.messages import MessageInterceptor
from soundctm_daemon.metrics import Metrics, MetricsServer
from soundctm_daemon.model_service import ModelService
from soundctm_daemon.observed_calls import ObservingInterceptor
from soundctm_daemon.observed_clips import ClipObserver
from soundctm_daemon.observed_engine import load_of, observed_loader
from soundctm_daemon.scheduler import Scheduler
from soundctm_daemon.settings import Settings
from soundctm_daemon.standing_server import StandingServer
from soundctm_daemon.tokens import TokenFile, Tokens
from soundctm_daemon.tracing import Tracing
from soundctm_daemon.worker import Worker
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
_WORKER_END_SECONDS = 5.0   # for a jump under way when everything was stopped

_SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name]
    for module, name in (
        (generation_service_pb2, "GenerationService"),
        (model_service_pb2, "ModelService"),
        (clip_service_pb2, "ClipService"),
    )
)
MODEL_HEALTH = "soundgen.v1.model/"  # and a model's name: whether it is in memory
SERVICE_NAMES = tuple(service.full_name for service in _SERVICES)
_METHODS = tuple(
    f"/{service.full_name}/{method.name}"
    for service in (*_SERVICES, health_pb2.DESCRIPTOR.services_by_name["Health"])
    for method in service.methods
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
    """`address` is TCP, host:port; `metrics_url` is empty where they are off."""

    socket: Path
    address: str
    metrics_url: str = ""


class Daemon:
    """Front end, scheduler and worker of one process. `start`, then `drain`; both on one event loop."""

    def __init__(
        self, settings: Settings, token: str, library: Library, load: LoadEngine, tracing: Tracing | None = None
    ) -> None:
        self._settings, self._library = settings, library
        self._metrics = Metrics()
        self._metrics_server: MetricsServer | None = None
        self._clips = ClipObserver(self._metrics, tracing)
        load = observed_loader(load, self._metrics)
        self._scheduler = Scheduler(settings.queue_limit)
        budget = memory_budget(settings.model_memory_mb, settings.device)
        self._pool = EnginePool(load, budget, self._on_engine_states, settings.wanted)
        accepted = AcceptedLicences(settings.state_dir / "licences")
        self._catalogue = Catalogue(settings.model, accepted, self._pool.holds)
        self._health = HealthService()
        self._loop = asyncio.get_running_loop()
        self._worker = Worker(self._scheduler, library, self._catalogue, self._pool, self._metrics.ticked)
        self._health_news: asyncio.Queue[States] = asyncio.Queue()
        self._interceptors = [
            ObservingInterceptor(self._metrics, _METHODS, tracing),
            TokenInterceptor(Tokens(token, TokenFile(settings.state_dir)), settings.token_file),
            RateInterceptor(RequestRate(settings.client_requests_per_second, settings.client_burst)),
            CallsAtOnceInterceptor(settings.client_calls),
            MessageInterceptor(),
        ]
        self._metrics.read_load_from(lambda: load_of(self._scheduler, self._pool, self._catalogue))
        self._generation, self._models, self._clip_service = self._services()

    async def start(self) -> Listening:
        """Listen, answer, and only then let the worker load the model. Raises SettingsError."""
        await self._set_health(serving=False)
        server = self._make_server()
        address = bind_tcp(server, self._settings)
        if self._settings.metrics_port is not None:
            self._metrics_server = MetricsServer(self._metrics.registry, self._settings.metrics_port)
        metrics_url = self._metrics_server.url if self._metrics_server else ""
        listening = Listening(self._settings.socket, address, metrics_url)
        # written before the socket is there: who finds the socket finds the rest
        _write_endpoint(listening, self._settings.engine)
        bind_socket(server, listening.socket)
        again = functools.partial(bind_again, settings=self._settings, address=address)
        self._server = StandingServer(server, self._make_server, again)
        await self._server.start()
        self._health_task = asyncio.create_task(self._tell_health())
        await asyncio.sleep(_HEAD_START_SECONDS)
        self._worker.start()
        return listening

    async def drain(self) -> bool:
        """Take no more clips, finish those in flight or fail them in time, close. False if a jump or a load is still
        under way."""
        self._scheduler.stop_accepting()
        await self._health.enter_graceful_shutdown()
        if not await asyncio.to_thread(self._scheduler.wait_idle, self._settings.drain_seconds):
            _log.warning("clips in flight took more than %g s and are not finished", self._settings.drain_seconds)
            self._scheduler.stop_all()
        self._scheduler.end()
        await asyncio.to_thread(self._worker.join, _WORKER_END_SECONDS)
        await self._server.stop(_GRACE_SECONDS)
        self._health_task.cancel()
        if self._metrics_server is not None:
            await asyncio.to_thread(self._metrics_server.close)
        self._library.close()
        return not (self._worker.is_alive() or self._pool.is_loading)

    def hurry(self) -> None:
        """Wait no longer for what is in flight."""
        self._scheduler.stop_all()

    def _services(self) -> tuple[GenerationService, ModelService, ClipService]:
        generation = GenerationService(
            self._scheduler,
            self._catalogue,
            self._library,
            self._settings,
            self._pool.states,
            identify,
            self._clips.follow,
        )
        embed = engine_embed(lambda: self._catalogue.look_up("")[1], self._pool, self._worker)
        clips = ClipService(self._library, embed, self._settings.import_limit_mb)
        return generation, ModelService(self._catalogue, self._pool), clips

    def _make_server(self) -> grpc.aio.Server:
        options = (*_SERVER_OPTIONS, *server_options(self._settings))
        server = grpc.aio.server(interceptors=self._interceptors, options=options)
        generation_service_pb2_grpc.add_GenerationServiceServicer_to_server(self._generation, server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(self._models, server)
        clip_service_pb2_grpc.add_ClipServiceServicer_to_server(self._clip_service, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((*SERVICE_NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        return server

    def _on_engine_states(self, states: States) -> None:
        self._loop.call_soon_threadsafe(self._health_news.put_nowait, states)

    async def _tell_health(self) -> None:
        while True:
            states = await self._health_news.get()
            loaded = {digest for digest, state in states.items() if state.phase is Phase.LOADED}
            await self._set_health(serving=bool(loaded))
            for name, digest in self._catalogue.in_service().items():
                await self._health.set(f"{MODEL_HEALTH}{name}", _health_status(serving=digest in loaded))

    async def _set_health(self, *, serving: bool) -> None:
        status = _health_status(serving=serving)
        for name in ("", *SERVICE_NAMES):
            await self._health.set(name, status)


def _health_status(*, serving: bool) -> health_pb2.HealthCheckResponse.ServingStatus:
    return health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING


def _write_endpoint(listening: Listening, engine: str) -> None:
    try:
        paths.write_endpoint(paths.Endpoint(os.getpid(), str(listening.socket), listening.address, engine))
    except OSError as error:
        raise SettingsError(
            f"{paths.endpoint_path()} cannot be written ({error.strerror}). Free some space or make its folder "
            "writable, or name another by SOUNDCTM_STATE."
        ) from error


async def serve(
    settings: Settings, token: str, library: Library, load: LoadEngine, tracing: Tracing | None = None
) -> bool:
    """Run until SIGTERM or SIGINT, then drain; a second one fails what is still in flight.

    False when a jump or a load had to be left behind. Raises SettingsError.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told_to_stop() -> None:
        if stop.is_set():
            _log.warning("told to stop again: what is in flight is not finished")
            daemon.hurry()
        stop.set()

    daemon = Daemon(settings, token, library, load, tracing)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_stop)
    listening = await daemon.start()
    _log.info("listening at %s and %s; clips in %s", listening.socket, listening.address, settings.clips_dir)
    if listening.metrics_url:
        _log.info("metrics at %s", listening.metrics_url)
    await stop.wait()
    _log.info("stopping: finishing what is in flight")
    finished = await daemon.drain()
    paths.endpoint_path().unlink(missing_ok=True)
    _log.info("stopped")
    return finished
