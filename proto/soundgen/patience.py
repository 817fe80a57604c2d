"""How long a call tries to go on after its connection broke, or to begin where nobody answers."""

from __future__ import annotations

import time
from collections.abc import Callable

from soundgen.errors import DaemonUnreachableError, SoundgenError

RECONNECT_SECONDS = 30.0  # a daemon that is restarted is back sooner, even with its largest model
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.1, 1.0
_TRIES_TO_BEGIN = 4  # a daemon that is just being restarted; else nobody is there, and the caller is told soon


class Patience:
    """Of one call: `timeout_seconds` for all of it, `reconnect_seconds` for each time the connection is lost.

    A call that never got anything is tried `_TRIES_TO_BEGIN` times, unless the daemon itself has said no.
    """

    def __init__(
        self, timeout_seconds: float, reconnect_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock, self._reconnect_seconds = clock, reconnect_seconds
        self._deadline = clock() + timeout_seconds
        self._got_something = False
        self._give_up_at: float | None = None  # set while the connection is lost, or not yet made
        self._tries = 0

    def remaining_seconds(self) -> float:
        return max(0.0, self._deadline - self._clock())

    def rewarded(self) -> None:
        """Something arrived: the connection holds."""
        self._got_something, self._give_up_at, self._tries = True, None, 0

    def wait_seconds(self, error: SoundgenError) -> float | None:
        """How long to wait before the request is sent again; None when the error is the end of it."""
        if not isinstance(error, DaemonUnreachableError):
            return None
        refused = error.reason != DaemonUnreachableError.reason
        if not self._got_something and (refused or self._tries + 1 >= _TRIES_TO_BEGIN):
            return None
        now = self._clock()
        if self._give_up_at is None:
            self._give_up_at = now + self._reconnect_seconds if self._got_something else self._deadline
        wait = min(_FIRST_WAIT_SECONDS * 2**self._tries, _LONGEST_WAIT_SECONDS)
        if error.retry_after_seconds is not None:
            wait = max(wait, error.retry_after_seconds)
        self._tries += 1
        return wait if now + wait < min(self._give_up_at, self._deadline) else None
