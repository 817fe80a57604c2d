"""`soundctm generate`, `refine`, `clips`: what they print and the codes they exit with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import soundfile
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from command_line import lines, soundctm
from running_daemon import PATIENCE_SECONDS, Gate, RunningDaemon, steered
from scripted_daemon import ScriptedDaemon, failed, ready
from soundctm.familiarity import Familiarity
from soundgen import cli_shared
from soundgen.client import Client
from soundgen.errors import DETAILS_KEY
from soundgen.v1 import generation_service_pb2


@pytest.fixture
def daemon(models: Path) -> Iterator[RunningDaemon]:
    with RunningDaemon(steered()) as running:
        yield running


@pytest.mark.usefixtures("daemon")
def test_a_preview_and_its_refine_are_made_and_exported(tmp_path: Path) -> None:
    out = tmp_path / "clip.wav"
    result = soundctm("generate", "rain", "--seconds=0.5", "--seed=7", "--refine-steps=4", f"--out={out}", "--json")
    assert result.exit_code == 0
    events = lines(result)
    ready = [event["clip"] for event in events if event["event"] == "clip_ready"]
    assert [clip["recipe"]["steps"] for clip in ready] == [1, 4]
    assert ready[1]["parent_id"] == ready[0]["id"]
    assert [event["event"] for event in events if event["event"] != "queued"] == [
        "started", "jump", "clip_ready", "started", *["jump"] * 4, "clip_ready", "exported",
    ]  # fmt: skip
    assert out.read_bytes() == Path(ready[1]["path"]).read_bytes()


@pytest.mark.usefixtures("daemon")
def test_people_are_told_path_length_time_and_seed() -> None:
    result = soundctm("generate", "rain [/red] on a roof", "--seconds=0.5", "--seed=7", "--refine-steps=4")
    assert result.exit_code == 0
    with Client() as client:
        refined, preview = client.clips().clips
    for clip in (preview, refined):
        assert str(clip.path) in result.stdout
        assert clip.id in result.stdout
    assert "0.50 s of sound, 1 jump in" in result.stdout
    assert "0.50 s of sound, 4 jumps in" in result.stdout
    assert "seed 7" in result.stdout


def test_an_unfamiliar_prompt_is_told_with_the_nearest_thing_known(models: Path) -> None:
    with RunningDaemon(steered(familiarity=Familiarity("rain", 0.21, 0.45))):
        shown = soundctm("generate", "quarterly earnings", "--seconds=0.5")
        scripted = soundctm("generate", "quarterly earnings", "--seconds=0.5", "--json")
    assert "nothing like this prompt; the nearest it knows is 'rain' (similarity 0.21" in shown.stdout
    clip = lines(scripted)[-1]["clip"]
    assert clip["findings"] == ["unfamiliar_prompt"]
    assert clip["familiarity"] == {"nearest": "rain", "similarity": 0.21, "threshold": 0.45}


@pytest.mark.usefixtures("daemon")
def test_clips_are_listed_shown_and_exported(tmp_path: Path) -> None:
    made = lines(soundctm("generate", "rain", "--seconds=0.5", "--json"))[-1]["clip"]
    refined = lines(soundctm("refine", made["id"], "--steps=2", "--json"))[-1]["clip"]
    (listed,) = lines(soundctm("clips", "list", "--json", "--limit=1"))
    assert [clip["id"] for clip in listed] == [refined["id"]]
    assert refined["id"] in soundctm("clips", "list").stdout
    assert json.loads(soundctm("clips", "show", made["id"], "--json").stdout) == made
    assert json.loads(soundctm("clips", "show", made["id"]).stdout) == made
    assert soundctm("clips", "export", made["id"], str(tmp_path / "x.wav")).exit_code == 0
    assert soundfile.info(tmp_path / "x.wav").frames == 22050


@pytest.mark.usefixtures("daemon")
def test_a_clip_is_exported_in_the_format_its_suffix_names(tmp_path: Path) -> None:
    made = lines(soundctm("generate", "rain", "--seconds=0.5", "--json"))[-1]["clip"]
    stored, rate_hz = soundfile.read(made["path"])
    for name, kind in (("a.flac", "FLAC"), ("a.AIFF", "AIFF"), ("a.ogg", "OGG"), ("a.mp3", "MP3")):
        assert soundctm("clips", "export", made["id"], str(tmp_path / name)).exit_code == 0
        info = soundfile.info(tmp_path / name)
        assert (info.format, info.samplerate) == (kind, rate_hz)
    flac, _ = soundfile.read(tmp_path / "a.flac")
    scale = max(1.0, float(np.abs(stored).max()))  # integers end at full scale
    assert np.abs(flac * scale - stored).max() <= scale * 2.0**-23  # one step of 24 bits
    assert sorted(path.name for path in tmp_path.glob("a.*")) == ["a.AIFF", "a.flac", "a.mp3", "a.ogg"]
    assert not list(tmp_path.glob(".soundctm-*"))


@pytest.mark.parametrize("name", ["a.xyz", "a"])
def test_an_unknown_format_is_refused_before_anything_is_made(tmp_path: Path, name: str) -> None:
    result = soundctm("generate", "rain", "--out", str(tmp_path / name))
    assert result.exit_code == 2
    assert "allowed: .wav" in result.stderr
    assert ".flac, .aiff, .ogg, .mp3" in result.stderr


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["generate", ""], "prompt is empty; allowed: 1 to 1000 characters"),
        (["generate", "x" * 10_000], "prompt is 10000 characters long; allowed: at most 1000"),
        (["generate", "rain", "--steps=0"], "steps is 0; allowed: a whole number from 1 to 64"),
        (["generate", "rain", "--steps=10000"], "steps is 10000; allowed: a whole number from 1 to 64"),
        (["generate", "rain", "--steps=-1"], "steps is -1; allowed: a whole number from 0"),
        (["generate", "rain", "--omega=77"], "omega is 77.0; allowed: 1 to 5"),
        (["generate", "rain", "--seconds=nan"], "seconds is nan; allowed: 0.5 to 10"),
        (["generate", "rain", "--model=nosuch"], "known models: tiny, starter"),
        (["refine", "nosuchclip"], "no clip has the id 'nosuchclip'"),
        (["clips", "show", "nosuchclip"], "no clip has the id 'nosuchclip'"),
    ],
)
def test_a_bad_request_exits_2_and_says_what_is_allowed(arguments: list[str], said: str) -> None:
    result = soundctm(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    failed = lines(soundctm(*arguments, "--json"))[-1]
    assert failed["event"] == "failed"
    assert said in failed["message"]


@pytest.mark.usefixtures("daemon")
def test_half_a_step_exits_2_and_says_so() -> None:
    result = soundctm("generate", "rain", "--steps=1.5")
    assert result.exit_code == 2
    assert "'1.5' is no whole number" in result.stderr


def test_a_failed_generation_exits_4(models: Path) -> None:
    with RunningDaemon(steered(amplitude=float("nan"))):
        result = soundctm("generate", "rain", "--json")
    assert result.exit_code == 4
    assert lines(result)[-1]["reason"] == "NON_FINITE_AUDIO"


@pytest.mark.usefixtures("daemon")
def test_a_file_that_cannot_be_written_exits_4(tmp_path: Path) -> None:
    result = soundctm("generate", "rain", "--seconds=0.5", f"--out={tmp_path}/no/such/folder/x.wav", "--json")
    assert result.exit_code == 4
    assert lines(result)[-1]["reason"] == "FILE_NOT_WRITTEN"


def test_a_daemon_that_cannot_start_exits_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDCTM_PORT", "many")
    result = soundctm("generate", "rain", "--json")
    assert result.exit_code == 3
    assert lines(result)[-1]["reason"] == "DAEMON_DID_NOT_START"
    assert "port is 'many' in the environment; allowed: " in lines(result)[-1]["message"]


def test_a_daemon_that_is_stopped_ends_the_command_and_exits_3(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli_shared._RECONNECT_SECONDS <= 5.0  # somebody sits before it
    monkeypatch.setattr(cli_shared, "_RECONNECT_SECONDS", 0.0)
    gate = Gate()
    with RunningDaemon(steered(gate.wait), drain_seconds=0) as daemon, ThreadPoolExecutor(1) as shell:
        command = shell.submit(soundctm, "generate", "rain", "--steps=16", "--seconds=0.5", "--json")
        gate.wait_until_reached()
        daemon.request_stop()
        daemon.wait_until_told_to_stop()
        gate.let_through()
        result = command.result(PATIENCE_SECONDS)
    assert result.exit_code == 3
    assert lines(result)[-1]["reason"] == "DAEMON_STOPPING"


def ctrl_c(gate: Gate, *options: str) -> subprocess.CompletedProcess[str]:
    """`soundctm generate`, interrupted in its first jump."""
    # as in a terminal: a shell that runs this test in the background would hand down an ignored SIGINT
    code = (
        "import signal, typer; from soundgen.cli import generate; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); typer.run(generate)"
    )
    command = [sys.executable, "-c", code, "rain", "--steps=16", "--seconds=0.5", "--json", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        gate.wait_until_reached()
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
        return subprocess.CompletedProcess(command, process.returncode, output)


def test_ctrl_c_cancels_on_the_server_and_exits_130(models: Path) -> None:
    gate = Gate()
    with RunningDaemon(steered(gate.wait)) as daemon, Client() as client:
        interrupted = ctrl_c(gate)
        daemon.wait_until_told_to_stop()
        gate.let_through(1000)
        assert interrupted.returncode == 130
        assert json.loads(interrupted.stdout.splitlines()[-1])["reason"] == "CANCELLED"
        list(client.generate("rain", seconds=0.5))
        assert [clip.recipe.steps for clip in client.clips().clips if clip.recipe] == [1]


def test_ctrl_c_leaves_a_kept_clip_which_goes_on(models: Path) -> None:
    gate = Gate()
    with RunningDaemon(steered(gate.wait)), Client() as client:
        interrupted = ctrl_c(gate, "--keep")
        (job,) = client.jobs()
        gate.let_through(1000)
        assert interrupted.returncode == 130
        assert "the clip goes on" in json.loads(interrupted.stdout.splitlines()[-1])["message"]
        recipe = client.watch(job.clip_id).clip().recipe
        assert recipe is not None
        assert recipe.steps == 16


@pytest.fixture
def in_its_place(scripted: ScriptedDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedDaemon:
    """The scripted daemon, where commands look for one."""
    (tmp_path / "a_token").write_text("x")
    monkeypatch.setenv("SOUNDCTM_TOKEN_FILE", str(tmp_path / "a_token"))
    monkeypatch.setenv("SOUNDCTM_SOCKET", scripted.address.removeprefix("unix:"))
    return scripted


def test_who_has_to_wait_is_told_how_long(in_its_place: ScriptedDaemon) -> None:
    def full(request: Any, context: grpc.ServicerContext) -> None:
        status = status_pb2.Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=2)))
        context.set_trailing_metadata(((DETAILS_KEY, status.SerializeToString()),))
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full.")

    in_its_place.answers["Generate"] = full
    shown, scripts = soundctm("generate", "rain"), soundctm("generate", "rain", "--json")
    assert shown.exit_code == scripts.exit_code == 4
    assert "the queue is full. Try again in 2.0 s." in shown.stderr
    assert lines(scripts)[-1]["retry_after_seconds"] == 2.0


def test_a_variation_that_failed_is_told_beside_those_that_are_ready(in_its_place: ScriptedDaemon) -> None:
    events = (failed("a", "NON_FINITE_AUDIO", "it has NaN"), ready("b"))
    responses = [generation_service_pb2.GenerateVariationsResponse(event=event) for event in events]
    in_its_place.answers["GenerateVariations"] = lambda request, context: responses
    shown, scripts = (soundctm("generate", "rain", "--variations=2", *json_too) for json_too in ([], ["--json"]))
    assert shown.exit_code == scripts.exit_code == 0
    assert "variation failed: it has NaN" in shown.stdout
    assert "id b," in shown.stdout
    assert [line["event"] for line in lines(scripts)] == ["clip_failed", "clip_ready"]
