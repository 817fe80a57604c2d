"""A clip as the daemon holds it: what the recipe made, and the file it lies in."""

from __future__ import annotations

import dataclasses
import json
import math
import secrets
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from soundctm.familiarity import Familiarity
from soundctm.recipe import Recipe

_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_ID_LENGTH = 12  # 60 random bits
_SILENCE_PEAK = 1e-3  # -60 dBFS
_FORMAT = 1


class AudioFinding(StrEnum):
    SILENT = "silent"
    CLIPPING = "clipping"
    UNFAMILIAR_PROMPT = "unfamiliar_prompt"


@dataclass(frozen=True)
class ClipRecord:
    """What is known of a clip without its file; lies as JSON in the WAV file and in the database.

    `peak` is linear (1 = full scale). `created_at` is seconds since 1970, UTC. `familiarity` is of the prompt, None
    where the model does not say what it knows.
    """

    id: str
    model: str
    recipe: Recipe
    parent_id: str
    label: str
    created_at: float
    render_seconds: float
    sample_rate_hz: int
    channels: int
    samples: int
    peak: float
    familiarity: Familiarity | None = None

    @property
    def seconds(self) -> float:
        return self.samples / self.sample_rate_hz

    @property
    def peak_dbfs(self) -> float:
        return 20.0 * math.log10(self.peak) if self.peak > 0.0 else -math.inf

    @property
    def findings(self) -> tuple[AudioFinding, ...]:
        found = {
            AudioFinding.SILENT: self.peak < _SILENCE_PEAK,
            AudioFinding.CLIPPING: self.peak > 1.0,
            AudioFinding.UNFAMILIAR_PROMPT: self.familiarity is not None and self.familiarity.unfamiliar,
        }
        return tuple(finding for finding, present in found.items() if present)

    def to_json(self) -> str:
        return json.dumps({"format": _FORMAT, **dataclasses.asdict(self)}, ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ClipRecord:
        """Raises ValueError when the text is no clip record."""
        try:
            data: dict[str, Any] = json.loads(text)
            if data.pop("format") != _FORMAT:
                raise ValueError("not this version's format")
            about = data.get("familiarity")  # clips of before there was one do not name it
            familiarity = None if about is None else Familiarity(**about)
            return cls(**{**data, "recipe": Recipe.from_json(data["recipe"]), "familiarity": familiarity})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no clip record: {error!r}") from error


@dataclass(frozen=True)
class StoredClip:
    """`problem` is empty unless the file is missing or altered."""

    record: ClipRecord
    path: Path
    size_bytes: int
    sha256: str
    problem: str = ""


def new_clip_id() -> str:
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))
