"""A gRPC server that stays: another takes the place of one that met a defect of gRPC's own.

The server of gRPC for Python ends, and listens no more, when a stranger asks for a method whose name is not UTF-8.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import grpc

from soundctm_daemon.errors import SettingsError

_LOOK_SECONDS = 0.1
_REST_SECONDS = 600.0  # for calls under way at a server that listens no more
_log = logging.getLogger(__name__)


class StandingServer:
    """`make` gives a server with its services; `bind_again` has it listen where the first one did, and raises
    SettingsError while that is taken."""

    def __init__(
        self, first: grpc.aio.Server, make: Callable[[], grpc.aio.Server], bind_again: Callable[[grpc.aio.Server], None]
    ) -> None:
        self._servers, self._make, self._bind_again = [first], make, bind_again
        self._resting: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await self._servers[0].start()
        self._watching = asyncio.create_task(self._watch())

    async def stop(self, grace_seconds: float) -> None:
        self._watching.cancel()
        await asyncio.gather(*(server.stop(grace_seconds) for server in self._servers))

    async def _watch(self) -> None:
        while True:
            try:
                await self._servers[-1].wait_for_termination(_LOOK_SECONDS)
            except Exception as error:
                await self._replace()
                _log.error("gRPC's server met a defect (%s), and another took its place", type(error).__name__)

    async def _replace(self) -> None:
        old = self._servers[-1]
        while True:
            server = self._make()
            try:
                self._bind_again(server)
                break
            except SettingsError:
                await asyncio.sleep(_LOOK_SECONDS)
        await server.start()
        self._servers.append(server)
        rest = asyncio.create_task(self._rest(old))
        self._resting.add(rest)
        rest.add_done_callback(self._resting.discard)

    async def _rest(self, server: grpc.aio.Server) -> None:
        await server.stop(_REST_SECONDS)
        self._servers.remove(server)
