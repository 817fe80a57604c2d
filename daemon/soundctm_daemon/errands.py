"""What others have the engine's thread do for them, between two ticks."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from soundctm_daemon.errors import DaemonStoppingError

T = TypeVar("T")


class Errands:
    """`add` may be called from any thread, the rest belongs to the engine's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._over = False

    def add(self, function: Callable[[], T]) -> Future[T]:
        """The future has what the function gives or raises; DaemonStoppingError where it was never run."""
        future: Future[T] = Future()
        with self._lock:
            if not self._over:
                self._waiting.append((function, future))
                return future
        _refuse(future)
        return future

    def run(self) -> None:
        """All that wait."""
        while self._waiting:
            function, future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except Exception as error:
                    future.set_exception(error)

    def close(self) -> None:
        with self._lock:
            self._over = True
        for _, future in self._waiting:
            if future.set_running_or_notify_cancel():
                _refuse(future)


def _refuse(future: Future[Any]) -> None:
    future.set_exception(
        DaemonStoppingError("the daemon is stopping and does nothing more. Start it and ask again.")
    )
