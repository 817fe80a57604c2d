"""Ardour 7: every job goes through the spool folder to the Lua hook in scripts/ardour."""

from collections.abc import Mapping
from pathlib import Path

from soundctm_bridge.adapters.base import PlacedRegion, Placement, SessionState
from soundctm_bridge.adapters.jobs import Spool, SpoolTimes
from soundctm_bridge.errors import AdapterError


class ArdourAdapter:
    """The DawAdapter for an Ardour whose hook watches `spool`."""

    name = "Ardour"
    copies_audio = True

    def __init__(self, spool: Path, times: SpoolTimes = SpoolTimes()) -> None:  # noqa: B008 (frozen)
        self._spool = Spool(spool, self.name, times)

    def state(self) -> SessionState:
        """The open session. Raises HookSilentError when Ardour is closed or the hook is off."""
        fields = self._spool.state()
        try:
            return SessionState(
                session=fields["session"],
                rate_hz=int(fields["rate_hz"]),
                position_samples=int(fields["position_samples"]),
                tempo_bpm=float(fields["tempo_bpm"]),
                meter=fields["meter"],
                bar_beat_tick=fields["bar_beat_tick"],
                rolling=fields["rolling"] == "1",
            )
        except (KeyError, ValueError) as error:
            raise _version_mismatch("state", error) from error

    def place(self, audio: Path, name: str, placement: Placement) -> PlacedRegion:
        """Puts a file on a track (made where there is none of that name) as one undo step."""
        fields = {"path": str(audio), "name": name, "track": placement.track}
        if placement.at_samples is not None:
            fields["at_samples"] = str(placement.at_samples)
        if placement.colour is not None:
            fields["colour"] = str(placement.colour)
        return _region(self._spool.run("place", fields), "")

    def replace(self, clip_ids: list[str], audio: Path) -> list[PlacedRegion]:
        """Exchanges the audio of the regions that hold the first of `clip_ids` found on the timeline."""
        result = self._spool.run("replace", {"clip_ids": " ".join(clip_ids), "path": str(audio)})
        try:
            count = int(result["regions"])
        except (KeyError, ValueError) as error:
            raise _version_mismatch("replace", error) from error
        return [_region(result, f"_{number}") for number in range(1, count + 1)]


def _region(result: Mapping[str, str], suffix: str) -> PlacedRegion:
    try:
        return PlacedRegion(
            region_id=result["region_id" + suffix],
            name=result["region" + suffix],
            track=result["track" + suffix],
            position_samples=int(result["position_samples" + suffix]),
            length_samples=int(result["length_samples" + suffix]),
        )
    except (KeyError, ValueError) as error:
        raise _version_mismatch("region", error) from error


def _version_mismatch(what: str, error: Exception) -> AdapterError:
    return AdapterError(
        f"the hook's {what} is not in the form this bridge knows: {error!r}",
        "run `soundctm bridge install ardour` so that hook and bridge have one version, and restart Ardour",
    )
