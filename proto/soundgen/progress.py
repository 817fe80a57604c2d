"""What happens to a clip, for people (a progress bar) or for scripts (a line of JSON per event)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from soundgen import types
from soundgen.errors import InvalidRequestError, SoundgenError

_EVENT_NAMES: dict[type[Any], str] = {
    types.Queued: "queued",
    types.Started: "started",
    types.JumpDone: "jump",
    types.ClipReady: "clip_ready",
}


class Reporter(Protocol):
    def follow(self, title: str, events: Iterable[types.Event]) -> types.Clip:
        """Show the events as they come; the clip they end with."""
        ...

    def exported(self, path: Path) -> None:
        """The clip was copied there."""
        ...

    def failed(self, error: SoundgenError) -> None: ...


class JsonReporter:
    """One JSON object per event on `out`, `failed` included."""

    def __init__(self, out: Console) -> None:
        self._out = out

    def follow(self, title: str, events: Iterable[types.Event]) -> types.Clip:
        for event in events:
            self._line({"event": _EVENT_NAMES[type(event)], **dataclasses.asdict(event)})
            if isinstance(event, types.ClipReady):
                clip = event.clip
        return clip

    def exported(self, path: Path) -> None:
        self._line({"event": "exported", "path": path})

    def failed(self, error: SoundgenError) -> None:
        self._line({"event": "failed", **error_json(error)})

    def _line(self, data: dict[str, Any]) -> None:
        print(to_json(data), file=self._out.file, flush=True)


class BarReporter:
    """A progress bar on `err` while the clip is made; its path, length and time on `out`."""

    def __init__(self, out: Console, err: Console) -> None:
        self._out, self._err = out, err

    def follow(self, title: str, events: Iterable[types.Event]) -> types.Clip:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._err, transient=True) as progress:
            task = progress.add_task(title, total=None)
            for event in events:
                match event:
                    case types.Queued(position=position, model_loading=loading):
                        waiting = "the model is loading" if loading else f"{position} before it"
                        progress.update(task, description=f"{title}: queued, {waiting}")
                    case types.Started():
                        progress.update(task, description=title)
                    case types.JumpDone(done=done, total=total):
                        progress.update(task, completed=done, total=total)
                    case types.ClipReady(clip=clip):
                        progress.update(task, description=f"{title}: stored")
        self._show(title, clip)
        return clip

    def exported(self, path: Path) -> None:
        self._plain(f"  copied to {path}")

    def failed(self, error: SoundgenError) -> None:
        self._err.print(f"{error.reason}: {error}", style="red", highlight=False, markup=False, soft_wrap=True)

    def _show(self, title: str, clip: types.Clip) -> None:
        jumps = "1 jump" if clip.recipe.steps == 1 else f"{clip.recipe.steps} jumps"
        self._plain(f"{title}: {clip.path}")
        self._plain(
            f"  id {clip.id}, {clip.seconds:.2f} s of sound, {jumps} in {clip.render_seconds:.2f} s, "
            f"seed {clip.recipe.seed}, peak {clip.peak_dbfs:.1f} dBFS"
        )
        for finding in clip.findings:
            self._plain(f"  note: {_note(finding, clip.familiarity)}")

    def _plain(self, text: str) -> None:
        self._out.print(text, highlight=False, markup=False, soft_wrap=True)


_FINDING_NOTES = {
    types.AudioFinding.SILENT: "the clip is silent (its peak lies below -60 dBFS); try another seed or prompt",
    types.AudioFinding.CLIPPING: "the peak lies above 0 dBFS; lower the gain where the file becomes 16 or 24 bit",
    types.AudioFinding.UNFAMILIAR_PROMPT: "the model was trained on nothing like this prompt; do not trust the clip",
}


def _note(finding: types.AudioFinding, familiarity: types.Familiarity | None) -> str:
    if finding is types.AudioFinding.UNFAMILIAR_PROMPT and familiarity is not None:
        return (
            f"the model was trained on nothing like this prompt; the nearest it knows is {familiarity.nearest!r} "
            f"(similarity {familiarity.similarity:.2f}, familiar from {familiarity.threshold:.2f})"
        )
    return _FINDING_NOTES[finding]


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
