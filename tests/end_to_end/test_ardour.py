"""A prompt on OSC becomes a region in a real Ardour, and its refine takes the region's place.

Real parts throughout: Ardour 7 under Xvfb on its dummy device with the hook on, a bridge process, a daemon process with
the starter bundle. Only the hands that would edit the session in between are a script.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr

from end_to_end.ardour_session import (
    HANDS_VARIABLE,
    Match,
    SavedRegion,
    edit_by_hand,
    find_in_mix,
    saved_regions,
)
from soundctm_bridge.ardour_harness import missing_packages
from soundctm_bridge.osc import send
from soundctm_bridge.osc_client import Answered, AnswerError, OscClient
from soundctm_bridge.processes import wait_until
from soundctm_bridge.rig import Rig

pytestmark = pytest.mark.ardour

RATE_HZ = 48_000
POSITION_SAMPLES = 123_457  # on no block, beat or bar
SECONDS = 3.0
STEPS = 16
FADED_SAMPLES = round(0.010 * RATE_HZ)  # the longer of the two fades a clip is prepared with
PROMPT = "heavy rain on a tin roof"
TRACK = "Generated"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    missing = missing_packages()
    if missing:
        reason = f"a real Ardour under Xvfb is needed; missing Debian packages: {' '.join(missing)}"
        if os.environ.get("SOUNDCTM_REQUIRE_ARDOUR") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("ardour")
    hands = (Path(__file__).parent / "hands.lua").read_text()
    environment = {HANDS_VARIABLE: str(folder / "hands")}
    with Rig(folder, rate_hz=RATE_HZ, extra_hooks={"Hands": hands}, ardour_environment=environment) as started:
        yield started


@pytest.fixture
def client(rig: Rig) -> Iterator[OscClient]:
    with rig.client() as opened:
        yield opened


@dataclass(frozen=True)
class Story:
    """What happened: generate at the playhead, an edit by hand, refine, undo, redo; with the session after each."""

    preview: Answered
    refined: Answered
    placed_region: SavedRegion
    after_edit: list[SavedRegion]
    after_refine: list[SavedRegion]
    after_undo: list[SavedRegion]
    after_redo: list[SavedRegion]
    preview_match: Match
    refined_match: Match
    refined_against_preview: Match


@pytest.fixture(scope="module")
def story(rig: Rig) -> Story:
    with rig.client() as client:
        rig.locate(POSITION_SAMPLES)
        preview = client.ask("generate", PROMPT, "seconds", SECONDS, "steps", 1, "seed", 4711, "track", TRACK)
        (placed_region,) = save_and_read(rig, TRACK)
        preview_mix = render(rig, "preview")
        edit_by_hand(rig, rig.folder / "hands", for_region(PROMPT, "region:set_locked (true)"))
        after_edit = save_and_read(rig, TRACK)
        refined = client.ask("refine", preview.fields["clip_id"], "steps", STEPS)
    after_refine = save_and_read(rig, TRACK)
    refined_mix = render(rig, "refined")
    after_undo = undo(rig, TRACK, after_refine)
    rig.live.osc("/redo")
    after_redo = wait_for_change(rig, TRACK, after_undo)
    return Story(
        preview,
        refined,
        placed_region,
        after_edit,
        after_refine,
        after_undo,
        after_redo,
        find_in_mix(preview_mix, at_session_rate(preview), FADED_SAMPLES),
        find_in_mix(refined_mix, at_session_rate(refined), FADED_SAMPLES),
        find_in_mix(refined_mix, at_session_rate(preview), FADED_SAMPLES),
    )


def test_events_tell_the_clips_way(story: Story) -> None:
    names = [name for name, _ in story.preview.events]
    assert names == ["queued", "started", "jump", "clip", "placed"]
    jumps = [values[1:] for name, values in story.refined.events if name == "jump"]
    assert jumps == [[done, STEPS] for done in range(1, STEPS + 1)]


def test_the_saved_session_names_the_clip_at_the_playhead(story: Story) -> None:
    region = story.placed_region
    assert (region.name, region.track) == (PROMPT, TRACK)
    assert region.position_samples == POSITION_SAMPLES
    assert region.length_samples == round(SECONDS * RATE_HZ)
    assert str(story.preview.fields["clip_id"]) in region.source


def test_the_render_holds_the_preview_to_the_sample(story: Story) -> None:
    assert story.preview_match.lag_samples == POSITION_SAMPLES
    assert story.preview_match.correlation > 0.9999


def test_refine_replaces_the_audio_and_nothing_else(story: Story) -> None:
    (old,), (new,) = story.after_edit, story.after_refine
    assert old.locked and old.fade_in and old.fade_out  # there was something to keep
    assert new.dress() == old.dress()
    assert new.source != old.source
    assert str(story.refined.fields["clip_id"]) in new.source
    assert story.refined.fields["steps"] == STEPS
    assert story.refined.fields["seed"] == story.preview.fields["seed"]


def test_the_render_holds_the_refined_take_to_the_sample(story: Story) -> None:
    assert story.refined_match.lag_samples == POSITION_SAMPLES
    assert story.refined_match.correlation > 0.9999
    assert story.refined_against_preview.correlation < 0.9999


def test_one_undo_brings_the_preview_back_and_one_redo_the_take(story: Story) -> None:
    assert story.after_undo == story.after_edit
    assert story.after_redo == story.after_refine


def test_refine_keeps_what_a_person_changed(rig: Rig, client: OscClient) -> None:
    track = "Edited"
    at = ("seconds", 2.0, "track", track, "at", 48_000)
    preview = client.ask("generate", "a dog barks twice", *at)
    edits = """
        region:set_name ("Rex")
        region:set_position (Temporal.timepos_t (100001))
        region:trim_front (Temporal.timepos_t (105000))
        region:trim_end (Temporal.timepos_t (150000))
        region:set_sync_position (Temporal.timepos_t (120000))
        region:set_muted (true)
        local audio = region:to_audioregion ()
        audio:set_scale_amplitude (0.5)
        audio:set_fade_in_length (4800)
        audio:set_fade_in_shape (ARDOUR.FadeShape.FadeSlow)
        audio:set_fade_out_length (9600)
        audio:set_fade_out_shape (ARDOUR.FadeShape.FadeSymmetric)
        audio:set_fade_out_active (false)
        audio:envelope ():list ():add (Temporal.timepos_t (20000), 0.25, false, false)
        audio:set_envelope_active (true)
    """
    edit_by_hand(rig, rig.folder / "hands", for_region("a dog barks twice", edits))
    (before,) = save_and_read(rig, track)
    assert (before.name, before.position_samples, before.start_samples) == ("Rex", 105_000, 4_999)
    assert before.envelope and before.envelope_active

    refined = client.ask("refine", preview.fields["clip_id"], "steps", 2)

    (after,) = save_and_read(rig, track)
    assert after.dress() == before.dress()
    assert str(refined.fields["clip_id"]) in after.source
    assert undo(rig, track, [after]) == [before]


def test_refine_finds_every_copy_and_a_take_of_a_take(rig: Rig, client: OscClient) -> None:
    track = "Copies"
    preview = client.ask("generate", "knock on a door", "seconds", 1.0, "track", track, "at", 0)
    copy = """
        local again = ARDOUR.RegionFactory.clone_region (region, true, false)
        playlist:add_region (again, Temporal.timepos_t (96000), 1, false)
    """
    edit_by_hand(rig, rig.folder / "hands", for_region("knock on a door", copy))
    refined = client.ask("refine", preview.fields["clip_id"], "steps", 2)
    assert refined.fields["regions"] == 2
    again = client.ask("refine", preview.fields["clip_id"], "steps", 3)  # the timeline holds its other take now
    regions = save_and_read(rig, track)
    assert [region.position_samples for region in regions] == [0, 96_000]
    assert all(str(again.fields["clip_id"]) in region.source for region in regions)


def test_a_stored_clip_is_placed_where_it_is_asked_for(rig: Rig, client: OscClient) -> None:
    made = client.ask("generate", "wind", "seconds", 1.0, "place", 0)
    assert "region" not in made.fields
    placed = client.ask("place", made.fields["clip_id"], "track", "Shelf", "at", 31_415)
    (region,) = save_and_read(rig, "Shelf")
    assert placed.fields["position_samples"] == region.position_samples == 31_415
    (left,) = save_and_read(rig, "Shelf")
    assert undo(rig, "Shelf", [left]) == []


def test_refining_what_no_track_holds_says_so(client: OscClient) -> None:
    made = client.ask("generate", "wind", "seconds", 1.0, "place", 0)
    with pytest.raises(AnswerError, match="no track holds a region of the clip") as caught:
        client.ask("refine", made.fields["clip_id"], "steps", 2)
    assert caught.value.reason == "NO_REGION"
    assert "place the clip first" in caught.value.what_to_do


def test_the_daemons_refusals_reach_the_client(client: OscClient) -> None:
    with pytest.raises(AnswerError, match="steps") as caught:
        client.ask("generate", "wind", "steps", 10_000)
    assert caught.value.reason == "INVALID_REQUEST"


def test_the_bridge_outlives_hostile_packets(rig: Rig, client: OscClient) -> None:
    send(rig.osc_port, "/" + "*" * 300, [])
    assert client.ask("status").fields["daemon"] == "serving"


def for_region(name: str, edits: str) -> str:
    """Lua that runs `edits` for the region of a name, with `region` and its `playlist` at hand."""
    return f"""
        local found = false
        for route in Session:get_tracks ():iter () do
            local playlist = route:to_track ():playlist ()
            for region in playlist:region_list ():iter () do
                if region:name () == "{name}" and not found then
                    found = true
                    {edits}
                end
            end
        end
        assert (found, "no region {name}")
    """


def save_and_read(rig: Rig, track: str) -> list[SavedRegion]:
    rig.live.save()
    return [region for region in saved_regions(rig.session.file, RATE_HZ) if region.track == track]


def undo(rig: Rig, track: str, before: list[SavedRegion]) -> list[SavedRegion]:
    """One undo; what the track then holds."""
    rig.live.osc("/undo")
    return wait_for_change(rig, track, before)


def wait_for_change(rig: Rig, track: str, before: list[SavedRegion]) -> list[SavedRegion]:
    def changed() -> tuple[list[SavedRegion]] | None:
        now = save_and_read(rig, track)
        return None if now == before else (now,)  # a tuple: an empty track is an answer too

    return wait_until(f"the regions of track {track} to change", changed, 60.0)[0]


def render(rig: Rig, name: str) -> Path:
    """A headless render of the session as it was saved last."""
    end_samples = POSITION_SAMPLES + round((SECONDS + 1) * RATE_HZ)
    return rig.session.render(rig.folder / "renders" / name, end_samples, rig.session.keep_snapshot(name))


def at_session_rate(answered: Answered) -> npt.NDArray[np.float64]:
    """The daemon's own file for a clip, at the session's rate: what the timeline should hold."""
    audio, rate_hz = soundfile.read(str(answered.fields["path"]), dtype="float64", always_2d=True)
    converted: npt.NDArray[np.float64] = soxr.resample(audio[:, 0], rate_hz, RATE_HZ, quality="VHQ")
    return converted
