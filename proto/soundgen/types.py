"""What a client gets back, as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path


@dataclass(frozen=True)
class Recipe:
    """Everything that makes a clip again; `bundle_digest` names the weights."""

    model: str
    bundle_digest: str
    prompt: str
    negative_prompt: str
    seed: int
    seconds: float
    steps: int
    gamma: float
    omega: float
    nu: float


class AudioFinding(StrEnum):
    SILENT = "silent"      # the peak lies below -60 dBFS
    CLIPPING = "clipping"  # samples lie above 0 dBFS; the float file holds them whole
    UNFAMILIAR_PROMPT = "unfamiliar_prompt"  # unlike anything the model was trained on; see `Clip.familiarity`


@dataclass(frozen=True)
class Familiarity:
    """How near a prompt lies to what its model was trained on: the nearest known thing and the texts' cosine.

    Below `threshold` the prompt counts as unfamiliar.
    """

    nearest: str
    similarity: float
    threshold: float


@dataclass(frozen=True)
class Clip:
    """`path` is a file on the daemon's machine; `problem` is empty unless that file is missing or altered.

    `familiarity` is None where the model does not say what it knows.
    """

    id: str
    recipe: Recipe
    parent_id: str | None
    label: str
    created_at: datetime
    render_seconds: float
    sample_rate_hz: int
    channels: int
    samples: int
    seconds: float
    peak_dbfs: float
    findings: tuple[AudioFinding, ...]
    path: Path
    size_bytes: int
    sha256: str
    problem: str
    familiarity: Familiarity | None = None


@dataclass(frozen=True)
class ClipPage:
    """One page of clips, newest first; `next_page_token` is empty on the last."""

    clips: tuple[Clip, ...]
    next_page_token: str


@dataclass(frozen=True)
class Ranges:
    """What a request may ask of a model; bounds are inclusive."""

    min_seconds: float
    max_seconds: float
    max_steps: int
    omega_min: float
    omega_max: float
    omega_default: float
    nu_max: float
    max_prompt_chars: int


class ModelState(StrEnum):
    INSTALLED = "installed"  # the first request loads it
    LOADING = "loading"
    LOADED = "loaded"
    UNUSABLE = "unusable"    # see `problem`


@dataclass(frozen=True)
class Model:
    """`ranges` is None and `digest` empty where the model's manifest cannot be read."""

    name: str
    digest: str
    description: str
    licence: str
    is_default: bool
    state: ModelState
    problem: str
    sample_rate_hz: int
    ranges: Ranges | None


@dataclass(frozen=True)
class Queued:
    """`position` clips go before this one. `recipe` has every default filled in, the drawn seed too."""

    clip_id: str
    position: int
    model_loading: bool
    recipe: Recipe


@dataclass(frozen=True)
class Started:
    clip_id: str


@dataclass(frozen=True)
class JumpDone:
    """`done` jumps of `total`."""

    clip_id: str
    done: int
    total: int


@dataclass(frozen=True)
class ClipReady:
    """The clip is on disk and recorded. Always the last event."""

    clip_id: str
    clip: Clip


Event = Queued | Started | JumpDone | ClipReady
