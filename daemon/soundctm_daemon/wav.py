"""Audio <-> WAV files of 32-bit floats that carry where they come from.

The clip record is JSON in a RIFF chunk of its own, behind the audio: the text chunks libsndfile writes hold too little
for the longest prompts. See soundctm_daemon.provenance.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from soundctm_daemon.clip import ClipRecord, description
from soundctm_daemon.provenance import bext_chunk, ixml_chunk, read_record_chunk, record_chunk
from soundgen.chunks import with_chunks

_LONGEST_COMMENT = 200  # characters


def encode(audio: NDArray[np.float32], record: ClipRecord) -> bytes:
    """Audio float32 [channels, samples] -> the bytes of a WAV file. Floats, so that nothing above 0 dBFS is lost."""
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", samplerate=record.sample_rate_hz, channels=record.channels, format="WAV", subtype="FLOAT"
    ) as file:
        file.title = _without_nul(record.label)
        file.software = "soundctm"
        file.comment = _without_nul(description(record)[:_LONGEST_COMMENT])
        file.write(audio.T)
    return with_chunks(buffer.getbuffer(), [bext_chunk(record)], [ixml_chunk(record), record_chunk(record)])


def _without_nul(text: str) -> str:
    """NUL ends a text in C, and libsndfile refuses one that is empty."""
    return text.replace("\0", " ")


def read_record(path: Path) -> ClipRecord:
    """The clip record a WAV file carries. Raises ValueError when it is no whole WAV file or carries none, OSError."""
    with path.open("rb") as stream:
        record = read_record_chunk(stream)
    try:
        samples = soundfile.info(path).frames
    except soundfile.LibsndfileError as error:
        raise ValueError(f"no readable sound file: {error}") from error
    if record.samples != samples:
        raise ValueError(f"it holds {samples} samples, its record says {record.samples}")
    return record
