"""The pools that `synthesise` writes, as a source: shortest clips first."""

from __future__ import annotations

import dataclasses
import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundctm_training.data.clips import Clip, DataError, Skipped
from soundctm_training.data.reading import Limits, check_clip
from soundctm_training.data.settings import DataSettings
from soundctm_training.data.sources import Source, digest_of

_PCM_SCALE = np.float32(32_767)


@dataclass(frozen=True)
class PoolFile:
    """int16 [clips, samples] in a .npy file, its captions and the classes they are of."""

    audio: Path
    captions: Sequence[str]
    labels: Sequence[str]

    @cached_property
    def pcm(self) -> NDArray[np.int16]:
        pcm: NDArray[np.int16] = np.load(self.audio, mmap_mode="r")
        return pcm

    def __getstate__(self) -> dict[str, Any]:
        """Without the mapping: another process opens its own."""
        return {"audio": self.audio, "captions": self.captions, "labels": self.labels}


class PoolSource(Source):
    def __init__(self, pools: Sequence[PoolFile], limits: Limits) -> None:
        self.pools, self.limits = pools, limits
        self.ends = np.cumsum([len(pool.captions) for pool in pools]).tolist()

    @classmethod
    def open(cls, settings: DataSettings, limits: Limits) -> PoolSource:
        """Raises DataError when the folder holds no pools, or a pool and its captions differ in number."""
        paths = sorted(settings.folder.glob("audio_*.npy"), key=_frames)
        if not paths:
            raise DataError(f"{settings.folder} holds no audio_<frames>.npy; give a folder that `synthesise` wrote")
        return cls([_open_pool(path) for path in paths], limits)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def item(self, index: int) -> Clip | Skipped:
        number = bisect_right(self.ends, index)
        pool = self.pools[number]
        row = index - (self.ends[number - 1] if number else 0)
        audio = pool.pcm[row].astype(np.float32) / _PCM_SCALE
        clip = Clip(audio, pool.captions[row], f"{pool.audio.stem}/{row}", pool.labels[row])
        return check_clip(clip, self.limits)

    def identity(self) -> Mapping[str, Any]:
        rows = digest_of((pool.audio.name, *pool.captions) for pool in self.pools)
        return {"kind": "pools", "items": len(self), "rows": rows, "limits": dataclasses.asdict(self.limits)}


def _frames(path: Path) -> int:
    tail = path.stem.split("_")[-1]
    if not tail.isdigit():
        raise DataError(f"{path} is no pool: its name must be audio_<frames>.npy")
    return int(tail)


def _open_pool(path: Path) -> PoolFile:
    meta = path.with_name(f"meta_{_frames(path)}.jsonl")
    try:
        lines = [json.loads(line) for line in meta.read_text(encoding="utf-8").splitlines()]
        captions = [str(line["caption"]) for line in lines]
        labels = [str(line.get("label", "")) for line in lines]
        clips = len(np.load(path, mmap_mode="r"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} and {meta.name} cannot be read as a pool ({error!r}); write it again") from error
    if clips != len(captions):
        raise DataError(f"{path} holds {clips} clips but {meta.name} {len(captions)} captions; write the pool again")
    return PoolFile(path, captions, labels)
