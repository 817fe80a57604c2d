"""Latents on the disk: a folder per block of the source's items, whole or absent.

    block_00012/latents_<frames>.npy   float16 [pieces, C, frames]
                clips.jsonl            a line per piece, by length, then in order: frames, caption, name, start_samples,
                                       thing
                skipped.jsonl          a line per skipped item
                block.json             items read, items that gave nothing, the stored values' sums by length
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundctm_training.data.clips import DataError, Skipped
from soundctm_training.runs import free_space, write_whole

CLIPS, SKIPPED, FACTS = "clips.jsonl", "skipped.jsonl", "block.json"
_PREFIX, _ASIDE = "block_", ".new"


@dataclass(frozen=True)
class Sums:
    """Over clips and frames, per channel, in double precision: what means and deviations are made of."""

    values: int
    total: NDArray[np.float64]   # [C]
    squares: NDArray[np.float64]  # [C]

    @classmethod
    def of(cls, latents: NDArray[np.float16]) -> Sums:
        wide = latents.astype(np.float64)
        return cls(latents.shape[0] * latents.shape[2], wide.sum((0, 2)), np.square(wide).sum((0, 2)))

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.values + other.values, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> NDArray[np.float64]:
        mean: NDArray[np.float64] = self.total / self.values
        return mean

    @property
    def std(self) -> NDArray[np.float64]:
        variance: NDArray[np.float64] = self.squares / self.values - np.square(self.mean)
        std: NDArray[np.float64] = np.sqrt(variance.clip(0))
        return std


@dataclass(frozen=True)
class Block:
    """What was made of one run of items: latents by length, the lines that describe them, and what was skipped."""

    items: int
    empty_items: int
    latents: Mapping[int, NDArray[np.float16]]
    clips: Mapping[int, Sequence[Mapping[str, Any]]]
    skipped: Sequence[Skipped]


def block_folder(out: Path, number: int) -> Path:
    return out / f"{_PREFIX}{number:05d}"


def whole_blocks(out: Path) -> set[int]:
    """Numbers of the blocks that are there; half-written ones are removed."""
    for aside in out.glob(f"{_PREFIX}*{_ASIDE}"):
        shutil.rmtree(aside)
    return {int(path.name.removeprefix(_PREFIX)) for path in out.glob(f"{_PREFIX}*") if path.is_dir()}


def write_block(out: Path, number: int, block: Block) -> None:
    """Written aside, flushed and renamed. Raises DataError when the disk refuses; earlier blocks stay."""
    folder = block_folder(out, number)
    aside = folder.with_name(folder.name + _ASIDE)
    try:
        aside.mkdir()
        _fill(aside, block)
        _flush(aside)
        aside.rename(folder)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise DataError(
            f"{folder} could not be written ({error}); {free_space(out)}. The blocks before it are kept and the same "
            "command continues after them"
        ) from error


def _fill(aside: Path, block: Block) -> None:
    for frames, latents in sorted(block.latents.items()):
        np.save(aside / f"latents_{frames}.npy", latents)
    rows = [{"frames": frames, **row} for frames, lines in sorted(block.clips.items()) for row in lines]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (aside / CLIPS).write_text(text, encoding="utf-8")
    (aside / SKIPPED).write_text("".join(item.line() for item in block.skipped), encoding="utf-8")
    sums = {frames: Sums.of(latents) for frames, latents in sorted(block.latents.items())}
    facts = {
        "items": block.items,
        "empty_items": block.empty_items,
        "sums": {
            str(frames): {"values": s.values, "total": s.total.tolist(), "squares": s.squares.tolist()}
            for frames, s in sums.items()
        },
    }
    (aside / FACTS).write_text(json.dumps(facts) + "\n", encoding="utf-8")


def _flush(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            os.fsync(file.fileno())


@dataclass(frozen=True)
class Facts:
    items: int
    empty_items: int
    sums: Mapping[int, Sums]  # by length


def read_facts(folder: Path) -> Facts:
    """block.json of a block."""
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    sums = {
        int(frames): Sums(row["values"], np.array(row["total"]), np.array(row["squares"]))
        for frames, row in facts["sums"].items()
    }
    return Facts(int(facts["items"]), int(facts["empty_items"]), sums)


def read_lines(folder: Path, name: str) -> list[dict[str, Any]]:
    """clips.jsonl or skipped.jsonl of a block."""
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def write_array(path: Path, array: NDArray[Any]) -> None:
    """A .npy file, whole or not at all. Raises RunError."""

    def write(aside: Path) -> None:
        with aside.open("wb") as file:  # given a path, np.save would add a suffix
            np.save(file, array)

    write_whole(path, write)


class ShardedRows:
    """Arrays that lie in several files, as one: `rows[[5, 3]]` reads those rows alone. Files stay memory-mapped."""

    def __init__(self, parts: Sequence[NDArray[np.float16]]) -> None:
        """Raises DataError unless the parts agree in all but their number of rows."""
        shapes = {part.shape[1:] for part in parts}
        if len(shapes) != 1:
            raise DataError(f"shards of one length differ in shape: {sorted(shapes)}; encode the data again")
        self.parts = parts
        self.ends = np.cumsum([len(part) for part in parts])
        self.shape: tuple[int, ...] = (int(self.ends[-1]), *shapes.pop())

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        found = np.empty((len(rows), *self.shape[1:]), np.float16)
        numbers = np.searchsorted(self.ends, rows, side="right")
        for number in np.unique(numbers):
            places = numbers == number
            first = self.ends[number - 1] if number else 0
            found[places] = self.parts[number][rows[places] - first]
        return found
