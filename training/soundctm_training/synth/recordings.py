"""Real CC0 recordings as training clips: the committed table of which fits which class, and their placing in time.

The recordings themselves are not committed; every function takes the folder that holds them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import soxr

from soundctm.errors import SoundCTMError
from soundctm_training.synth.captions import class_captions, dress
from soundctm_training.synth.catalogue import Sound
from soundctm_training.synth.primitives import (
    SAMPLE_RATE_HZ,
    Audio,
    Rng,
    as_audio,
    choose,
    equalise,
    log_uniform,
    normalise,
    onsets,
    place,
    to_samples,
    uniform,
)
from soundctm_training.tables import read_tables

CROSSFADE_SECONDS = 0.03
OWN_CAPTION_CHANCE = 0.6


class RecordingError(SoundCTMError):
    """The recordings folder does not hold what the table names."""


class Placement(Enum):
    """How a group fills a clip."""

    TEXTURE = "texture"
    LOOP = "loop"
    EVENTS = "events"


@dataclass(frozen=True)
class RecordingGroup:
    """Recordings of one thing. `files` are names, or one pattern, inside the recordings folder."""

    name: str
    label: str
    placement: Placement
    files: tuple[str, ...]
    captions: tuple[str, ...]
    gap_seconds: tuple[float, float] = (1.0, 2.0)
    typical: bool = True  # whether the class's general captions also name it


@cache
def recording_groups() -> tuple[RecordingGroup, ...]:
    """The committed table."""
    return tuple(
        RecordingGroup(
            name=row["name"],
            label=row["label"],
            placement=Placement(row["placement"]),
            files=tuple(row["files"]) if "files" in row else (row["shape"],),
            captions=tuple(row["captions"]),
            gap_seconds=tuple(row.get("gap_seconds", (1.0, 2.0))),
            typical=row.get("typical", True),
        )
        for file in read_tables(__package__, "recording_groups")
        for row in file["group"]
    )


def group_paths(folder: Path, group: RecordingGroup) -> list[Path]:
    """The files of a group, sorted. Raises RecordingError where one of them is missing."""
    paths: list[Path] = []
    for name in group.files:
        found = sorted(folder.glob(name))
        if not found:
            raise RecordingError(f"{folder} holds no {name!r}, which group {group.name!r} names; check --recordings")
        paths.extend(found)
    return paths


def read_mono(path: Path) -> Audio:
    """A recording as float32 mono at 44.1 kHz, with leading and trailing near-silence cut, at peak 1."""
    audio, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    mono = soxr.resample(audio.mean(axis=1), rate_hz, SAMPLE_RATE_HZ).astype(np.float32)
    peak = float(np.abs(mono).max(initial=0.0))
    if peak == 0.0:
        raise RecordingError(f"{path} is silent; take it out of the recording groups")
    loud = np.flatnonzero(np.abs(mono) > 0.003 * peak)
    return as_audio(mono[loud[0] : loud[-1] + 1] / peak)


def _texture(rng: Rng, takes: Sequence[Audio], samples: int) -> Audio:
    """A crop of one long recording; a short one is repeated with crossfades."""
    take = choose(rng, takes)
    if len(take) >= samples:
        first = int(rng.integers(len(take) - samples + 1))
        return take[first : first + samples].copy()
    fade = min(to_samples(CROSSFADE_SECONDS), len(take) // 4)
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    piece = take.copy()
    piece[:fade] *= ramp
    piece[-fade:] *= ramp[::-1]
    audio = np.zeros(samples, np.float32)
    position = -int(rng.integers(len(piece)))
    while position < samples:
        place(audio, piece, position)
        position += len(piece) - fade
    return audio


def _loop(rng: Rng, takes: Sequence[Audio], samples: int) -> Audio:
    """A musical or machine loop repeated in time, from a random point of its round."""
    take = np.roll(choose(rng, takes), -int(rng.integers(to_samples(0.5))))
    return np.resize(take, samples).astype(np.float32)


def _events(rng: Rng, takes: Sequence[Audio], samples: int, gap_seconds: tuple[float, float]) -> Audio:
    audio = np.zeros(samples, np.float32)
    for start in onsets(rng, samples, 0.3, *gap_seconds):
        place(audio, choose(rng, takes) * np.float32(uniform(rng, 0.7, 1.0)), start)
    return audio


@dataclass(frozen=True)
class RecordingLibrary:
    """The recordings in memory: for each label its groups, and for each group its takes."""

    groups: Mapping[str, tuple[RecordingGroup, ...]]
    takes: Mapping[str, tuple[Audio, ...]]

    @classmethod
    def load(cls, folder: Path, table: Sequence[RecordingGroup] | None = None) -> "RecordingLibrary":
        """Reads every file the table names. Raises RecordingError."""
        rows = recording_groups() if table is None else table
        groups = {label: tuple(row for row in rows if row.label == label) for label in {row.label for row in rows}}
        takes = {row.name: tuple(read_mono(path) for path in group_paths(folder, row)) for row in rows}
        return cls(groups, takes)

    def render(self, label: str, rng: Rng, samples: int) -> tuple[Sound, str]:
        """One captioned clip of a class out of its recordings, lightly equalised, and the group's name."""
        group = choose(rng, self.groups[label])
        takes = self.takes[group.name]
        if group.placement is Placement.TEXTURE:
            audio = _texture(rng, takes, samples)
        elif group.placement is Placement.LOOP:
            audio = _loop(rng, takes, samples)
        else:
            audio = _events(rng, takes, samples, group.gap_seconds)
        colour = (log_uniform(rng, 200, 6000), 0.7, uniform(rng, -0.4, 0.8))
        audio = equalise(audio, uniform(rng, 20, 60), uniform(rng, 12_000, 20_000), [colour])
        own = rng.random() < OWN_CAPTION_CHANCE or not group.typical
        caption = choose(rng, group.captions if own else class_captions()[label].general)
        return Sound(normalise(audio), dress(rng, caption), label), group.name
