"""Sound files from outside, which may hold anything -> audio. Blocks on the disk and the processor."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from soundctm.recipe import Recipe
from soundctm_daemon.errors import SoundUnusableError
from soundctm_daemon.provenance import find_recipe
from soundgen.chunks import read_chunks

_KINDS = "WAV, FLAC, AIFF, Ogg or MP3"
_FORMATS = {"WAV", "WAVEX", "RF64", "FLAC", "AIFF", "OGG", "MP3"}  # as libsndfile names them
_BEGINNINGS = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"fLaC", b"OggS", b"ID3")
_LOWEST_HZ, _HIGHEST_HZ, _MOST_CHANNELS = 8000, 384000, 2
_BLOCK_FRAMES = 1 << 20
_STREAMED = 0xFFFFFF00  # sizes from here on mean: it was not known when the header was written
_HEAD_BYTES, _TAIL_BYTES = 1 << 20, 1 << 16
_OGG_LAST = 0x04  # in the second byte behind a page's "OggS"
_MB = 1_000_000


@dataclass(frozen=True)
class Sound:
    """`audio` float32 [channels, samples], finite; `origin` the model's name and the recipe, where the file tells."""

    audio: NDArray[np.float32]
    sample_rate_hz: int
    origin: tuple[str, Recipe] | None


def read_sound(path: Path, limit_mb: int) -> Sound:
    """`limit_mb` bounds what the sound takes as 32-bit floats. Raises SoundUnusableError, OSError."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
        is_mp3 = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
        if not (head.startswith(_BEGINNINGS) or is_mp3):
            raise SoundUnusableError(f"the file is no sound file of a kind that can be read. Allowed: {_KINDS}.")
        origin = find_recipe(stream)
        _require_whole(stream)
    try:
        with soundfile.SoundFile(path) as file:
            _require_storable(file)
            audio = _decoded(file, limit_mb)
            announced = file.frames if file.format != "MP3" or b"Xing" in head or b"Info" in head else 0
            rate_hz = int(file.samplerate)
    except soundfile.LibsndfileError as error:
        raise SoundUnusableError(
            f"the file cannot be decoded, it is cut short or damaged ({error}). Export it again as {_KINDS}."
        ) from error
    if audio.shape[1] < announced:
        raise _cut_short(f"it announces {announced} samples and holds {audio.shape[1]}")
    if not np.isfinite(audio).all():
        raise SoundUnusableError("the sound holds NaN or infinity. Allowed: finite samples; export it again.")
    return Sound(audio, rate_hz, origin)


def _require_storable(file: soundfile.SoundFile) -> None:
    if file.format not in _FORMATS:
        raise SoundUnusableError(f"the file is of the kind {file.format}. Allowed: {_KINDS}.")
    if not 1 <= file.channels <= _MOST_CHANNELS:
        raise SoundUnusableError(f"the sound has {file.channels} channels. Allowed: 1 or 2; mix it down first.")
    if not _LOWEST_HZ <= file.samplerate <= _HIGHEST_HZ:
        raise SoundUnusableError(
            f"the sound has {file.samplerate} samples per second. Allowed: {_LOWEST_HZ} to {_HIGHEST_HZ}; convert it."
        )


def _decoded(file: soundfile.SoundFile, limit_mb: int) -> NDArray[np.float32]:
    """By blocks: a small file may decode to more than the memory holds."""
    room = limit_mb * _MB // (4 * file.channels)
    blocks: list[NDArray[np.float32]] = []
    while len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
        blocks.append(block)
        room -= len(block)
        if room < 0:
            raise SoundUnusableError(
                f"the sound takes more than {limit_mb} MB once it is decoded to 32-bit floats. Cut it, or let the "
                "owner raise import_limit_mb in daemon.toml."
            )
    if not blocks:
        raise SoundUnusableError("the sound is empty. Allowed: at least one sample.")
    return np.ascontiguousarray(np.concatenate(blocks).T)


def _require_whole(stream: BinaryIO) -> None:
    """What libsndfile does not mind: a WAV or AIFF that ends within its audio, an Ogg without its last page."""
    size_bytes = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if stream.read(4) == b"OggS":
        stream.seek(max(0, size_bytes - _TAIL_BYTES))
        page = stream.read().rpartition(b"OggS")[2]
        if not page[1:2] or not page[1] & _OGG_LAST:
            raise _cut_short("its last page is missing")
    stream.seek(0)
    with suppress(ValueError):  # neither WAV nor AIFF
        for chunk in read_chunks(stream):
            missing = chunk.offset + chunk.size_bytes - size_bytes
            if chunk.name in (b"data", b"SSND") and missing > 0 and chunk.size_bytes < _STREAMED:
                raise _cut_short(f"{missing} bytes are missing")


def _cut_short(how: str) -> SoundUnusableError:
    return SoundUnusableError(f"the file is cut short: {how}. Export or copy it again.")
