"""Audio <-> WAV files of 32-bit floats that carry their clip record as the comment."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from soundctm_daemon.clip import ClipRecord


def encode(audio: NDArray[np.float32], record: ClipRecord) -> bytes:
    """Audio float32 [channels, samples] -> the bytes of a WAV file. Floats, so that nothing above 0 dBFS is lost."""
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", samplerate=record.sample_rate_hz, channels=record.channels, format="WAV", subtype="FLOAT"
    ) as file:
        file.title = record.label
        file.software = "soundctm"
        file.comment = record.to_json()
        file.write(audio.T)
    return buffer.getvalue()


def read_record(path: Path) -> ClipRecord:
    """The clip record a WAV file carries. Raises ValueError when it is no WAV file or carries none."""
    try:
        with soundfile.SoundFile(path) as file:
            comment, samples = file.comment, file.frames
    except soundfile.LibsndfileError as error:
        raise ValueError(f"no readable sound file: {error}") from error
    record = ClipRecord.from_json(comment)
    if record.samples != samples:
        raise ValueError(f"it holds {samples} samples, its record says {record.samples}: it is cut short")
    return record
