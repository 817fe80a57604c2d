"""`soundctm status`: what is drawn, what programs get, and what happens when the daemon goes away."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from running_daemon import Gate, RunningDaemon, steered
from soundctm_daemon.settings import load_settings
from soundctm_daemon.status_cli import look, status, watch
from soundctm_daemon.status_view import Snapshot, as_data, draw, jumps_per_second, queue_by_kind
from soundgen import types
from soundgen.client import Client

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RECIPE = types.Recipe("starter", "0" * 64, "heavy rain", "", 7, 1.0, 16, 0.0, 3.0, 1.0)
MODEL = types.Model("starter", "0" * 64, "", "Apache-2.0", True, types.ModelState.LOADED, "", 44100, None,
                    memory_bytes=123_400_000, engine="torch")
RUNNER = CliRunner()
app = typer.Typer()
app.command()(status)


def job(
    clip_id: str, state: types.JobState, done: int = 0, steps: int = 16, label: str = "", reason: str = ""
) -> types.Job:
    return types.Job(
        clip_id, state, dataclasses.replace(RECIPE, steps=steps), label, None, "", "", NOW - timedelta(seconds=9),
        3, done, steps, reason, "", types.JobKind.PREVIEW if steps == 1 else types.JobKind.REFINEMENT,
    )


QUEUED, RUNNING, READY, FAILED = types.JobState
BUSY = Snapshot(
    10.0, "", True, (MODEL,),
    (job("aa", RUNNING, 4), job("bb", QUEUED, steps=1), job("cc", QUEUED), job("dd", READY, 16, label="my rain"),
     job("ee", FAILED, 2, reason="DISK_FULL")),
)


def drawn(snapshot: Snapshot, rate: float | None = None) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(draw(snapshot, rate, NOW))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_it_shows_models_queue_clips_and_speed() -> None:
    text = drawn(BUSY, 12.34)
    assert "daemon ready   making 1   waiting: 1 preview, 1 refinement, 0 batch   12.3 jumps/s" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["starter", "loaded", "torch", "123", "MB", "Apache-2.0"] in rows
    assert ["heavy", "rain", "0/1", "3", "before", "it", "bb", "-"] in rows
    assert ["my", "rain", "16", "ready", "dd", "9", "s", "ago"] in rows
    assert ["heavy", "rain", "2", "DISK_FULL", "ee", "9", "s", "ago"] in rows
    (running,) = [row for row in rows if "4/16" in row]
    assert running[-2:] == ["aa", "-"]


def test_a_daemon_at_rest_is_said_to_be() -> None:
    text = drawn(dataclasses.replace(BUSY, jobs=(), serving=False))
    assert "daemon its model is not loaded" in text
    assert "nothing in flight\nnothing lately" in text


def test_long_lists_are_counted_not_scrolled() -> None:
    many = dataclasses.replace(BUSY, jobs=tuple(job(f"clip{number}", QUEUED) for number in range(30)))
    assert "and 22 more" in drawn(many)
    assert len(drawn(many).splitlines()) < 20


def test_what_clients_wrote_steers_no_terminal() -> None:
    nasty = dataclasses.replace(BUSY, jobs=(job("aa", RUNNING, label="[red]a[/red]\x1b[2J\r\n\u202eb\x07"),))
    text = drawn(nasty)
    assert "[red]a[/red]" in text
    assert not set("\x1b\r\u202e\x07") & set(text)


def test_jumps_per_second_are_those_between_two_looks() -> None:
    later = Snapshot(12.0, "", True, (), (job("aa", READY, 16), job("bb", READY, 1), job("new", RUNNING, 3)))
    assert jumps_per_second(BUSY, later) == pytest.approx((12 + 1 + 3) / 2.0)
    assert jumps_per_second(None, later) is None
    assert jumps_per_second(BUSY, dataclasses.replace(BUSY, at_seconds=11.0)) == 0.0
    assert jumps_per_second(BUSY, BUSY) is None
    assert jumps_per_second(Snapshot(1.0, "gone"), later) is None


def test_previews_are_what_the_daemon_makes_first() -> None:
    assert queue_by_kind(BUSY) == {"preview": 1, "refinement": 1, "batch": 0}
    assert [found.clip_id for found in as_data(BUSY)["ended"]] == ["dd", "ee"]


def test_watching_goes_on_when_the_daemon_goes_and_comes() -> None:
    looks = iter([BUSY, Snapshot(11.0, "nobody answers"), dataclasses.replace(BUSY, at_seconds=12.0)])
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    left = [None] * 2

    def pause() -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()

    watch(lambda: next(looks), console, pause)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert shown.index("daemon") < shown.index("no daemon: nobody answers") < shown.rindex("waiting: 1 preview")
    assert next(looks, None) is None


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.let_through(1000)


@pytest.fixture
def daemon(models: Path, gate: Gate) -> Iterator[RunningDaemon]:
    with RunningDaemon(steered(gate.wait)) as running:
        yield running
        gate.let_through(1000)


def test_a_running_daemon_is_seen_at_work(daemon: RunningDaemon, gate: Gate) -> None:
    with Client() as client:
        events = client.generate("rain", seconds=1.0, steps=3, label="first take")
        until(events, lambda event: isinstance(event, types.Started))
        gate.let_through()
        until(events, lambda event: isinstance(event, types.JumpDone))
        seen = look(load_settings())
        shown = RUNNER.invoke(app, ["--once"])
        told = json.loads(RUNNER.invoke(app, ["--json"]).stdout)
        gate.let_through(2)
        *_, last = events
    assert (seen.problem, seen.serving) == ("", True)
    (running,) = seen.having(RUNNING)
    assert (running.label, running.jumps_done, running.jumps_total) == ("first take", 1, 3)
    assert shown.exit_code == 0
    assert "first take" in shown.stdout
    assert told["answers"] is True
    assert [found["clip_id"] for found in told["in_flight"]] == [running.clip_id]
    assert [model["name"] for model in told["models"] if model["state"] == "loaded"] == ["tiny"]
    assert isinstance(last, types.ClipReady)
    assert [found.clip_id for found in look(load_settings()).having(READY)] == [running.clip_id]


def until(events: Iterator[types.Event], is_it: Callable[[types.Event], bool]) -> None:
    assert any(is_it(event) for event in events)


def test_no_daemon_is_said_with_what_to_do() -> None:
    shown = RUNNER.invoke(app, ["--once"])
    assert shown.exit_code == 3
    assert "soundctm daemon start" in " ".join(shown.stdout.split())
    told = RUNNER.invoke(app, ["--json"])
    assert told.exit_code == 3
    assert json.loads(told.stdout)["answers"] is False


def test_a_wrong_token_is_said(daemon: RunningDaemon) -> None:
    daemon.settings.token_file.write_text("wrong\n")
    assert "wrong token" in look(load_settings()).problem


def test_bad_settings_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDCTM_QUEUE_LIMIT", "none")
    shown = RUNNER.invoke(app, ["--once"])
    assert shown.exit_code == 2
    assert "queue_limit is 'none'" in shown.stderr
