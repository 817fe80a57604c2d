"""Crops of audio for a training step: a function of the step and the seed alone, however many workers share them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundctm_training.codec.settings import CodecTrainingError
from soundctm_training.data.clips import Clip, Skipped
from soundctm_training.data.sources import Source

PCM_SCALE = 32767.0
_PATIENCE = 200  # skipped items in a row, after which there seems to be no audio


class CropDraw(Protocol):
    """Batches of equal crops; `rows` are those of one worker."""

    @property
    def batch(self) -> int: ...

    def crops(self, step: int, rows: slice) -> Tensor:
        """float32 [rows, samples] in -1..1."""

    def describe(self, step: int, rows: slice) -> str:
        """Which clips the crops of a step are cut from, for an error message."""

    def resized(self, batch: int, samples: int, seed: int) -> CropDraw:
        """Other crops of the same audio."""


def _cut(audio: NDArray[Any], start: int, samples: int) -> NDArray[np.float32]:
    """A clip shorter than the crop is followed by silence."""
    crop = audio[start : start + samples]
    return np.pad(crop, (0, samples - len(crop))).astype(np.float32)


@dataclass(frozen=True)
class PoolCrops:
    """From the int16 pools [clips, samples] that `synthesise` writes; a pool is drawn by its size."""

    pools: tuple[NDArray[np.int16], ...]
    batch: int
    samples: int
    seed: int

    @classmethod
    def open(cls, folder: Path, batch: int, samples: int, seed: int) -> PoolCrops:
        """Memory-mapped, shortest clips first. Raises CodecTrainingError where there are none."""
        paths = sorted(folder.glob("audio_*.npy"), key=lambda path: int(path.stem.split("_")[1]))
        if not paths:
            raise CodecTrainingError(f"{folder} holds no audio_<frames>.npy; give a folder that `synthesise` wrote")
        return cls(tuple(np.load(path, mmap_mode="r") for path in paths), batch, samples, seed)

    def crops(self, step: int, rows: slice) -> Tensor:
        pool, clips, starts = self._draw(step)
        pairs = zip(clips[rows], starts[rows], strict=True)
        crops = np.stack([_cut(self.pools[pool][clip], start, self.samples) for clip, start in pairs])
        return torch.from_numpy(crops / np.float32(PCM_SCALE))

    def describe(self, step: int, rows: slice) -> str:
        pool, clips, _ = self._draw(step)
        return f"clips {', '.join(map(str, clips[rows]))} of the pool of {self.pools[pool].shape[1]} samples"

    def resized(self, batch: int, samples: int, seed: int) -> PoolCrops:
        return replace(self, batch=batch, samples=samples, seed=seed)

    def _draw(self, step: int) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
        """A pool, clips of it [batch] and where their crops start [batch]."""
        generator = np.random.default_rng((self.seed, step))
        sizes = np.array([pool.size for pool in self.pools], np.float64)
        number = int(generator.choice(len(self.pools), p=sizes / sizes.sum()))
        clips, length = self.pools[number].shape
        return (
            number,
            generator.integers(clips, size=self.batch),
            generator.integers(max(length - self.samples, 0) + 1, size=self.batch),
        )


@dataclass
class SourceCrops:
    """From any data set. Decoding is slow, so `kept_clips` decoded clips serve `kept_steps` steps, then others do."""

    source: Source
    batch: int
    samples: int
    seed: int
    kept_clips: int = 256
    kept_steps: int = 32
    _block: int = -1
    _clips: dict[int, Clip] = field(default_factory=dict)

    def crops(self, step: int, rows: slice) -> Tensor:
        return torch.from_numpy(np.stack([self._crop(step, row) for row in range(*rows.indices(self.batch))]))

    def describe(self, step: int, rows: slice) -> str:
        return ", ".join(self._clip(step, row).name for row in range(*rows.indices(self.batch)))

    def resized(self, batch: int, samples: int, seed: int) -> SourceCrops:
        return SourceCrops(self.source, batch, samples, seed, self.kept_clips, self.kept_steps)

    def _clip(self, step: int, row: int) -> Clip:
        block = step // self.kept_steps
        if block != self._block:
            self._block = block
            self._clips.clear()
        place = int(np.random.default_rng((self.seed, step, row)).integers(self.kept_clips))
        if place not in self._clips:
            self._clips[place] = self._decode(block, place)
        return self._clips[place]

    def _decode(self, block: int, place: int) -> Clip:
        """Clip `place` of a block; items that were skipped are drawn again. Raises CodecTrainingError."""
        generator = np.random.default_rng((self.seed, block, place, 1))
        last: Skipped | None = None
        first = block * len(self.source) if self.source.endless else 0  # an endless source never repeats a block
        for _ in range(_PATIENCE):
            item = self.source.item(first + int(generator.integers(len(self.source))))
            if isinstance(item, Clip):
                return item
            last = item
        raise CodecTrainingError(f"{_PATIENCE} items drawn in a row were all skipped, the last being {last}")

    def _crop(self, step: int, row: int) -> NDArray[np.float32]:
        audio = self._clip(step, row).audio
        start = int(np.random.default_rng((self.seed, step, row, 2)).integers(max(len(audio) - self.samples, 0) + 1))
        return _cut(audio, start, self.samples)
