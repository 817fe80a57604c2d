"""Tables of captions: CSV, TSV or JSONL, AudioCaps' own layout included."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soundctm_training.data.clips import DataError

AUDIO_COLUMNS = ("file", "audio", "file_name", "filename", "path", "audio_path", "name")
CAPTION_COLUMNS = ("caption", "text", "description", "sentence", "captions")
AUDIOCAPS_COLUMN = "youtube_id"
_START_COLUMN = "start_time"
_SUFFIXES = (".csv", ".tsv", ".jsonl")


@dataclass(frozen=True)
class CaptionRow:
    """`stems` are the names the audio file may have, the likeliest first."""

    stems: tuple[str, ...]
    caption: str
    name: str


def find_table(folder: Path, captions: Path | None) -> Path:
    """The captions file. Raises DataError unless there is exactly one, naming what is there."""
    if not folder.is_dir():
        raise DataError(f"data.path {folder} is no folder; give the folder that holds the audio")
    if captions is not None:
        for path in (folder / captions, captions):
            if path.is_file():
                return path
        raise DataError(f"data.captions {captions} is neither in {folder} nor a file by itself")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.name for path in found) or "none"
    raise DataError(f"{folder} holds {len(found)} caption files ({names}); name one with data.captions ({_allowed()})")


def read_table(path: Path, audio_column: str | None, caption_column: str | None) -> list[CaptionRow]:
    """Raises DataError naming the file, and the columns found and allowed, when it is no table of captions."""
    try:
        rows = list(_json_rows(path) if path.suffix.lower() == ".jsonl" else _csv_rows(path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no readable table of captions ({error}); give {_allowed()} in UTF-8") from error
    if not rows:
        raise DataError(f"{path} holds no captions; give a header and a row per clip")
    found = list(rows[0])
    audio = _column(path, found, audio_column, (AUDIOCAPS_COLUMN, *AUDIO_COLUMNS), "audio_column")
    caption = _column(path, found, caption_column, CAPTION_COLUMNS, "caption_column")
    return [entry for number, row in enumerate(rows, 1) for entry in _entries(row, audio, caption, number)]


def _allowed() -> str:
    return f"a {', '.join(_SUFFIXES)} file"


def _csv_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        yield from csv.DictReader(file, delimiter=delimiter, skipinitialspace=True)


def _json_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}; every line must be one JSON object") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number} is a {type(row).__name__}; every line must be one JSON object")
        yield row


def _column(path: Path, found: Sequence[str], given: str | None, known: Sequence[str], key: str) -> str:
    wanted = (given,) if given is not None else known
    for name in wanted:
        if name in found:
            return name
    raise DataError(
        f"{path} has no column {' or '.join(map(repr, wanted))}; its columns are {', '.join(map(repr, found))}. "
        f"Name the right one with data.{key}"
    )


def _entries(row: Mapping[str, Any], audio: str, caption: str, number: int) -> Iterator[CaptionRow]:
    """One entry per caption: a JSON list holds several of the same clip."""
    file = str(row.get(audio) or "").strip()
    stems = _audiocaps_stems(row, file) if audio == AUDIOCAPS_COLUMN else (file,)
    value = row.get(caption)
    for text in value if isinstance(value, list) else [value]:
        yield CaptionRow(stems if file else (), str(text or "").strip(), file or f"row {number}")


def _audiocaps_stems(row: Mapping[str, Any], youtube_id: str) -> tuple[str, ...]:
    """`<id>_<start>` before `<id>`: one video may give several clips. Downloaders differ in the leading Y, which
    keeps a name from beginning with a dash, and in how they write the start."""
    start = str(row.get(_START_COLUMN) or "").strip()
    starts = [start] if start else []
    if start.replace(".", "", 1).isdigit():
        starts += [f"{float(start):g}", f"{float(start):.1f}", f"{float(start):.3f}", str(round(1000 * float(start)))]
    names = [f"{youtube_id}_{text}" for text in dict.fromkeys(starts)] + [youtube_id]
    return tuple(prefix + name for name in names for prefix in ("", "Y"))
