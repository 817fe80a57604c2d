"""The synthesiser as a data set without end."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from soundctm_training.data.clips import Clip, Skipped
from soundctm_training.data.reading import Limits, check_clip
from soundctm_training.data.settings import DataSettings
from soundctm_training.data.sources import Source
from soundctm_training.synth.recordings import RecordingLibrary
from soundctm_training.synthesise import DataConfig, draw_clip

_LENGTH_STREAM = 1


class ProceduralSource(Source):
    """Item i is a function of (seed, i). Classes go round in turn; the length is drawn among `frames`."""

    endless = True

    def __init__(self, settings: DataSettings, limits: Limits) -> None:
        self.settings, self.limits = settings, limits
        clips = dict.fromkeys(settings.frames, settings.count)
        self.config = DataConfig(clips, settings.mix_share, settings.recording_share)

    def __len__(self) -> int:
        return self.settings.count

    def item(self, index: int) -> Clip | Skipped:
        settings = self.settings
        frames = int(np.random.default_rng([settings.seed, index, _LENGTH_STREAM]).choice(settings.frames))
        library = _load_once(settings.recordings) if settings.recordings else None
        drawn = draw_clip(index, seed=settings.seed, frames=frames, config=self.config, recordings=library)
        sound = drawn.sound
        clip = Clip(sound.audio, sound.caption, f"{drawn.source}:{sound.label}/{index}", sound.label)
        return check_clip(clip, self.limits)

    def identity(self) -> Mapping[str, Any]:
        return {
            "kind": "procedural",
            "items": len(self),
            "seed": self.settings.seed,
            "recordings": self.settings.recordings is not None,
            "limits": dataclasses.asdict(self.limits),
            **dataclasses.asdict(self.config),
        }


@cache
def _load_once(folder: Path) -> RecordingLibrary:
    return RecordingLibrary.load(folder)
