"""What a source gives: clips, or items it had to skip and why."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundctm.errors import SoundCTMError

logger = logging.getLogger(__name__)

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
    """Audio float32 [samples], mono, 44.1 kHz, within -1..1; `name` says where it came from."""

    audio: Audio
    caption: str
    name: str


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


@dataclass
class SkipCount:
    """How many items were taken and why others were not; the first of each reason is logged by name."""

    taken: int = 0
    by_reason: Counter[Reason] = field(default_factory=Counter)

    def add(self, item: Clip | Skipped) -> None:
        if isinstance(item, Clip):
            self.taken += 1
            return
        self.by_reason[item.reason] += 1
        if self.by_reason[item.reason] == 1:
            logger.warning("skipped %s: %s %s (others of this kind are counted)", item.name, item.reason, item.detail)

    @property
    def skipped(self) -> int:
        return self.by_reason.total()

    def summary(self) -> str:
        return ", ".join(f"{count} {reason.value}" for reason, count in self.by_reason.most_common()) or "none"


def usable(items: Iterator[Clip | Skipped], count: SkipCount, patience: int) -> Iterator[Clip]:
    """The clips alone. Raises DataError after `patience` skipped items in a row: an endless source of nothing."""
    barren = 0
    for item in items:
        count.add(item)
        if isinstance(item, Clip):
            barren = 0
            yield item
            continue
        barren += 1
        if barren >= patience:
            raise DataError(
                f"the last {barren} items were all skipped ({count.summary()}), the last being {item.name}: "
                f"{item.reason} {item.detail}. Check the data's path and its files"
            )
