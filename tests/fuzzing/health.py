"""Whether, and how fast, a daemon says that it is well while something is done to it."""

from __future__ import annotations

import statistics
import threading
import time
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from soundgen import paths

_PAUSE_SECONDS = 0.05
_LONGEST_SECONDS = 30.0
_TAKEN_ALONG = {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}


class HealthWatch:
    """Asks again and again, on a connection of its own, from entering to leaving. `seconds` has how long each answer
    took, `failures` what came instead of one."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.failures: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="health watch")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def percentile_seconds(self, percent: int) -> float:
        """Of at least two answers."""
        return statistics.quantiles(self.seconds, n=100, method="inclusive")[percent - 1]

    def _watch(self) -> None:
        with grpc.insecure_channel(paths.socket_target(paths.socket_path())) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while True:
                began = time.perf_counter()
                try:
                    _ask(stub)
                    self.seconds.append(time.perf_counter() - began)
                except grpc.RpcError as error:
                    self.failures.append(f"health was not told: {error.code().name}, {error.details()}")
                if self._over.wait(_PAUSE_SECONDS):
                    return


def _ask(stub: health_pb2_grpc.HealthStub) -> None:
    """A call that its server takes along when it ends is made again, at the next one. Raises RpcError."""
    deadline = time.monotonic() + _LONGEST_SECONDS
    while True:
        try:
            stub.Check(health_pb2.HealthCheckRequest(), timeout=_LONGEST_SECONDS, wait_for_ready=True)
            return
        except grpc.RpcError as error:
            if error.code() not in _TAKEN_ALONG or time.monotonic() > deadline:
                raise
