"""A clip as the daemon holds it: what the recipe made, what people say of it, and the file it lies in."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from soundctm.familiarity import Familiarity
from soundctm.noise import SEED_MAX
from soundctm.recipe import Recipe
from soundctm_daemon.edits import Edits
from soundctm_daemon.untrusted import is_number, is_text, is_time, is_whole

_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_ID_LENGTH = 12  # 60 random bits
_ID = re.compile(f"[a-z0-9]{{{_ID_LENGTH}}}")
_SILENCE_PEAK = 1e-3  # -60 dBFS
_LARGEST_MEAN = 0.01
_FORMAT = 1
_MOST = 2**31 - 1  # samples, channels, Hz: more is no clip


class AudioFinding(StrEnum):
    SILENT = "silent"
    CLIPPING = "clipping"
    UNFAMILIAR_PROMPT = "unfamiliar_prompt"
    DC_OFFSET = "dc_offset"
    SHORT = "short"
    OTHER_WEIGHTS = "other_weights"


class ClipOrigin(StrEnum):
    GENERATED = "generated"
    IMPORTED = "imported"


@dataclass(frozen=True)
class ClipRecord:
    """What is known of a clip without its file; lies as JSON in the WAV file and in the database.

    `recipe` is None for an imported clip whose file carried none; `model` is empty then. `peak` is linear (1 = full
    scale). `created_at` is seconds since 1970, UTC. `familiarity` is of the prompt, None where the model does not say
    what it knows. `mean` is that of the channel whose mean lies furthest from zero. `asked_samples` is the length the
    recipe asks for, 0 where none does. `other_weights`: made from a recipe of other weights. `label` and `tags` are
    those the clip began with.
    """

    id: str
    model: str
    recipe: Recipe | None
    parent_id: str
    label: str
    created_at: float
    render_seconds: float
    sample_rate_hz: int
    channels: int
    samples: int
    peak: float
    familiarity: Familiarity | None = None
    mean: float = 0.0
    asked_samples: int = 0
    other_weights: bool = False
    origin: ClipOrigin = ClipOrigin.GENERATED
    tags: tuple[str, ...] = ()

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
            AudioFinding.CLIPPING: self.peak >= 1.0,  # a decoder may limit itself to 1: it was cut there
            AudioFinding.UNFAMILIAR_PROMPT: self.familiarity is not None and self.familiarity.unfamiliar,
            AudioFinding.DC_OFFSET: abs(self.mean) > _LARGEST_MEAN,
            AudioFinding.SHORT: self.samples < self.asked_samples,
            AudioFinding.OTHER_WEIGHTS: self.other_weights,
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
            # clips of an earlier version lack what it did not know yet
            about, recipe = data.get("familiarity"), data["recipe"]
            record = cls(
                **{
                    **data,
                    "recipe": None if recipe is None else Recipe.from_json(recipe),
                    "familiarity": None if about is None else Familiarity(**about),
                    "origin": ClipOrigin(data.get("origin", ClipOrigin.GENERATED)),
                    "tags": tuple(data.get("tags", ())),
                }
            )
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"no clip record: {error!r}") from error
        _require_sound(record)
        return record


@dataclass(frozen=True)
class StoredClip:
    """`problem` is empty unless the file is missing or altered. `record.label` is the name the clip has now."""

    record: ClipRecord
    path: Path
    size_bytes: int
    sha256: str
    edits: Edits
    problem: str = ""


def new_clip_id() -> str:
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))


def first_edits(record: ClipRecord) -> Edits:
    """Those of a clip nobody has edited yet."""
    return Edits(label=record.label, tags=record.tags)


def description(record: ClipRecord) -> str:
    """The text that says what is heard."""
    return record.label if record.recipe is None else record.recipe.prompt


def require_sound_recipe(recipe: Recipe) -> None:
    """What every model asks of a recipe, whatever file it came from. Raises ValueError naming the fields at fault."""
    _require(
        {name: is_text(getattr(recipe, name)) for name in ("bundle_digest", "prompt", "negative_prompt")}
        | {"seed": _is_count(recipe.seed, 0, SEED_MAX), "steps": _is_count(recipe.steps, 1, _MOST)}
        | {name: is_number(getattr(recipe, name)) for name in ("seconds", "gamma", "omega", "nu")}
    )


def _require_sound(record: ClipRecord) -> None:
    """A record may come from any file: nothing of it is trusted. Raises ValueError naming the fields at fault."""
    if record.recipe is not None:
        require_sound_recipe(record.recipe)
    if (familiarity := record.familiarity) is not None:
        _require(
            {"familiarity.label": is_text(familiarity.label)}
            | {name: is_number(getattr(familiarity, name)) for name in ("similarity", "threshold")}
        )
    _require(
        {"id": isinstance(record.id, str) and _ID.fullmatch(record.id) is not None}
        | {name: is_text(getattr(record, name)) for name in ("model", "parent_id", "label")}
        | {name: _is_count(getattr(record, name), 1, _MOST) for name in ("sample_rate_hz", "channels")}
        | {name: _is_count(getattr(record, name), 0, _MOST) for name in ("samples", "asked_samples")}
        | {name: is_number(getattr(record, name)) for name in ("render_seconds", "peak", "mean")}
        | {"created_at": is_time(record.created_at), "other_weights": isinstance(record.other_weights, bool)}
        | {"tags": all(is_text(tag) for tag in record.tags)}
    )


def _require(sound: Mapping[str, bool]) -> None:
    wrong = [name for name, is_sound in sound.items() if not is_sound]
    if wrong:
        raise ValueError(f"no clip record: {', '.join(wrong)} cannot be what it says")


def _is_count(value: Any, low: int, high: int) -> bool:
    return is_whole(value) and low <= value <= high
