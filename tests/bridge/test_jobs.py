"""The spool folder: whole jobs, one at a time, each done once or not at all, and errors that say why."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bridge.fakes import FakeHook, hook_state
from soundctm_bridge.adapters.ardour import ArdourAdapter
from soundctm_bridge.adapters.base import PlacedRegion, Placement
from soundctm_bridge.adapters.jobs import Spool, SpoolTimes, read_fields, write_fields
from soundctm_bridge.errors import AdapterError, HookSilentError, JobFailedError

SHORT = SpoolTimes(state_age_seconds=10.0, take_seconds=0.05, answer_seconds=0.05)
REGION = {"region_id": "7", "region": "Rain", "track": "T", "position_samples": "12", "length_samples": "34"}


def test_fields_survive_whatever_they_hold() -> None:
    fields = {"a": "", "b": "100% = x\ny\r\tz", "c": "雨 — ünïcode", "d": "\x1f\x7f%41"}
    assert read_fields(write_fields(fields)) == fields
    assert write_fields({"a": "x\ny"}).count("\n") == 1


def test_a_key_that_is_no_word_is_refused() -> None:
    with pytest.raises(ValueError, match="is no key"):
        write_fields({"a\nverb": "x"})


def test_a_placed_clip_comes_back_as_a_region(tmp_path: Path) -> None:
    with FakeHook(tmp_path, lambda job: {"ok": "1"} | REGION) as hook:
        region = ArdourAdapter(tmp_path).place(Path("/x/rain_ab.wav"), "Rain\n100%", Placement("T", at_samples=12))
    assert region == PlacedRegion("7", "Rain", "T", 12, 34)
    (job,) = hook.jobs
    assert (job["verb"], job["path"], job["name"], job["track"]) == ("place", "/x/rain_ab.wav", "Rain\n100%", "T")
    assert job["at_samples"] == "12"
    assert list(tmp_path.iterdir()) == [tmp_path / "job.taken"]  # the fake's own; a result is removed when read


def test_the_playhead_is_left_to_the_hook(tmp_path: Path) -> None:
    with FakeHook(tmp_path, lambda job: {"ok": "1"} | REGION) as hook:
        ArdourAdapter(tmp_path).place(Path("/x.wav"), "n", Placement("T"))
    assert "at_samples" not in hook.jobs[0]


def test_every_replaced_region_comes_back(tmp_path: Path) -> None:
    answer = {"ok": "1", "regions": "2"}
    for number in ("1", "2"):
        answer |= {f"{key}_{number}": value for key, value in REGION.items()}
    with FakeHook(tmp_path, lambda job: answer) as hook:
        regions = ArdourAdapter(tmp_path).replace(["ab", "cd"], Path("/x.wav"))
    assert len(regions) == 2
    assert hook.jobs[0]["clip_ids"] == "ab cd"


def test_the_hooks_own_error_keeps_its_words(tmp_path: Path) -> None:
    answer = {"ok": "0", "code": "no_region", "message": "no track holds it", "what_to_do": "place it first"}
    with FakeHook(tmp_path, lambda job: answer), pytest.raises(JobFailedError) as caught:
        ArdourAdapter(tmp_path).replace(["ab"], Path("/x.wav"))
    assert (caught.value.reason, caught.value.message, caught.value.what_to_do) == (
        "NO_REGION",
        "no track holds it",
        "place it first",
    )


def test_an_answer_in_another_form_asks_for_one_version(tmp_path: Path) -> None:
    with FakeHook(tmp_path, lambda job: {"ok": "1"}), pytest.raises(AdapterError, match="install ardour"):
        ArdourAdapter(tmp_path).place(Path("/x.wav"), "n", Placement("T"))


def test_a_job_nobody_takes_is_withdrawn(tmp_path: Path) -> None:
    with pytest.raises(HookSilentError, match="is Ardour open with a session and the SoundCTM hook enabled"):
        Spool(tmp_path, "Ardour", SHORT).run("place", {})
    assert list(tmp_path.iterdir()) == []  # so it can never be done later


def test_a_job_taken_but_not_finished_says_so(tmp_path: Path) -> None:
    class Asleep(FakeHook):
        def _serve(self) -> None:
            while not self._stop.wait(0.001):
                if (self._folder / "job").exists():
                    (self._folder / "job").rename(self._folder / "job.taken")

    with Asleep(tmp_path, lambda job: {}), pytest.raises(HookSilentError, match="took the job but did not finish"):
        Spool(tmp_path, "Ardour", SpoolTimes(take_seconds=30.0, answer_seconds=0.05)).run("place", {})


def test_a_waiting_job_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "job").write_text(write_fields({"id": "other", "expires_unix_seconds": str(int(time.time()) + 60)}))
    with pytest.raises(HookSilentError, match="an earlier job still waits"):
        Spool(tmp_path, "Ardour", SHORT).run("place", {})
    assert read_fields((tmp_path / "job").read_text())["id"] == "other"


def test_an_expired_job_of_a_killed_bridge_makes_room(tmp_path: Path) -> None:
    (tmp_path / "job").write_text(write_fields({"id": "other", "expires_unix_seconds": "1"}))
    with FakeHook(tmp_path / "elsewhere", lambda job: {}), pytest.raises(HookSilentError):
        Spool(tmp_path, "Ardour", SHORT).run("place", {})
    assert not (tmp_path / "job").exists()


def test_a_job_says_when_it_expires(tmp_path: Path) -> None:
    with FakeHook(tmp_path, lambda job: {"ok": "1"}) as hook:
        Spool(tmp_path, "Ardour").run("place", {})
    assert time.time() < int(hook.jobs[0]["expires_unix_seconds"]) < time.time() + 60


def test_the_state_is_read_as_values(tmp_path: Path) -> None:
    hook_state(tmp_path, session="My 100%\nsession", rolling="1")
    state = ArdourAdapter(tmp_path).state()
    assert (state.session, state.rate_hz, state.position_samples) == ("My 100%\nsession", 48_000, 96_000)
    assert (state.tempo_bpm, state.meter, state.bar_beat_tick, state.rolling) == (120.0, "4/4", "2|1|0", True)


def test_an_absent_or_old_state_means_a_silent_hook(tmp_path: Path) -> None:
    with pytest.raises(HookSilentError, match="never written its state"):
        ArdourAdapter(tmp_path).state()
    hook_state(tmp_path)
    os.utime(tmp_path / "state", (0, 0))
    with pytest.raises(HookSilentError, match="s old"):
        ArdourAdapter(tmp_path).state()


def test_a_broken_state_asks_for_one_version(tmp_path: Path) -> None:
    hook_state(tmp_path, rate_hz="fast")
    with pytest.raises(AdapterError, match="one version"):
        ArdourAdapter(tmp_path).state()


def test_the_spool_is_its_users_alone(tmp_path: Path) -> None:
    Spool(tmp_path / "spool", "Ardour")
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0


def test_a_spool_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AdapterError, match=r"file/spool cannot be written.*SOUNDCTM_BRIDGE_SPOOL"):
        Spool(tmp_path / "file" / "spool", "Ardour")


def test_a_spool_folder_that_went_away_is_named(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", "Ardour", SHORT)
    (tmp_path / "spool").rmdir()
    with pytest.raises(AdapterError, match="spool cannot be written"):
        spool.run("place", {})
