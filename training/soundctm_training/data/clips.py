"""What a source gives: clips, or items it had to skip and why."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundctm.errors import SoundCTMError

SAMPLE_RATE_HZ = 44_100

Audio = NDArray[np.float32]


class DataError(SoundCTMError):
    """A data set that cannot be used, or latents that cannot be written."""

    reason = "TRAINING_DATA"


class Reason(StrEnum):
    """Why an item was skipped."""

    UNREADABLE = "unreadable"
    TRUNCATED = "truncated"
    EMPTY = "empty"
    NOT_FINITE = "not finite"
    SILENT = "silent"
    TOO_SHORT = "too short"
    NO_AUDIO = "no audio file"
    NO_CAPTION = "no caption"


@dataclass(frozen=True)
class Clip:
    """Audio float32 [samples], mono, 44.1 kHz, within -1..1; `name` says where it came from.

    Captions of one `thing` say the same in other words: they are of one class, or of one recording. "" = unknown.
    """

    audio: Audio
    caption: str
    name: str
    thing: str = ""


@dataclass(frozen=True)
class Skipped:
    name: str
    reason: Reason
    detail: str = ""

    def row(self) -> dict[str, Any]:
        """A line of skipped.jsonl."""
        return {"name": self.name, "reason": self.reason.value, "detail": self.detail}

    def line(self) -> str:
        return json.dumps(self.row(), ensure_ascii=False) + "\n"
