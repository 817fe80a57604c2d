"""The `[data]` and `[encode]` tables of a training's configuration."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from soundctm_training.data.clips import DataError


class DataKind(StrEnum):
    FOLDER = "folder"          # audio files and a CSV or JSONL file of captions
    WEBDATASET = "webdataset"  # tar shards
    PROCEDURAL = "procedural"  # the synthesiser, without end
    POOLS = "pools"            # what `synthesise` wrote


class PosteriorUse(StrEnum):
    """What a variational codec's encoder gives for a clip."""

    SAMPLE = "sample"  # one draw, as the official code
    MEAN = "mean"


@dataclass(frozen=True)
class DataSettings:
    """Where captioned audio comes from. Raises DataError for a value out of its range."""

    kind: DataKind
    path: Path | None = None            # folder; shards: a folder, a file, a glob or a {000..012} pattern
    captions: Path | None = None        # inside `path` or by itself; None = the only .csv, .tsv or .jsonl there
    audio_column: str | None = None     # None = youtube_id (AudioCaps), file, audio, file_name, ...
    caption_column: str | None = None   # None = caption, text, description, ...
    shortest_seconds: float = 0.03      # shorter files are skipped
    longest_seconds: float = 600.0      # of one file; what comes after is left unread
    silence_db: float = -60.0           # files whose peak stays below are skipped, dB of full scale
    seed: int = 0                       # procedural: which sounds
    count: int = 10_000                 # procedural: items of one pass; there is no end to them
    frames: tuple[int, ...] = (108, 216, 432)  # procedural: lengths drawn, in frames of 1024 samples
    mix_share: float = 0.08             # procedural: of the clips holds two classes
    recording_share: float = 0.12       # procedural: of the clips of a class that has recordings
    recordings: Path | None = None      # procedural: folder of CC0 recordings; None = synthesis alone

    def __post_init__(self) -> None:
        if self.kind is not DataKind.PROCEDURAL and self.path is None:
            raise DataError(f"[data] kind = {self.kind.value!r} needs a path; give data.path")
        for name in ("shortest_seconds", "longest_seconds", "count"):
            if getattr(self, name) <= 0:
                raise DataError(f"data.{name} is {getattr(self, name)}; give a value above 0")
        for name in ("mix_share", "recording_share"):
            if not 0 <= getattr(self, name) < 1:
                raise DataError(f"data.{name} is {getattr(self, name)}; give a share from 0 up to below 1")
        if not self.frames or min(self.frames) < 1:
            raise DataError(f"data.frames is {list(self.frames)}; give at least one length of 1 frame or more")

    @property
    def folder(self) -> Path:
        """`path`, which every kind but the procedural one has."""
        if self.path is None:
            raise DataError(f"[data] kind = {self.kind.value!r} has no path")
        return self.path


@dataclass(frozen=True)
class EncodeSettings:
    """How clips become latents. Raises DataError for a value out of its range."""

    frames: tuple[int, ...]                # lengths kept, in latent frames: clips are cut or padded to the nearest
    posterior: PosteriorUse = PosteriorUse.SAMPLE
    clips_per_shard: int = 512             # items of the source
    batch_frames: int = 864                # latent frames encoded at once; more is slower on a CPU
    mix_share: float = 0.0                 # mixed clips (TANGO's augmentation) added per clip
    most_skipped: float = 0.5              # a larger share of skipped items is an error
    seed: int = 0                          # of the posterior's draws and of the mixing

    def __post_init__(self) -> None:
        if not self.frames or min(self.frames) < 1 or len(set(self.frames)) < len(self.frames):
            raise DataError(f"encode.frames is {list(self.frames)}; give distinct lengths of at least 1 frame")
        for name in ("clips_per_shard", "batch_frames"):
            if getattr(self, name) < 1:
                raise DataError(f"encode.{name} is {getattr(self, name)}; give at least 1")
        for name in ("mix_share", "most_skipped"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"encode.{name} is {getattr(self, name)}; give a share of 0 to 1")
