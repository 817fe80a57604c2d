"""Audio files of any kind -> mono at 44.1 kHz, or the reason why not."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from soundctm_training.data.clips import SAMPLE_RATE_HZ, Audio, Clip, Reason, Skipped

SUFFIXES = frozenset((".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64"))
_LEAST_RATE_HZ, _MOST_RATE_HZ = 1000, 768_000
_PART_SAMPLES = 1 << 20
_END_OF_STREAM = 0x04  # flag of an Ogg page's header (RFC 3533, section 6)
_LARGEST_PAGE_BYTES = 65_307
_UNSTATED_RIFF_BYTES = 0x7FFF_0000  # writers that stream put such a size, for they do not know it


@dataclass(frozen=True)
class Limits:
    """What a usable clip is. `silence` is a peak, full scale being 1."""

    shortest_seconds: float
    longest_seconds: float
    silence: float


def read_clip(
    name: str, caption: str, read_bytes: Callable[[], bytes], limits: Limits, thing: str = ""
) -> Clip | Skipped:
    """A clip out of a file's bytes; channels are averaged, values clamped to -1..1."""
    if not caption.strip():
        return Skipped(name, Reason.NO_CAPTION)
    try:
        content = read_bytes()
    except OSError as error:
        return Skipped(name, Reason.UNREADABLE, str(error))
    audio = decode(name, content, limits.longest_seconds)
    return audio if isinstance(audio, Skipped) else check_clip(Clip(audio, caption.strip(), name, thing), limits)


def decode(name: str, content: bytes, longest_seconds: float) -> Audio | Skipped:
    """Bytes of an audio file -> float32 [samples], mono at 44.1 kHz, clamped to -1..1."""
    if not content:
        return Skipped(name, Reason.EMPTY, "the file has no bytes")
    if content[:4] == b"OggS" and not _ogg_ends(content):
        return Skipped(name, Reason.TRUNCATED, "its last Ogg page does not end the stream")
    if content[:4] == b"RIFF" and len(content) + 8 < _riff_bytes(content) < _UNSTATED_RIFF_BYTES:
        return Skipped(name, Reason.TRUNCATED, f"{len(content)} of the {_riff_bytes(content)} bytes its header states")
    try:
        with soundfile.SoundFile(_Bytes(content)) as file:
            rate_hz, stated = file.samplerate, file.frames
            if not _LEAST_RATE_HZ <= rate_hz <= _MOST_RATE_HZ:
                return Skipped(name, Reason.UNREADABLE, f"its sample rate is {rate_hz} Hz")
            wanted = min(stated, int(longest_seconds * rate_hz))
            mono = _read_mono(file, wanted)
    except (soundfile.SoundFileError, RuntimeError, OSError, ValueError) as error:
        return Skipped(name, Reason.UNREADABLE, str(error))
    if len(mono) < wanted:
        return Skipped(name, Reason.TRUNCATED, f"{len(mono)} of {wanted} samples")
    if not len(mono):
        return Skipped(name, Reason.EMPTY, "it holds no sample")
    if not np.isfinite(mono).all():
        return Skipped(name, Reason.NOT_FINITE, f"{int((~np.isfinite(mono)).sum())} samples are NaN or infinite")
    resampled: Audio = soxr.resample(mono, rate_hz, SAMPLE_RATE_HZ).astype(np.float32)
    return resampled.clip(-1, 1)


class _Bytes(io.BytesIO):
    """A damaged header can ask for a place before the beginning: libsndfile then hears that nothing moved."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


def _read_mono(file: soundfile.SoundFile, wanted: int) -> Audio:
    """The mean of the channels, part by part: a damaged header may state any number of samples."""
    parts, read = [np.zeros(0, np.float32)], 0
    while read < wanted:
        part = file.read(min(_PART_SAMPLES, wanted - read), dtype="float32", always_2d=True)
        if not len(part):
            break
        parts.append(part.mean(axis=1))
        read += len(part)
    return np.concatenate(parts)


def check_clip(clip: Clip, limits: Limits) -> Clip | Skipped:
    seconds = len(clip.audio) / SAMPLE_RATE_HZ
    if seconds < limits.shortest_seconds:
        return Skipped(clip.name, Reason.TOO_SHORT, f"{seconds:.3f} s; at least {limits.shortest_seconds} s")
    peak = float(np.abs(clip.audio).max())
    if peak < limits.silence:
        return Skipped(clip.name, Reason.SILENT, f"its peak is {peak:.1e} of full scale")
    return clip


def file_reader(path: Path) -> Callable[[], bytes]:
    return path.read_bytes


def _ogg_ends(content: bytes) -> bool:
    """Whether the last page ends its stream: what a file cut anywhere has lost."""
    last = content.rfind(b"OggS", max(0, len(content) - _LARGEST_PAGE_BYTES))
    return last >= 0 and len(content) > last + 5 and bool(content[last + 5] & _END_OF_STREAM)


def _riff_bytes(content: bytes) -> int:
    return int.from_bytes(content[4:8], "little") + 8
