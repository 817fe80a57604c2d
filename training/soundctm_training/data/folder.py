"""A folder of audio files and one table of captions."""

from __future__ import annotations

import dataclasses
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from soundctm_training.data.captions import CaptionRow, find_table, read_table
from soundctm_training.data.clips import Clip, DataError, Reason, Skipped
from soundctm_training.data.reading import SUFFIXES, Limits, file_reader, read_clip
from soundctm_training.data.settings import DataSettings
from soundctm_training.data.sources import Source, digest_of

logger = logging.getLogger(__name__)

_NAMED = 5  # missing files named in an error


@dataclass(frozen=True)
class FolderItem:
    """A row of the table: the file it names inside the folder, or why there is none."""

    name: str
    caption: str
    file: str | None
    problem: str = ""


class FolderSource(Source):
    def __init__(self, folder: Path, items: Sequence[FolderItem], limits: Limits) -> None:
        self.folder, self.items, self.limits = folder, items, limits

    @classmethod
    def open(cls, settings: DataSettings, limits: Limits) -> FolderSource:
        """Raises DataError without a table of captions, or when none of its rows has a file."""
        table = find_table(settings.folder, settings.captions)
        rows = read_table(table, settings.audio_column, settings.caption_column)
        files = _AudioFiles(settings.folder)
        items = [files.match(row) for row in rows]
        found = {item.file for item in items if item.file is not None}
        if not found:
            looked = "; ".join(f"{item.name}: {item.problem}" for item in items[:_NAMED])
            raise DataError(
                f"none of the {len(items)} captions of {table} has an audio file in {settings.folder}, which holds "
                f"{len(files.names)} audio files ({', '.join(files.names[:_NAMED]) or 'none'}). Missing, among others: "
                f"{looked}. Check data.path and data.audio_column"
            )
        missing, lone = sum(item.file is None for item in items), len(files.names) - len(found)
        if missing or lone:
            logger.warning(
                "%s: %d captions without an audio file; %d audio files without a caption", table, missing, lone
            )
        return cls(settings.folder, items, limits)

    def __len__(self) -> int:
        return len(self.items)

    def item(self, index: int) -> Clip | Skipped:
        entry = self.items[index]
        if entry.file is None:
            return Skipped(entry.name, Reason.NO_AUDIO, entry.problem)
        read = file_reader(self.folder / entry.file)
        return read_clip(entry.file, entry.caption, read, self.limits, thing=entry.file)

    def identity(self) -> Mapping[str, Any]:
        rows = digest_of((item.file or "", item.caption) for item in self.items)
        return {"kind": "folder", "items": len(self.items), "rows": rows, "limits": dataclasses.asdict(self.limits)}


class _AudioFiles:
    """The audio files below a folder, found by relative path, with or without suffix, or by their bare name."""

    def __init__(self, folder: Path) -> None:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        self.names = [path.relative_to(folder).as_posix() for path in paths]
        self._by_key: dict[str, list[str]] = defaultdict(list)
        for name in self.names:
            pure = PurePosixPath(name)
            stem = pure.name.removesuffix(pure.suffix)
            for key in {name, name.removesuffix(pure.suffix), pure.name, stem}:
                self._by_key[key].append(name)

    def match(self, row: CaptionRow) -> FolderItem:
        if not row.stems:
            return FolderItem(row.name, row.caption, None, "the row names no file")
        for stem in row.stems:
            found = self._by_key.get(stem.replace("\\", "/").removeprefix("./"), [])
            exact = [name for name in found if name == stem]
            if len(found) == 1 or exact:
                return FolderItem(row.name, row.caption, (exact or found)[0])
            if found:
                problem = f"{len(found)} files have this name: {found[0]}, {found[1]}"
                return FolderItem(row.name, row.caption, None, problem)
        wanted = " or ".join(row.stems[:4])
        return FolderItem(row.name, row.caption, None, f"no file {wanted} ({', '.join(sorted(SUFFIXES))})")
