"""Audio <-> WAV files of 32-bit floats that carry their clip record.

The record is JSON in a RIFF chunk of its own, `sctm`, behind the audio: readers skip chunks they do not know, and the
text chunks libsndfile writes hold too little for the longest prompts.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from soundctm_daemon.clip import ClipRecord

_CHUNK = b"sctm"
_CHUNK_HEADER = struct.Struct("<4sI")  # name, size of the payload in bytes; payloads are padded to even sizes
_RIFF_HEADER_BYTES = 12                # "RIFF", size of what follows it, "WAVE"
_LONGEST_COMMENT = 200                 # characters


def encode(audio: NDArray[np.float32], record: ClipRecord) -> bytes:
    """Audio float32 [channels, samples] -> the bytes of a WAV file. Floats, so that nothing above 0 dBFS is lost."""
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", samplerate=record.sample_rate_hz, channels=record.channels, format="WAV", subtype="FLOAT"
    ) as file:
        file.title = record.label
        file.software = "soundctm"
        file.comment = record.recipe.prompt[:_LONGEST_COMMENT]
        file.write(audio.T)
    wav, payload = buffer.getvalue(), record.to_json().encode()
    chunk = _CHUNK_HEADER.pack(_CHUNK, len(payload)) + payload + b"\0" * (len(payload) % 2)
    riff_bytes = len(wav) + len(chunk) - _CHUNK_HEADER.size
    return _CHUNK_HEADER.pack(b"RIFF", riff_bytes) + wav[_CHUNK_HEADER.size :] + chunk


def read_record(path: Path) -> ClipRecord:
    """The clip record a WAV file carries. Raises ValueError when it is no whole WAV file or carries none, OSError."""
    with path.open("rb") as stream:
        record = ClipRecord.from_json(_read_chunk(stream).decode())
    try:
        samples = soundfile.info(path).frames
    except soundfile.LibsndfileError as error:
        raise ValueError(f"no readable sound file: {error}") from error
    if record.samples != samples:
        raise ValueError(f"it holds {samples} samples, its record says {record.samples}")
    return record


def _read_chunk(stream: BinaryIO) -> bytes:
    """The payload of our chunk. Raises ValueError when there is none, or not all of it."""
    riff = stream.read(_RIFF_HEADER_BYTES)
    if riff[:4] != b"RIFF" or riff[8:] != b"WAVE":
        raise ValueError("no WAV file")
    while len(header := stream.read(_CHUNK_HEADER.size)) == _CHUNK_HEADER.size:
        name, size_bytes = _CHUNK_HEADER.unpack(header)
        if name == _CHUNK:
            payload = stream.read(size_bytes)
            if len(payload) == size_bytes:
                return payload
            break
        stream.seek(size_bytes + size_bytes % 2, io.SEEK_CUR)
    raise ValueError("it carries no clip record, or is cut short")
