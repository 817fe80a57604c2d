"""`soundctm train synthesise`: training pools out of the synthesiser and the recordings.

A pool holds clips of one native length: `audio_<frames>.npy`, int16 [clips, frames * 1024] at scale 32767, and
`meta_<frames>.jsonl`, one {"caption", "label", "source"} a line; `synthesis.json` says what they were drawn from.
Clip `i` of pool `frames` depends on (seed, frames, i) alone, so the pools do not depend on the number of workers.
"""

import dataclasses
import json
import logging
import multiprocessing
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track

from soundctm.errors import SoundCTMError
from soundctm_training.synth.catalogue import LABELS, Sound, render, render_mix
from soundctm_training.synth.primitives import Audio
from soundctm_training.synth.recordings import RecordingLibrary

logger = logging.getLogger(__name__)

HOP_SAMPLES = 1024  # samples a latent frame stands for
PCM_SCALE = 32_767
CHUNK_CLIPS = 50
MANIFEST = "synthesis.json"


class DataConfigError(SoundCTMError):
    """The data configuration asks for something that cannot be."""


@dataclass(frozen=True)
class DataConfig:
    """What the pools hold: clips by native length in latent frames, and the shares that are not plain synthesis."""

    clips: Mapping[int, int]
    mix_share: float
    recording_share: float  # of the clips of a class that has recordings
    labels: tuple[str, ...] = LABELS

    def __post_init__(self) -> None:
        for name, share in (("mix_share", self.mix_share), ("recording_share", self.recording_share)):
            if not 0 <= share < 1:
                raise DataConfigError(f"{name} is {share}; give a share from 0 up to, but not including, 1")
        unknown = [label for label in self.labels if label not in LABELS]
        if unknown or not self.labels:
            raise DataConfigError(f"labels names {unknown or 'no class'}; the catalogue holds {', '.join(LABELS)}")
        for frames, count in self.clips.items():
            if frames < 1 or count < 1:
                raise DataConfigError(f"[clips] {frames} = {count}; lengths and counts must be at least 1")

    @classmethod
    def read(cls, path: Path) -> "DataConfig":
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        clips = {int(frames): int(count) for frames, count in table["clips"].items()}
        labels = tuple(table.get("labels", LABELS))
        return cls(clips, float(table["mix_share"]), float(table["recording_share"]), labels)


@dataclass(frozen=True)
class Clip:
    """One line of a pool."""

    sound: Sound
    source: str

    def meta_line(self) -> str:
        row = {"caption": self.sound.caption, "label": self.sound.label, "source": self.source}
        return json.dumps(row, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class PoolChunk:
    """Consecutive rows of a pool: int16 [clips, samples] and their lines."""

    pcm: npt.NDArray[np.int16]
    meta: list[str]


def to_pcm(audio: Audio) -> npt.NDArray[np.int16]:
    return np.clip(np.rint(audio * PCM_SCALE), -PCM_SCALE, PCM_SCALE).astype(np.int16)


def draw_clip(
    index: int, *, seed: int, frames: int, config: DataConfig, recordings: RecordingLibrary | None
) -> Clip:
    """Clip `index` of a pool. Labels go round in turn, so every class is equally common."""
    rng = np.random.default_rng([seed, frames, index])
    samples = frames * HOP_SAMPLES
    label = config.labels[index % len(config.labels)]
    if rng.random() < config.mix_share:
        return Clip(render_mix(rng, samples), "mix")
    if recordings is not None and label in recordings.groups and rng.random() < config.recording_share:
        sound, group = recordings.render(label, rng, samples)
        return Clip(sound, f"recording:{group}")
    return Clip(render(label, rng, samples), "synth")


@dataclass(frozen=True)
class PoolDrawer:
    """Draws any chunk of one pool; a worker process reads the recordings once, when it first needs them."""

    seed: int
    frames: int
    config: DataConfig
    recordings_folder: Path | None

    def chunk(self, first: int) -> PoolChunk:
        library = _load_once(self.recordings_folder) if self.recordings_folder else None
        last = min(first + CHUNK_CLIPS, self.config.clips[self.frames])
        clips = [
            draw_clip(index, seed=self.seed, frames=self.frames, config=self.config, recordings=library)
            for index in range(first, last)
        ]
        return PoolChunk(np.stack([to_pcm(clip.sound.audio) for clip in clips]), [clip.meta_line() for clip in clips])

    def chunks(self, workers: int) -> Iterator[PoolChunk]:
        """All chunks in order, drawn by `workers` processes."""
        starts = range(0, self.config.clips[self.frames], CHUNK_CLIPS)
        if workers == 1:
            yield from map(self.chunk, starts)
            return
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            yield from pool.imap(self.chunk, starts)


@cache
def _load_once(folder: Path) -> RecordingLibrary:
    return RecordingLibrary.load(folder)


def write_manifest(out: Path, seed: int, config: DataConfig) -> None:
    row = {"seed": seed, **dataclasses.asdict(config)}
    (out / MANIFEST).write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")


def pool_seed(data_folder: Path) -> int:
    """The seed a folder of pools was drawn from. Raises DataConfigError."""
    path = data_folder / MANIFEST
    if not path.is_file():
        raise DataConfigError(f"{data_folder} holds no {MANIFEST}; give a folder that `synthesise` wrote")
    return int(json.loads(path.read_text(encoding="utf-8"))["seed"])


def write_pool(out: Path, drawer: PoolDrawer, workers: int = 1) -> None:
    """Writes one pool's audio and its captions into `out`."""
    frames, count = drawer.frames, drawer.config.clips[drawer.frames]
    shape = (count, frames * HOP_SAMPLES)
    audio = np.lib.format.open_memmap(out / f"audio_{frames}.npy", mode="w+", dtype=np.int16, shape=shape)
    total = -(-count // CHUNK_CLIPS)
    row = 0
    with (out / f"meta_{frames}.jsonl").open("w", encoding="utf-8") as meta:
        for chunk in track(drawer.chunks(workers), total=total, description=f"{frames} frames"):
            audio[row : row + len(chunk.pcm)] = chunk.pcm
            meta.writelines(chunk.meta)
            row += len(chunk.pcm)
    audio.flush()
    logger.info("wrote %d clips of %d frames to %s", row, frames, out)


def write_pools(out: Path, seed: int, config: DataConfig, recordings: Path | None, workers: int = 1) -> None:
    """Writes every pool of a configuration and the manifest that names its seed."""
    out.mkdir(parents=True, exist_ok=True)
    write_manifest(out, seed, config)
    for frames in config.clips:
        write_pool(out, PoolDrawer(seed, frames, config, recordings), workers)
