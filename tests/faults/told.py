"""What a daemon told its clients of their clips; and what of it is not true any more."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import soundfile

from running_daemon import PATIENCE_SECONDS
from soundctm_daemon.files import PARTIAL_PATTERN
from soundgen import types
from soundgen.client import Client
from soundgen.errors import (
    ClipCancelledError,
    ExhaustedError,
    GenerationFailedError,
    NotFoundError,
    PreconditionError,
    SoundgenError,
)
from soundgen.provenance import read_recipe


@dataclass
class Told:
    """Of clips by id. `labels` holds the name each renamed clip has, or None while that is being asked for."""

    asked: dict[str, types.Recipe] = field(default_factory=dict)
    ready: dict[str, types.Clip] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # the reasons
    labels: dict[str, str | None] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def hear(self, event: types.ClipsEvent) -> None:
        with self.lock:
            match event:
                case types.Queued():
                    self.asked[event.clip_id] = event.recipe
                case types.ClipReady():
                    self.ready[event.clip_id] = event.clip
                case types.ClipFailed():
                    self.failed[event.clip_id] = event.reason

    def ended(self, clip_id: str, error: SoundgenError) -> None:
        """A clip made alone failed."""
        with self.lock:
            self.failed[clip_id] = error.reason

    @property
    def unfinished(self) -> set[str]:
        return self.asked.keys() - self.ready.keys() - self.failed.keys()


def losses(told: Told, client: Client, clips_dir: Path) -> list[str]:
    """Sentences, none when nothing was lost: asks a daemon that was started since, and looks at the files."""
    clips = {clip.id: clip for deleted in (False, True) for clip in client.all_clips(deleted=deleted)}
    return [
        *told.unexpected,
        *(problem for clip_id in told.ready for problem in _lost(clip_id, told, clips.get(clip_id))),
        *(problem for clip_id in told.asked.keys() - told.ready.keys()
          for problem in _half_there(clip_id, told, clips.get(clip_id), client)),
        *strange_files(clips, client, clips_dir),
    ]


def wholeness(clip: types.Clip) -> Iterator[str]:
    """What is wrong with a clip's file, as any program reads it."""
    if clip.problem:
        yield f"clip {clip.id} is reported {clip.problem}"
        return
    if not clip.path.exists():
        yield f"clip {clip.id}: {clip.path} is missing"
        return
    data = clip.path.read_bytes()
    if (hashlib.sha256(data).hexdigest(), len(data)) != (clip.sha256, clip.size_bytes):
        yield f"clip {clip.id}: {clip.path} is not what its sha256 says"
    audio, rate_hz = soundfile.read(clip.path, always_2d=True)
    if (len(audio), rate_hz) != (clip.samples, clip.sample_rate_hz):
        yield f"clip {clip.id} has {len(audio)} samples at {rate_hz} Hz, and should have {clip.samples}"
    if clip.recipe is not None:
        carried = json.loads(read_recipe(clip.path))
        facts = dataclasses.asdict(clip.recipe)
        if {"model": carried["model"], **carried["recipe"]} != facts:
            yield f"clip {clip.id} carries another recipe: {carried} instead of {facts}"


def _lost(clip_id: str, told: Told, clip: types.Clip | None) -> Iterator[str]:
    """Of a clip that was reported ready."""
    was = told.ready[clip_id]
    if clip is None:
        yield f"clip {clip_id} was reported ready, and is not there"
        return
    label = told.labels.get(clip_id, was.label)
    if label not in (None, clip.label):
        yield f"clip {clip_id} is called {clip.label!r}, not {label!r}"
    if dataclasses.replace(clip, label=was.label) != was:
        yield f"clip {clip_id} was {was} and is {clip}"
    yield from wholeness(clip)


def _half_there(clip_id: str, told: Told, clip: types.Clip | None, client: Client) -> Iterator[str]:
    """Of a clip nobody was told is ready: it is absent; or whole, where only the telling was interrupted."""
    if clip is None:
        try:
            client.watch(clip_id, timeout_seconds=PATIENCE_SECONDS).clip()
        except (NotFoundError, ClipCancelledError, GenerationFailedError, ExhaustedError, PreconditionError):
            return
        yield f"clip {clip_id} is not there, and whoever watches it is told that it is ready"
        return
    if clip_id in told.failed:
        yield f"clip {clip_id} was reported failed ({told.failed[clip_id]}), and is there"
    if clip.recipe != told.asked[clip_id]:
        yield f"clip {clip_id} is there with another recipe than was asked for"
    yield from wholeness(clip)


def strange_files(clips: Mapping[str, types.Clip], client: Client, clips_dir: Path) -> Iterator[str]:
    """Half-written files, and sound files that no clip names; and what is listed can be downloaded."""
    for partial in clips_dir.rglob(PARTIAL_PATTERN):
        yield f"{partial} remains"
    for path in {*clips_dir.rglob("*.wav")} - {clip.path for clip in clips.values()}:
        yield f"{path} belongs to no clip"
    for clip in [*clips.values()][:1]:
        with tempfile.TemporaryDirectory() as folder:
            try:
                client.download(clip.id, Path(folder) / "copy.wav")  # compares sha256
            except SoundgenError as error:
                yield f"clip {clip.id} cannot be downloaded: {error}"
