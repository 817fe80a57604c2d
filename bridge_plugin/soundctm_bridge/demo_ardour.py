"""`soundctm bridge demo`: a prompt becomes a region in a real Ardour session, is refined in place, and is looked at."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

from soundctm_bridge.ardour_harness import missing_packages
from soundctm_bridge.errors import HarnessError
from soundctm_bridge.rig import Rig

Tell = Callable[[str], None]

_RATE_HZ = 48_000
_TEMPO_BPM = 120.0
_SECONDS = 8.0
_BAR_SAMPLES = 4 * _RATE_HZ * 60 // 120  # one bar of 4/4 at _TEMPO_BPM
_PREVIEW_STEPS, _REFINE_STEPS = 1, 16
_TRACK = "Generated"


def run_demo(out: Path, prompt: str, tell: Tell) -> None:
    """Leaves a saved session, its rendered mix and a screenshot below `out` and tells where they lie.

    Each run gets a numbered folder of its own. Raises HarnessError naming the Debian packages that are missing.
    """
    missing = missing_packages()
    if missing:
        packages = " ".join(missing)
        raise HarnessError(
            f"this needs a real Ardour on a virtual screen; missing Debian packages: {packages}",
            f"install them: apt-get install --no-install-recommends {packages}",
        )
    folder = _new_folder(out.absolute())
    tell(f"Ardour, the daemon and the bridge start in {folder}")
    with Rig(folder, rate_hz=_RATE_HZ, tempo_bpm=_TEMPO_BPM) as rig:
        screenshot = _place_and_refine(rig, prompt, tell)
        rig.live.quit()
    mix = rig.session.render(folder / "mix", _BAR_SAMPLES * 2 + round(_SECONDS * _RATE_HZ))
    tell(f"session:    {rig.session.file}")
    tell(f"mix:        {mix}")
    tell(f"screenshot: {screenshot}")


def _new_folder(out: Path) -> Path:
    number = next(number for number in count(1) if not (out / str(number)).exists())
    folder = out / str(number)
    folder.mkdir(parents=True)
    return folder


def _place_and_refine(rig: Rig, prompt: str, tell: Tell) -> Path:
    with rig.client() as client:
        rig.locate(_BAR_SAMPLES)  # bar 2
        tell(f"/soundctm/generate {prompt!r}: {_PREVIEW_STEPS} jump, at the playhead")
        arguments = (prompt, "steps", _PREVIEW_STEPS, "seconds", _SECONDS, "track", _TRACK)
        preview = client.ask("generate", *arguments).fields
        tell(f"  region '{preview['region']}' on track '{preview['track']}' at sample {preview['position_samples']}")
        tell(f"/soundctm/refine: {_REFINE_STEPS} jumps, in place")
        refined = client.ask("refine", preview["clip_id"], "steps", _REFINE_STEPS).fields
        tell(f"  region '{refined['region']}' now holds {refined['path']}")
    rig.live.show_whole_session()
    return rig.live.screenshot(rig.folder / "screenshot.png")
