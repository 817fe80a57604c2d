"""`soundctm clips`, `rerender`, `jobs`, `watch`, `cancel`: the library from the shell, and recipes on their way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from command_line import lines, soundctm
from running_daemon import Gate, RunningDaemon, steered
from soundgen.client import Client

SUFFIXES = (".wav", ".flac", ".aiff", ".ogg", ".mp3")


@pytest.fixture
def daemon(models: Path) -> Iterator[RunningDaemon]:
    """With the tiny bundle itself: what it makes depends on the recipe."""
    with RunningDaemon() as running:
        yield running


def made(*arguments: str) -> dict[str, Any]:
    """The last clip that a command made ready."""
    result = soundctm(*arguments, "--json")
    assert result.exit_code == 0, result.stdout + result.stderr
    ready = [line["clip"] for line in lines(result) if line["event"] == "clip_ready"]
    return ready[-1]


def told(*arguments: str) -> Any:
    """The one line of JSON a command prints."""
    result = soundctm(*arguments, "--json")
    assert result.exit_code == 0, result.stdout + result.stderr
    (line,) = lines(result)
    return line


def ids(*arguments: str) -> list[str]:
    return [clip["id"] for clip in told("clips", "list", *arguments)]


@pytest.mark.usefixtures("daemon")
def test_clips_are_named_tagged_noted_and_found_again() -> None:
    rain, dog = (made("generate", prompt, "--seconds=0.5")["id"] for prompt in ("heavy rain", "dog barks"))
    assert told("clips", "tag", rain, "Wet", "roof")["tags"] == ["roof", "wet"]
    assert told("clips", "tag", rain, "loud")["tags"] == ["loud", "roof", "wet"]
    assert told("clips", "tag", rain, "LOUD", "--remove")["tags"] == ["roof", "wet"]
    assert told("clips", "favourite", rain)["favourite"]
    assert told("clips", "note", rain, "for the second scene")["notes"] == "for the second scene"
    assert told("clips", "rename", rain, "Tin roof")["label"] == "Tin roof"
    assert ids() == [dog, rain]
    for filters in (["--tag=wet", "--tag=roof"], ["--favourites"], ["--text=tin"], ["--text=second scene"]):
        assert ids(*filters) == [rain], filters
    assert ids("--tag=wet", "--text=dog") == []
    assert ids("--since=2000-01-01") == [dog, rain]
    assert ids("--since=2999-01-01") == []
    assert told("clips", "favourite", rain, "--off")["favourite"] is False
    shown = soundctm("clips", "list", "--tag=wet").stdout
    assert rain in shown
    assert dog not in shown


@pytest.mark.usefixtures("daemon")
def test_a_deleted_clip_comes_back() -> None:
    rain = made("generate", "rain", "--seconds=0.5")["id"]
    assert told("clips", "delete", rain)["deleted_at"]
    assert ids() == []
    assert ids("--deleted") == [rain]
    assert told("clips", "undelete", rain)["deleted_at"] is None
    assert ids() == [rain]
    assert "brings it back" in soundctm("clips", "delete", rain).stdout


@pytest.mark.usefixtures("daemon")
def test_files_are_imported_with_the_recipe_they_carry(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "door.flac", 0.1 * np.sin(np.arange(4410) / 9.0), 44100)
    door = told("clips", "import", str(tmp_path / "door.flac"), "--tag=Heavy")
    assert (door["label"], door["origin"], door["recipe"], door["tags"]) == ("door", "imported", None, ["heavy"])
    rain = made("generate", "rain", "--seconds=0.5", "--seed=7")
    again = told("clips", "import", rain["path"], "--label=again")
    assert (again["label"], again["recipe"]) == ("again", rain["recipe"])
    for arguments in (["clips", "list"], ["clips", "show", door["id"]]):
        assert door["id"] in soundctm(*arguments).stdout
    refused = soundctm("clips", "recipe", door["id"])
    assert refused.exit_code == 4
    assert "carries no recipe" in refused.stderr
    assert soundctm("clips", "import", str(tmp_path / "nosuch.wav")).exit_code == 4


@pytest.mark.usefixtures("daemon")
def test_clips_are_searched_by_meaning() -> None:
    rain, dog = (made("generate", prompt, "--seconds=0.5")["id"] for prompt in ("heavy rain", "dog barks"))
    hits = told("clips", "search", "dog barks", "--limit=1")
    assert [hit["clip"]["id"] for hit in hits] == [dog]
    assert hits[0]["similarity"] == pytest.approx(1.0, abs=1e-3)
    assert dog in [hit["clip"]["id"] for hit in told("clips", "search", "--like", rain)]
    assert dog in soundctm("clips", "search", "dog barks").stdout
    neither = soundctm("clips", "search")
    assert neither.exit_code == 2
    assert "allowed: exactly one of them" in neither.stderr


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_clip_is_made_again_from_any_file_it_was_exported_to(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"rain{suffix}"
    first = made("generate", "heavy rain é日", "--seconds=0.5", "--steps=2", f"--out={file}")
    again = made("rerender", str(file))
    assert again["recipe"] == first["recipe"]
    assert again["id"] != first["id"]
    assert np.array_equal(soundfile.read(again["path"])[0], soundfile.read(first["path"])[0])


@pytest.mark.usefixtures("daemon")
def test_a_clip_is_made_again_from_its_recipe(tmp_path: Path) -> None:
    first = made("generate", "heavy rain", "--seconds=0.5")
    recipe = tmp_path / "rain.json"
    assert soundctm("clips", "recipe", first["id"], "-o", str(recipe)).exit_code == 0
    assert json.loads(recipe.read_text()) == json.loads(soundctm("clips", "recipe", first["id"]).stdout)
    again = made("rerender", str(recipe), f"--out={tmp_path / 'again.wav'}")
    assert again["recipe"] == first["recipe"]
    assert (tmp_path / "again.wav").read_bytes() == Path(again["path"]).read_bytes()


@pytest.mark.usefixtures("daemon")
def test_weights_that_changed_are_refused_unless_allowed(tmp_path: Path) -> None:
    first = made("generate", "heavy rain", "--seconds=0.5")
    document = json.loads(soundctm("clips", "recipe", first["id"]).stdout)
    document["recipe"]["bundle_digest"] = "0" * 64
    (tmp_path / "other.json").write_text(json.dumps(document))
    refused = soundctm("rerender", str(tmp_path / "other.json"), "--json")
    assert refused.exit_code == 4
    assert lines(refused)[-1]["reason"] == "MODEL_CHANGED"
    again = made("rerender", str(tmp_path / "other.json"), "--allow-other-weights")
    assert "other_weights" in again["findings"]
    assert "other weights" in soundctm("rerender", str(tmp_path / "other.json"), "--allow-other-weights").stdout


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"recipe": null}', b"RIFF\x00\x00", b"\xff" * 64])
def test_a_file_without_a_recipe_is_refused(tmp_path: Path, content: bytes) -> None:
    for name in ("x.json", "x.wav", "x.mp3"):
        (tmp_path / name).write_bytes(content)
        result = soundctm("rerender", str(tmp_path / name))
        assert result.exit_code == 2
        assert "carries no recipe" in result.stderr


@pytest.mark.usefixtures("daemon")
def test_variations_differ_in_their_seed_alone_and_their_files_are_numbered(tmp_path: Path) -> None:
    result = soundctm(
        "generate", "rain", "--seconds=0.5", "--seed=7", "--variations=3", f"--out={tmp_path / 'rain.wav'}", "--json"
    )
    assert result.exit_code == 0
    clips = [line["clip"] for line in lines(result) if line["event"] == "clip_ready"]
    assert sorted(clip["recipe"]["seed"] for clip in clips) == [7, 8, 9]
    exported = [Path(line["path"]) for line in lines(result) if line["event"] == "exported"]
    assert [path.name for path in exported] == ["rain-1.wav", "rain-2.wav", "rain-3.wav"]
    assert [path.read_bytes() for path in exported] == [Path(clip["path"]).read_bytes() for clip in clips]
    assert soundctm("generate", "rain", "--seconds=0.5", "--variations=2").stdout.count("variation: ") == 2
    for other in ("--within=1", "--refine-steps=4"):
        refused = soundctm("generate", "rain", "--variations=2", other)
        assert refused.exit_code == 2
        assert "allowed: one of them" in refused.stderr


@pytest.mark.usefixtures("daemon")
def test_the_best_take_within_a_time_is_one_clip() -> None:
    clip = made("generate", "rain", "--seconds=0.5", "--within=60", "--steps=4")
    assert clip["recipe"]["steps"] == 4
    assert ids() == [clip["id"]]


@pytest.mark.usefixtures("daemon")
def test_a_progressive_refine_tells_every_take(tmp_path: Path) -> None:
    rain = made("generate", "rain", "--seconds=0.5")
    result = soundctm("refine", rain["id"], "--progressive", f"--out={tmp_path / 'best.wav'}", "--json")
    clips = [line["clip"] for line in lines(result) if line["event"] == "clip_ready"]
    assert [clip["recipe"]["steps"] for clip in clips] == [2, 4, 8, 16]
    assert {clip["parent_id"] for clip in clips} == {rain["id"]}
    assert (tmp_path / "best.wav").read_bytes() == Path(clips[-1]["path"]).read_bytes()
    assert soundctm("refine", rain["id"], "--progressive", "--steps=4").exit_code == 2


def test_jobs_are_listed_watched_and_cancelled(models: Path) -> None:
    gate = Gate()
    with RunningDaemon(steered(gate.wait)), Client() as client:
        events = client.generate("rain", seconds=0.5, label="first", keep=True)
        clip_id = next(events).clip_id
        gate.wait_until_reached()
        events.close()
        (job,) = told("jobs")
        assert (job["clip_id"], job["state"], job["label"]) == (clip_id, "running", "first")
        assert clip_id in soundctm("jobs").stdout
        gate.let_through(1000)
        watched = soundctm("watch", clip_id, "--json")
        assert watched.exit_code == 0
        assert lines(watched)[-1]["clip"]["id"] == clip_id
        assert [job["state"] for job in told("jobs", "--ended")] == ["ready"]
        assert told("jobs") == []
        too_late = soundctm("cancel", clip_id)
        assert too_late.exit_code == 2


def test_a_clip_that_was_cancelled_from_elsewhere_says_so(models: Path) -> None:
    gate = Gate()
    with RunningDaemon(steered(gate.wait)), Client() as client:
        events = client.generate("rain", seconds=0.5, steps=4)
        clip_id = next(events).clip_id
        gate.wait_until_reached()
        assert told("cancel", clip_id) == {"event": "cancelled", "clip_id": clip_id}
        gate.let_through(1000)
        watched = soundctm("watch", clip_id, "--json")
        assert watched.exit_code == 130
        assert lines(watched)[-1]["reason"] == "CANCELLED"
        assert [job["state"] for job in told("jobs", "--ended")] == ["failed"]
