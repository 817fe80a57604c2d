"""One interface on every data set: numbered items, so that a stopped encode or training goes on where it was."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from soundctm_training.data.clips import Clip, Skipped


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


def digest_of(rows: Iterable[Sequence[str | int]]) -> str:
    """One sha256 over rows of names, captions and sizes."""
    sha = hashlib.sha256()
    for row in rows:
        sha.update(json.dumps(list(row), ensure_ascii=False).encode())
        sha.update(b"\n")
    return sha.hexdigest()
