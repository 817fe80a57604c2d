"""A stored clip as another kind of sound file, chosen by the suffix of its name."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from soundgen.client import Client
from soundgen.errors import InvalidRequestError

STORED_SUFFIX = ".wav"
# arguments of pedalboard's writer
_WRITERS: Mapping[str, Mapping[str, Any]] = {
    ".flac": {"bit_depth": 24},
    ".aiff": {"bit_depth": 24},
    ".ogg": {"quality": "320 kbps"},
    ".mp3": {"quality": "V0"},
}


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
    from pedalboard.io import AudioFile  # takes a while to import; only this needs it

    with AudioFile(str(source)) as reader:
        audio, rate_hz = reader.read(reader.frames), reader.samplerate  # float32 [channels, samples]
    peak = float(np.abs(audio).max(initial=0.0))
    if peak > 1.0:
        audio = audio / peak
    settings = _WRITERS[destination.suffix]
    with AudioFile(str(destination), "w", rate_hz, audio.shape[0], **settings) as writer:
        writer.write(audio)
