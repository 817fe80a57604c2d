"""WebDataset shards: tar files whose members share a key, `key.flac` beside `key.txt` or `key.json`.

The headers are read once; afterwards any sample is read by its place, so that shards too are shuffled as a whole.
"""

from __future__ import annotations

import dataclasses
import glob
import json
import logging
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from soundctm_training.data.captions import CAPTION_COLUMNS
from soundctm_training.data.clips import Clip, DataError, Reason, Skipped
from soundctm_training.data.reading import SUFFIXES, Limits, read_clip
from soundctm_training.data.settings import DataSettings
from soundctm_training.data.sources import Source, digest_of

logger = logging.getLogger(__name__)

_TEXT_SUFFIXES = (".txt", ".json")
_BLOCK_BYTES = 512
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass(frozen=True)
class Part:
    """Bytes of one member inside a shard."""

    suffix: str
    offset: int
    size: int


@dataclass(frozen=True)
class Sample:
    """One key of a shard; a missing part is None."""

    shard: Path
    key: str
    audio: Part | None = None
    text: Part | None = None


class ShardSource(Source):
    def __init__(self, entries: Sequence[Sample | Skipped], limits: Limits, caption_column: str | None) -> None:
        self.entries, self.limits = entries, limits
        self.caption_keys = (caption_column,) if caption_column else CAPTION_COLUMNS

    @classmethod
    def open(cls, settings: DataSettings, limits: Limits) -> ShardSource:
        """Reads the headers of all shards. Raises DataError when there is no shard, or no audio in any."""
        paths = shard_paths(settings.folder)
        entries = [entry for path in paths for entry in scan_shard(path)]
        if not any(isinstance(entry, Sample) and entry.audio and entry.text for entry in entries):
            seen = "; ".join(f"{e.name}: {e.reason} {e.detail}" for e in entries if isinstance(e, Skipped))
            raise DataError(
                f"none of the {len(paths)} shards of {settings.path} holds a key with an audio file "
                f"({', '.join(sorted(SUFFIXES))}) and a {' or '.join(_TEXT_SUFFIXES)}. {seen}"
            )
        logger.info("%d samples in %d shards", len(entries), len(paths))
        return cls(entries, limits, settings.caption_column)

    def __len__(self) -> int:
        return len(self.entries)

    def item(self, index: int) -> Clip | Skipped:
        entry = self.entries[index]
        if isinstance(entry, Skipped):
            return entry
        name = f"{entry.shard.name}/{entry.key}"
        if entry.audio is None:
            return Skipped(name, Reason.NO_AUDIO, "the key has no audio member")
        if entry.text is None:
            return Skipped(name, Reason.NO_CAPTION, f"the key has no {' or '.join(_TEXT_SUFFIXES)} member")
        audio = entry.audio
        try:
            caption = self._caption(entry.text, _read(entry.shard, entry.text))
        except (OSError, ValueError) as error:
            return Skipped(name, Reason.NO_CAPTION, f"its {entry.text.suffix} cannot be read ({error})")
        return read_clip(name, caption, lambda: _read(entry.shard, audio), self.limits)

    def _caption(self, part: Part, content: bytes) -> str:
        text = content.decode("utf-8")
        if part.suffix == ".txt":
            return text
        row = json.loads(text)
        found = next((row[key] for key in self.caption_keys if key in row), "") if isinstance(row, dict) else row
        return str(found[0] if isinstance(found, list) and found else found or "")

    def identity(self) -> Mapping[str, Any]:
        rows = digest_of(map(_identify, self.entries))
        return {"kind": "webdataset", "items": len(self), "rows": rows, "limits": dataclasses.asdict(self.limits)}


def _identify(entry: Sample | Skipped) -> tuple[str | int, ...]:
    if isinstance(entry, Skipped):
        return entry.name, entry.reason.value
    sizes = (part.size if part else -1 for part in (entry.audio, entry.text))
    return entry.shard.name, entry.key, *sizes


def shard_paths(pattern: Path) -> list[Path]:
    """Shards of a folder, a single file, a glob or a pattern such as `train-{000..127}.tar`. Raises DataError."""
    if pattern.is_dir():
        paths = sorted(pattern.glob("*.tar"))
    else:
        paths = [Path(path) for text in _expand(str(pattern)) for path in _matches(text)]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing or not paths:
        raise DataError(
            f"data.path {pattern}: {', '.join(missing[:5]) or 'no shard'} not found; give a folder of .tar files, one "
            "file, a glob, or a pattern such as train-{000..127}.tar"
        )
    return paths


def _matches(text: str) -> list[str]:
    return sorted(glob.glob(text)) if glob.has_magic(text) else [text]  # noqa: PTH207 (the pattern may be absolute)


def _expand(text: str) -> Iterator[str]:
    """`a-{00..02}` -> a-00, a-01, a-02; every range in the text counts."""
    pieces = _RANGE.split(text)
    ranges = [
        [str(number).zfill(len(low)) for number in range(int(low), int(high) + 1)]
        for low, high in zip(pieces[1::3], pieces[2::3], strict=True)
    ]
    for numbers in product(*ranges):
        yield pieces[0] + "".join(number + rest for number, rest in zip(numbers, pieces[3::3], strict=True))


def scan_shard(path: Path) -> list[Sample | Skipped]:
    """Every key of a shard; what is wrong with the shard itself comes last, as a skipped item."""
    samples: dict[str, Sample] = {}
    problems: list[Skipped] = []
    try:
        held_bytes, end = path.stat().st_size, 0
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                end = member.offset_data + -(-member.size // _BLOCK_BYTES) * _BLOCK_BYTES
                if end > held_bytes:
                    raise tarfile.ReadError(f"member {member.name} goes on after the file's end")
                if member.isfile():
                    _add_member(samples, path, member)
        if held_bytes < end + 2 * _BLOCK_BYTES:
            raise tarfile.ReadError("the two empty blocks that end an archive are missing")
    except (tarfile.TarError, OSError) as error:
        reason = Reason.TRUNCATED if samples else Reason.UNREADABLE
        problems.append(Skipped(path.name, reason, f"{error}; the {len(samples)} keys before it are used"))
    return [*samples.values(), *problems]


def _add_member(samples: dict[str, Sample], path: Path, member: tarfile.TarInfo) -> None:
    folder, _, file = member.name.rpartition("/")
    stem, dot, extension = file.partition(".")
    key = f"{folder}/{stem}" if folder else stem
    suffix = (dot + extension).lower()
    known = samples.get(key, Sample(path, key))
    part = Part(suffix, member.offset_data, member.size)
    if suffix in SUFFIXES:
        samples[key] = Sample(path, key, part, known.text)
    elif suffix in _TEXT_SUFFIXES:
        samples[key] = Sample(path, key, known.audio, part)


def _read(shard: Path, part: Part) -> bytes:
    with shard.open("rb") as file:
        file.seek(part.offset)
        content = file.read(part.size)
    if len(content) < part.size:
        raise OSError(f"{shard} ends {part.size - len(content)} bytes before the member does")
    return content
