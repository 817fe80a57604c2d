"""A stored clip as another kind of sound file, chosen by the suffix of its name; its recipe goes along."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from soundgen import provenance
from soundgen.chunks import append_aiff_chunk
from soundgen.client import Client
from soundgen.errors import InvalidRequestError

STORED_SUFFIX = ".wav"
_AIFF_SUFFIX = ".aiff"
# arguments of soundfile's writer; compression level 0 is the best quality a lossy format has
_WRITERS: Mapping[str, Mapping[str, Any]] = {
    ".flac": {"format": "FLAC", "subtype": "PCM_24"},
    _AIFF_SUFFIX: {"format": "AIFF", "subtype": "PCM_24"},
    ".ogg": {"format": "OGG", "subtype": "VORBIS", "compression_level": 0.0},
    ".mp3": {
        "format": "MP3",
        "subtype": "MPEG_LAYER_III",
        "compression_level": 0.0,
        "bitrate_mode": "VARIABLE",
    },
}
_LARGEST_24_BIT = 1.0 - 2.0**-23


def require_known_suffix(destination: Path) -> None:
    """Raises InvalidRequestError when no such file can be written."""
    if destination.suffix.lower() not in (STORED_SUFFIX, *_WRITERS):
        raise InvalidRequestError(
            f"{destination.name} ends in {destination.suffix or 'no suffix'}; allowed: .wav (the stored 32-bit float "
            f"file itself), {', '.join(_WRITERS)}. Give the file such a name."
        )


def export(client: Client, clip_id: str, destination: Path) -> Path:
    """The clip at `destination`, verified on its way and whole or not there.

    A .wav is the stored file, bit for bit. The other formats hold integers: a clip that peaks above full scale is
    turned down to fit. Raises InvalidRequestError, OSError, and what `Client.download` does.
    """
    require_known_suffix(destination)
    if destination.suffix.lower() == STORED_SUFFIX:
        return client.download(clip_id, destination)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".soundctm-") as folder:
        stored = client.download(clip_id, Path(folder) / "stored.wav")
        written = Path(folder) / f"written{destination.suffix.lower()}"
        _convert(stored, written)
        written.replace(destination)
    return destination


def _convert(source: Path, destination: Path) -> None:
    """Raises InvalidRequestError when the format cannot hold the clip: MP3 knows few sample rates, and two channels."""
    with soundfile.SoundFile(source) as reader:
        audio, rate_hz, title = reader.read(dtype="float32", always_2d=True), reader.samplerate, reader.title
    peak = float(np.abs(audio).max(initial=0.0))
    if peak > _LARGEST_24_BIT:
        audio = audio * (_LARGEST_24_BIT / peak)
    with source.open("rb") as stream:
        record = provenance.read_chunk(stream, provenance.RECORD_CHUNK)
    suffix = destination.suffix
    try:
        with soundfile.SoundFile(
            destination, "w", samplerate=rate_hz, channels=audio.shape[1], **_WRITERS[suffix]
        ) as writer:
            recipe = provenance.recipe_in(record)
            if title:
                writer.title = title
            if recipe is not None and suffix != _AIFF_SUFFIX:  # libsndfile's AIFF has no room for it
                writer.comment = recipe
            for start in range(0, len(audio), rate_hz):  # libsndfile's Vorbis overflows its stack on long blocks
                writer.write(audio[start : start + rate_hz])
    except soundfile.LibsndfileError as error:
        raise InvalidRequestError(
            f"a clip of {audio.shape[1]} channels at {rate_hz} Hz cannot be written as {suffix} ({error}); allowed is "
            "what that format holds. Export it as .wav or .flac."
        ) from error
    if suffix == _AIFF_SUFFIX and record is not None:
        append_aiff_chunk(destination, provenance.RECORD_CHUNK, record)
