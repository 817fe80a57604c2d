"""What a saved Ardour session says, what its render holds, and a person's edits in a live one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import numpy as np
import numpy.typing as npt
import soundfile

from soundctm_bridge.processes import wait_until
from soundctm_bridge.rig import Rig

HANDS_VARIABLE = "SOUNDCTM_TEST_HANDS"
_TICKS_PER_SECOND = 282_240_000  # Ardour 7's superclock
_EDIT_SECONDS = 60.0


@dataclass(frozen=True)
class SavedRegion:
    """A region as a session file has it; positions and lengths in samples, fades as their lists of points."""

    id: str
    name: str
    track: str
    source: str
    position_samples: int
    start_samples: int
    length_samples: int
    locked: bool
    muted: bool
    gain: float
    layer: int
    fade_in: tuple[tuple[int, float], ...]
    fade_out: tuple[tuple[int, float], ...]
    fades_active: tuple[bool, bool]
    envelope: tuple[tuple[int, float], ...]
    envelope_active: bool
    sync_samples: int | None

    def dress(self) -> tuple[Any, ...]:
        """Everything a refine has to keep: all but the identity and the audio."""
        kept = {key: value for key, value in vars(self).items() if key not in ("id", "source")}
        return tuple(sorted(kept.items(), key=lambda item: item[0]))


def saved_regions(session_file: Path, rate_hz: int) -> list[SavedRegion]:
    """Every region on a playlist of a saved session."""
    root = Xml.parse(session_file).getroot()
    sources = {source.get("id"): source.get("name", "") for source in root.iter("Source")}
    return [
        _region(element, playlist.get("name", ""), sources, rate_hz)
        for playlist in root.iterfind("Playlists/Playlist")
        for element in playlist.iterfind("Region")
    ]


def _region(element: Xml.Element, track: str, sources: dict[str | None, str], rate_hz: int) -> SavedRegion:
    sync_marked = element.attrib["sync-marked"] == "1"
    length, position = (_samples(part, rate_hz) for part in element.attrib["length"].split("@"))
    return SavedRegion(
        id=element.attrib["id"],
        name=element.attrib["name"],
        track=track,
        source=sources[element.attrib["source-0"]],
        position_samples=position,
        start_samples=_samples(element.attrib["start"], rate_hz),
        length_samples=length,
        locked=element.attrib["locked"] == "1",
        muted=element.attrib["muted"] == "1",
        gain=float(element.attrib["scale-amplitude"]),
        layer=int(element.attrib["layering-index"]),
        fade_in=_points(element, "FadeIn"),
        fade_out=_points(element, "FadeOut"),
        fades_active=(element.attrib["fade-in-active"] == "1", element.attrib["fade-out-active"] == "1"),
        envelope=_envelope(element),
        envelope_active=element.attrib["envelope-active"] == "1",
        sync_samples=_samples(element.attrib["sync-position"], rate_hz) if sync_marked else None,
    )


def _samples(time: str, rate_hz: int) -> int:
    assert time.startswith("a"), f"{time} is in musical time"
    samples, rest = divmod(int(time[1:]) * rate_hz, _TICKS_PER_SECOND)
    assert rest == 0, f"{time} lies between two samples"
    return samples


def _envelope(element: Xml.Element) -> tuple[tuple[int, float], ...]:
    """The points of the gain curve; none where it is flat at 1, which Ardour writes in several ways."""
    points = _points(element, "Envelope")
    return () if all(gain == 1.0 for _, gain in points) else points


def _points(element: Xml.Element, curve: str) -> tuple[tuple[int, float], ...]:
    events = element.findtext(f"{curve}/AutomationList/events") or ""
    points = (line.split() for line in events.splitlines() if line.strip())
    return tuple((int(when[1:]), float(value)) for when, value in points)


def edit_by_hand(rig: Rig, file: Path, lua: str) -> None:
    """Runs Lua inside the live Ardour, as if a person had done it there. Fails with Ardour's words."""
    result = file.with_name(file.name + ".result")
    part = file.with_name(file.name + ".part_in")
    part.write_text(lua)
    part.replace(file)
    wait_until(f"Ardour to run an edit (see {rig.folder})", result.is_file, _EDIT_SECONDS)
    said = result.read_text()
    result.unlink()
    assert said == "ok", said


@dataclass(frozen=True)
class Match:
    """lag_samples : where in the mix the clip starts. correlation : from the end of its fade in to its fade out."""

    lag_samples: int
    correlation: float


def find_in_mix(mix_file: Path, clip: npt.NDArray[np.float64], faded_samples: int) -> Match:
    """Where a mono clip lies in a render's left channel, and how well it matches there between its fades."""
    clip = clip[faded_samples : clip.size - faded_samples]
    mix = soundfile.read(mix_file, dtype="float64", always_2d=True)[0][:, 0]
    size = 1 << (mix.size + clip.size).bit_length()
    products = np.fft.irfft(np.fft.rfft(mix, size) * np.conj(np.fft.rfft(clip, size)), size)[: mix.size]
    lag = int(np.argmax(np.abs(products)))
    there = mix[lag : lag + clip.size]
    return Match(lag - faded_samples, float(np.corrcoef(there, clip[: there.size])[0, 1]))
