"""A stored clip made ready for a session: no constant offset, its rate, short fades, 24 bits, a name for file systems
and for people, and what its file tells of its making."""

import io
import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from soundctm_bridge.errors import PreparationError
from soundgen.chunks import encode_chunk, with_chunks
from soundgen.provenance import IXML_CHUNK, read_chunk

Audio = npt.NDArray[np.float64]  # [samples, channels]

_LARGEST_24_BIT = 1.0 - 2.0**-23
_LARGEST_OFFSET = 0.01    # a mean further from zero than this is heard as a click where the clip is cut
_OFFSET_FILTER_HZ = 10.0  # below all that is heard, and long settled within a clip
_LONGEST_NAME = 60
# UCS: CatID_FXName_CreatorID_SourceID. A generated sound has no recorded category: DSGNMisc is UCS's "designed".
_CATEGORY_ID, _CREATOR_ID = "DSGNMisc", "SOUNDCTM"


@dataclass(frozen=True)
class Fades:
    """Raised-cosine fades at a clip's ends; they keep a cut from clicking and are too short to be heard as fades."""

    in_seconds: float = 0.002
    out_seconds: float = 0.010


@dataclass(frozen=True)
class Prepared:
    """A file ready for the DAW.

    gain_db : 0, unless the clip was turned down so that 24 bits hold its peak.
    """

    path: Path
    samples: int
    rate_hz: int
    channels: int
    gain_db: float


def prepare_clip(source: Path, folder: Path, stem: str, rate_hz: int, fades: Fades = Fades()) -> Prepared:
    """Writes `source` at `rate_hz` with fades as a 24-bit WAV file folder/stem.wav, whole or not at all. It carries the
    recipe of `source`, where that has one.

    Raises PreparationError when the source cannot be read or the file cannot be written.
    """
    try:
        audio, source_rate_hz = soundfile.read(source, dtype="float64", always_2d=True)
        with source.open("rb") as stream:
            ixml = read_chunk(stream, IXML_CHUNK)
    except (soundfile.LibsndfileError, OSError) as error:
        raise PreparationError(f"the clip's audio {source} cannot be read: {error}", "generate it again") from error
    if audio.shape[0] == 0:
        raise PreparationError(f"the clip's audio {source} is empty", "generate it again")
    centred = without_offset(audio, source_rate_hz)
    ready = with_fades(resampled(centred, source_rate_hz, rate_hz), rate_hz, fades)
    peak = float(np.max(np.abs(ready)))
    gain = min(1.0, _LARGEST_24_BIT / peak) if peak > 0 else 1.0
    path = folder / f"{stem}.wav"
    _write_whole(path, _encoded(ready * gain, rate_hz, ixml))
    return Prepared(path, ready.shape[0], rate_hz, ready.shape[1], 20.0 * float(np.log10(gain)))


def without_offset(audio: Audio, rate_hz: int) -> Audio:
    """[samples, channels] as it is, unless its mean lies far from zero: then a high-pass filter takes that away.

    A generated clip's offset may wander, which subtracting its mean would not cure. The mean goes first, so that the
    filter need not settle from it.
    """
    mean = audio.mean(axis=0, keepdims=True)
    if float(np.abs(mean).max()) <= _LARGEST_OFFSET:
        return audio
    from pedalboard import HighpassFilter  # takes a while to import, and few clips need it

    filtered = HighpassFilter(_OFFSET_FILTER_HZ)((audio - mean).T.astype(np.float32), rate_hz)
    return np.asarray(filtered.T, np.float64)


def resampled_length(samples: int, from_hz: int, to_hz: int) -> int:
    """How many samples a clip has after conversion: its duration, rounded to the nearest sample."""
    return (2 * samples * to_hz + from_hz) // (2 * from_hz)


def resampled(audio: Audio, from_hz: int, to_hz: int) -> Audio:
    """[samples, channels] at another rate, by soxr's VHQ recipe; exactly `resampled_length` samples, no delay."""
    if from_hz == to_hz:
        return audio
    length = resampled_length(audio.shape[0], from_hz, to_hz)
    converted: Any = soxr.resample(audio, from_hz, to_hz, quality="VHQ")
    if abs(converted.shape[0] - length) > 1:
        raise PreparationError(
            f"{audio.shape[0]} samples at {from_hz} Hz became {converted.shape[0]} at {to_hz} Hz, expected {length}"
        )
    out = np.zeros((length, audio.shape[1]))
    count = min(length, converted.shape[0])
    out[:count] = converted[:count]
    return out


def with_fades(audio: Audio, rate_hz: int, fades: Fades) -> Audio:
    """A copy of [samples, channels] that starts and ends at zero; in a very short clip a fade takes half of it."""
    out = audio.copy()
    half = audio.shape[0] // 2
    rise, fall = (min(round(seconds * rate_hz), half) for seconds in (fades.in_seconds, fades.out_seconds))
    out[:rise] *= _raised_cosine(rise)[:, np.newaxis]
    out[audio.shape[0] - fall :] *= _raised_cosine(fall)[::-1, np.newaxis]
    return out


def _raised_cosine(samples: int) -> npt.NDArray[np.float64]:
    return 0.5 - 0.5 * np.cos(np.pi * np.arange(samples) / max(samples, 1))


def display_name(prompt: str) -> str:
    """What a person reads on the region: the prompt on one line, without control characters, shortened at a word."""
    visible = "".join(c if c.isprintable() else " " for c in prompt)
    words = " ".join(visible.split())
    if len(words) <= _LONGEST_NAME:
        return words or "Sound"
    return words[:_LONGEST_NAME].rsplit(" ", 1)[0] + "…"


def file_stem(prompt: str, clip_id: str) -> str:
    """A UCS-style file name for a clip; holds ASCII letters, digits, space, `-` and `_` only, and ends in `_<clip id>`.

    Raises PreparationError for a clip id that is no plain word: it becomes part of a path.
    """
    if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", clip_id):
        raise PreparationError(f"the clip id {clip_id!r} cannot be part of a file name: letters, digits and - only")
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode()
    words = re.findall(r"[A-Za-z0-9]+", plain)
    name = " ".join(word.capitalize() for word in words)[:_LONGEST_NAME].strip() or "Sound"
    return f"{_CATEGORY_ID}_{name}_{_CREATOR_ID}_{clip_id}"


@contextmanager
def _removed_on_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        path.unlink()
        raise


def _encoded(audio: Audio, rate_hz: int, ixml: bytes | None) -> bytes:
    """A WAV file; `ixml`, which holds the recipe, goes with it into the session that takes the file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, rate_hz, subtype="PCM_24", format="WAV")
    return with_chunks(buffer.getbuffer(), [], [] if ixml is None else [encode_chunk(IXML_CHUNK, ixml)])


def _write_whole(path: Path, wav: bytes) -> None:
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with part.open("wb") as file, _removed_on_failure(part):
            file.write(wav)
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
    except OSError as error:
        what_to_do = f"look at the free space and the permissions of {path.parent}"
        raise PreparationError(f"the prepared clip {path} cannot be written: {error}", what_to_do) from error
