"""One interface on every data set: numbered items, in order once or shuffled without end.

Both orders are functions of (source, seed, position) alone, so a stopped encode or training goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from soundctm_training.data.clips import Clip, DataError, Skipped


class Source(ABC):
    """Items 0 .. len - 1. An endless source has items beyond its length too; the length is then one pass."""

    endless = False

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def item(self, index: int) -> Clip | Skipped:
        """The same at every call and in every process."""

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """What tells this data set from another, as JSON holds it; no paths, for a folder may be moved."""

    def ordered(self, start: int = 0) -> Iterator[Clip | Skipped]:
        """Every item once, from number `start`."""
        for index in range(start, len(self)):
            yield self.item(index)

    def shuffled(self, seed: int, start: int = 0, rank: int = 0, workers: int = 1) -> Iterator[Clip | Skipped]:
        """Without end: pass after pass, each in its own order. Worker `rank` of `workers` gets every workers-th
        item; `start` counts the items it has already had."""
        for index in shuffled_indices(len(self), seed, start, rank, workers, endless=self.endless):
            yield self.item(index)


def shuffled_indices(
    length: int, seed: int, start: int, rank: int, workers: int, *, endless: bool = False
) -> Iterator[int]:
    """Indices of `Source.shuffled`. Pass `e` of an endless source holds new items: e * length .. (e+1) * length - 1."""
    if length < 1 or not 0 <= rank < workers:
        raise DataError(f"cannot shuffle {length} items for worker {rank} of {workers}")
    held, order = -1, np.empty(0, np.int64)
    position = rank + workers * start
    while True:
        epoch, place = divmod(position, length)
        if epoch != held:
            held, order = epoch, np.random.default_rng([seed, epoch]).permutation(length)
        yield int(order[place]) + (epoch * length if endless else 0)
        position += workers


def digest_of(rows: Iterable[Sequence[str | int]]) -> str:
    """One sha256 over rows of names, captions and sizes."""
    sha = hashlib.sha256()
    for row in rows:
        sha.update(json.dumps(list(row), ensure_ascii=False).encode())
        sha.update(b"\n")
    return sha.hexdigest()
