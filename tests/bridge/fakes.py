"""A DAW's hook and a DAW without the DAW, a daemon's client without the daemon."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from soundctm_bridge.adapters.base import PlacedRegion, Placement, SessionState
from soundctm_bridge.adapters.jobs import read_fields, write_fields
from soundctm_bridge.errors import HookSilentError, JobFailedError
from soundgen.types import Clip, ClipReady, Event, JumpDone, Queued, Recipe, Started


def hook_state(folder: Path, **fields: str) -> None:
    """Writes a session's state as the Ardour hook does."""
    known = {
        "session": "s",
        "rate_hz": "48000",
        "position_samples": "96000",
        "tempo_bpm": "120.000000",
        "meter": "4/4",
        "bar_beat_tick": "2|1|0",
        "rolling": "0",
    }
    (folder / "state").write_text(write_fields(known | fields))


class FakeHook:
    """A context: a thread that takes jobs from a spool folder and answers them as `answer` says."""

    def __init__(self, folder: Path, answer: Callable[[dict[str, str]], dict[str, str]]) -> None:
        self._folder, self._answer = folder, answer
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self.jobs: list[dict[str, str]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _serve(self) -> None:
        while not self._stop.wait(0.005):
            try:
                taken = (self._folder / "job").rename(self._folder / "job.taken")
            except FileNotFoundError:
                continue
            job = read_fields(taken.read_text())
            self.jobs.append(job)
            part = self._folder / "result.part"
            part.write_text(write_fields(self._answer(job)))
            part.rename(self._folder / f"result.{job['id']}")


@dataclass
class FakeDaw:
    """A DawAdapter that keeps what it was given. silent: it does not answer. refusal: it answers jobs with this."""

    name: str = "FakeDaw"
    copies_audio: bool = True
    silent: bool = False
    refusal: JobFailedError | None = None
    placed: list[tuple[str, str, Placement]] = field(default_factory=list)
    replaced: list[tuple[list[str], str]] = field(default_factory=list)

    def state(self) -> SessionState:
        if self.silent:
            raise HookSilentError("the hook does not answer", "open the DAW")
        return SessionState("s", 48_000, 96_000, 120.0, "4/4", "2|1|0", False)

    def place(self, audio: Path, name: str, placement: Placement) -> PlacedRegion:
        assert audio.is_file()
        if self.refusal is not None:
            raise self.refusal
        self.placed.append((audio.name, name, placement))
        return PlacedRegion("7", name, placement.track, placement.at_samples or 96_000, 48_000)

    def replace(self, clip_ids: list[str], audio: Path) -> list[PlacedRegion]:
        assert audio.is_file()
        self.replaced.append((clip_ids, audio.name))
        return [PlacedRegion("8", "name", "track", 96_000, 48_000)]


def clip(clip_id: str, path: Path, prompt: str = "rain", steps: int = 1) -> Clip:
    recipe = Recipe("tiny", "d" * 64, prompt, "", 4_000_000_000, 1.0, steps, 0.0, 3.0, 1.0)
    return Clip(
        id=clip_id,
        recipe=recipe,
        parent_id=None,
        label="",
        created_at=datetime.now(UTC),
        render_seconds=0.1,
        sample_rate_hz=16_000,
        channels=1,
        samples=16_000,
        seconds=1.0,
        peak_dbfs=-6.0,
        findings=(),
        path=path,
        size_bytes=1,
        sha256="",
        problem="",
    )


@dataclass
class FakeDaemon:
    """Stands where soundgen.client.Client stands; every clip is a copy of one WAV file.

    gate : when set, generation waits for it after the clip was queued. error : raised instead of events. stored : what
    every id names.
    """

    wav: Path
    gate: threading.Event | None = None
    error: Exception | None = None
    stored: Clip | None = None
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    made: int = 0

    def __call__(self, start: bool) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close."""

    def generate(self, prompt: str, **settings: Any) -> Iterator[Event]:
        self.asked.append((prompt, settings))
        return self._events(prompt, settings.get("steps") or 1)

    def refine(self, clip_id: str, **settings: Any) -> Iterator[Event]:
        self.asked.append((clip_id, settings))
        return self._events("rain", settings.get("steps") or 16)

    def clip(self, clip_id: str) -> Clip:
        return self.stored or clip(clip_id, self.wav)

    def cancel(self, clip_id: str) -> None:
        self.cancelled.append(clip_id)
        if self.gate is not None:
            self.gate.set()

    def serving(self) -> bool:
        return True

    def download(self, clip_id: str, destination: Path) -> Path:
        shutil.copyfile(self.wav, destination)
        return destination

    def _events(self, prompt: str, steps: int) -> Iterator[Event]:
        if self.error is not None:
            raise self.error
        self.made += 1
        made = clip(f"clip{self.made}", self.wav, prompt, steps)
        yield Queued(made.id, 0, False, made.recipe)
        if self.gate is not None:
            assert self.gate.wait(30)
        yield Started(made.id)
        for done in range(1, steps + 1):
            yield JumpDone(made.id, done, steps)
        yield ClipReady(made.id, made)
