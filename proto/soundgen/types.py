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
    CLIPPING = "clipping"  # samples lie at 0 dBFS, where some decoders cut, or above, held whole
    UNFAMILIAR_PROMPT = "unfamiliar_prompt"  # unlike anything the model was trained on; see `Clip.familiarity`
    DC_OFFSET = "dc_offset"  # the mean lies further than 0.01 from zero: it clicks where it is cut
    SHORT = "short"          # fewer samples than the recipe asks for
    OTHER_WEIGHTS = "other_weights"  # made from a recipe of other weights, which make another clip


class ClipOrigin(StrEnum):
    GENERATED = "generated"
    IMPORTED = "imported"


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

    `recipe` is None for an imported clip whose file carried none, `familiarity` where the model does not say what it
    knows, `deleted_at` unless the clip was deleted. `tags` are in lower case, sorted.
    """

    id: str
    recipe: Recipe | None
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
    tags: tuple[str, ...] = ()
    favourite: bool = False
    notes: str = ""
    origin: ClipOrigin = ClipOrigin.GENERATED
    deleted_at: datetime | None = None

    @property
    def title(self) -> str:
        """What it is a clip of: its prompt, or the name of one that has no recipe."""
        return self.label if self.recipe is None else self.recipe.prompt


@dataclass(frozen=True)
class ClipPage:
    """One page of clips, newest first; `next_page_token` is empty on the last."""

    clips: tuple[Clip, ...]
    next_page_token: str


@dataclass(frozen=True)
class SearchHit:
    """`similarity` is the cosine of the two descriptions' embeddings, -1 to 1."""

    clip: Clip
    similarity: float


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
    """`ranges` is None and `digest` empty where the model's manifest cannot be read.

    A restricted licence forbids some uses and must be accepted once. `memory_bytes` is what the model holds while
    loaded, 0 before its first load; `engine` what runs it then, "" otherwise.
    """

    name: str
    digest: str
    description: str
    licence: str
    is_default: bool
    state: ModelState
    problem: str
    sample_rate_hz: int
    ranges: Ranges | None
    provenance: str = ""
    licence_restricted: bool = False
    licence_accepted: bool = False
    memory_bytes: int = 0
    engine: str = ""


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    READY = "ready"
    FAILED = "failed"


class JobKind(StrEnum):
    """What goes first: previews, then refinements, then batch work."""

    PREVIEW = "preview"
    REFINEMENT = "refinement"
    BATCH = "batch"


@dataclass(frozen=True)
class Job:
    """One clip in flight, or one that ended within the last hour.

    `client` is the name of the token that asked for it, empty for the owner's own. `position` clips go before it while
    it is queued; `reason` and `message` say why it failed.
    """

    clip_id: str
    state: JobState
    recipe: Recipe
    label: str
    parent_id: str | None
    request_id: str
    client: str
    created_at: datetime
    position: int
    jumps_done: int
    jumps_total: int
    reason: str
    message: str
    kind: JobKind = JobKind.REFINEMENT


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
    """The clip is on disk and recorded. Always its last event."""

    clip_id: str
    clip: Clip


@dataclass(frozen=True)
class ClipFailed:
    """One of several clips failed and nothing of it was stored; the others go on. A clip made alone raises instead."""

    clip_id: str
    reason: str
    message: str


Event = Queued | Started | JumpDone | ClipReady
ClipsEvent = Event | ClipFailed  # where one call makes several clips
