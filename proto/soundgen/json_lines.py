"""Values as JSON, and what happens to clips as a line of JSON per event, for scripts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from soundgen import types
from soundgen.errors import InvalidRequestError, SoundgenError

_EVENT_NAMES: dict[type[Any], str] = {
    types.Queued: "queued",
    types.Started: "started",
    types.JumpDone: "jump",
    types.ClipReady: "clip_ready",
    types.ClipFailed: "clip_failed",
}


class JsonReporter:
    """One JSON object per event on `out`, `failed` included."""

    def __init__(self, out: Console) -> None:
        self._out = out

    def follow(self, title: str, events: Iterable[types.ClipsEvent]) -> tuple[types.Clip, ...]:
        clips = []
        for event in events:
            self._line({"event": _EVENT_NAMES[type(event)], **dataclasses.asdict(event)})
            if isinstance(event, types.ClipReady):
                clips.append(event.clip)
        return tuple(clips)

    def exported(self, path: Path) -> None:
        self._line({"event": "exported", "path": path})

    def failed(self, error: SoundgenError) -> None:
        self._line({"event": "failed", **error_json(error)})

    def changed(self, clip: types.Clip, what: str) -> None:
        self._line(dataclasses.asdict(clip))

    def _line(self, data: dict[str, Any]) -> None:
        """In one write: Ctrl-C between a line and its end would join it with the next."""
        self._out.file.write(to_json(data) + "\n")
        self._out.file.flush()


def to_json(value: Any) -> str:
    """JSON of values, dataclasses, paths and times; -infinity dB becomes null, which JSON can say."""
    return json.dumps(_plain_data(value), ensure_ascii=False, allow_nan=False)


def error_json(error: SoundgenError) -> dict[str, Any]:
    violations = error.violations if isinstance(error, InvalidRequestError) else ()
    return {
        "reason": error.reason,
        "message": str(error),
        "metadata": error.metadata,
        "violations": [dataclasses.asdict(violation) for violation in violations],
        "retry_after_seconds": error.retry_after_seconds,
    }


def _plain_data(value: Any) -> Any:
    match value:
        case dict():
            return {name: _plain_data(item) for name, item in value.items()}
        case list() | tuple():
            return [_plain_data(item) for item in value]
        case datetime():
            return value.isoformat()
        case Path():
            return str(value)
        case float() if value in (float("inf"), float("-inf")) or value != value:
            return None
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return _plain_data(dataclasses.asdict(value))
        case _:
            return value
