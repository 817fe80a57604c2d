"""The events of one call, each told once whatever becomes of the connection."""

from __future__ import annotations

from typing import Any, TypeVar

from soundgen import types, wire
from soundgen.errors import ClipCancelledError, GenerationFailedError, SoundgenError

Told = TypeVar("Told", bound=types.ClipsEvent, covariant=True)


class Following:
    """What was told already; `take` leaves out what a stream repeats after it was taken up again.

    several : whether the call makes several clips, of which some may fail.
    """

    def __init__(self, several: bool) -> None:
        self._several = several
        self._queued: dict[str, types.Queued] = {}
        self._told: set[tuple[Any, ...]] = set()
        self._under_way: set[str] = set()  # clips that are past waiting
        self._ready = 0
        self._failed: types.ClipFailed | None = None

    def take(self, response: Any) -> types.ClipsEvent | None:
        """The event of a stream's message, None where it is nothing new to the caller.

        A clip made alone that failed raises instead: the stream's status says why, or `require_done` does.
        """
        event = wire.event(response.event)
        if event is None or not self._is_new(event):
            return None
        if isinstance(event, types.ClipReady):
            self._ready += 1
        if isinstance(event, types.ClipFailed):
            self._failed = event
            return event if self._several else None
        return event

    def require_done(self) -> None:
        """Of a stream that ended well. Raises ClipCancelledError or GenerationFailedError when no clip became ready."""
        if self._ready:
            return
        if self._failed is None:
            raise GenerationFailedError("the daemon ended the call without a clip and without saying why. Try again.")
        kind: type[SoundgenError] = GenerationFailedError
        if self._failed.reason == ClipCancelledError.reason:
            kind = ClipCancelledError
        raise kind(self._failed.message, reason=self._failed.reason)

    def _is_new(self, event: types.ClipsEvent) -> bool:
        if isinstance(event, types.Queued):
            if event.clip_id in self._under_way or self._queued.get(event.clip_id) == event:
                return False
            self._queued[event.clip_id] = event
            return True
        self._under_way.add(event.clip_id)
        jump = (event.done, event.total) if isinstance(event, types.JumpDone) else ()
        key = (type(event), event.clip_id, *jump)
        new = key not in self._told
        self._told.add(key)
        return new
