"""What every DAW adapter can do."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class SessionState:
    """What the DAW's open session looked like a moment ago.

    position_samples : the playhead, in samples of the session's rate.
    """

    session: str
    rate_hz: int
    position_samples: int
    tempo_bpm: float
    meter: str
    bar_beat_tick: str
    rolling: bool


@dataclass(frozen=True)
class Placement:
    """Where a clip goes.

    at_samples : position on the timeline at the session's rate; None = the playhead when the clip is placed.
    colour : 0xRRGGBBAA of a track that has to be made; None = the DAW's choice.
    """

    track: str
    at_samples: int | None = None
    colour: int | None = None


@dataclass(frozen=True)
class PlacedRegion:
    """A region as it now lies on the timeline. Positions and lengths are in samples of the session's rate."""

    region_id: str
    name: str
    track: str
    position_samples: int
    length_samples: int


class DawAdapter(Protocol):
    """One DAW. Every method blocks until the DAW has answered and raises AdapterError when it refuses or does not.

    name : what people call the DAW. copies_audio : whether it keeps a copy of its own, so that the file may go.
    """

    name: str
    copies_audio: bool

    def state(self) -> SessionState:
        """The open session."""
        ...

    def place(self, audio: Path, name: str, placement: Placement) -> PlacedRegion:
        """Puts a file on a track as one undo step. The file's stem ends in `_<clip id>`."""
        ...

    def replace(self, clip_ids: list[str], audio: Path) -> list[PlacedRegion]:
        """Exchanges the audio of every region holding one of `clip_ids` as one undo step.

        Position, length, start offset, name, fades, gain, locks and mute stay as they are. `clip_ids` are tried in
        turn; the first of which the timeline holds a region is the one that is replaced.
        """
        ...
