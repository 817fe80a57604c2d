"""What `soundctm status` shows: one look at the daemon as a value, and that value drawn for a terminal.

What clients wrote (labels, prompts) is shown with its control characters taken out: it must not steer a terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from soundgen import types

if TYPE_CHECKING:
    from soundgen.client import Client

_ROWS = 8               # of each list; what is left out is counted
_LABEL_CHARS = 40
_BAR_CHARS = 24
_MB = 1_000_000
_IN_FLIGHT = (types.JobState.QUEUED, types.JobState.RUNNING)


@dataclass(frozen=True)
class Snapshot:
    """The daemon at `at_seconds` on a clock that never goes back. `problem` says why it does not answer, or is empty;
    then everything else is, too. `jobs` are those in flight in their order, then those that ended, latest first."""

    at_seconds: float
    problem: str = ""
    serving: bool = False
    models: tuple[types.Model, ...] = ()
    jobs: tuple[types.Job, ...] = ()

    def having(self, *states: types.JobState) -> tuple[types.Job, ...]:
        return tuple(job for job in self.jobs if job.state in states)


def take_snapshot(client: Client, clock: Callable[[], float]) -> Snapshot:
    """Raises SoundgenError."""
    return Snapshot(clock(), "", client.serving(), client.models(), client.jobs(include_ended=True))


def jumps_per_second(before: Snapshot | None, now: Snapshot) -> float | None:
    """Between two looks; None where there are not two at a daemon that answered."""
    if before is None or before.problem or now.problem or now.at_seconds <= before.at_seconds:
        return None
    known = {job.clip_id: job.jumps_done for job in before.jobs}
    jumps = sum(max(0, job.jumps_done - known.get(job.clip_id, 0)) for job in now.jobs)
    return jumps / (now.at_seconds - before.at_seconds)


def queue_by_kind(snapshot: Snapshot) -> dict[str, int]:
    """Clips that wait."""
    waiting = snapshot.having(types.JobState.QUEUED)
    return {kind.value: sum(job.kind is kind for job in waiting) for kind in types.JobKind}


def as_data(snapshot: Snapshot) -> dict[str, Any]:
    """For programs; values as `soundgen.json_lines.to_json` takes them."""
    return {
        "answers": not snapshot.problem,
        "problem": snapshot.problem,
        "serving": snapshot.serving,
        "models": snapshot.models,
        "queue": queue_by_kind(snapshot),
        "in_flight": snapshot.having(*_IN_FLIGHT),
        "ended": snapshot.having(types.JobState.READY, types.JobState.FAILED),
    }


def draw(snapshot: Snapshot, rate: float | None = None, now: datetime | None = None) -> RenderableType:
    """`rate` is jumps per second; `now` is what ages are told from."""
    if snapshot.problem:
        return Text(f"no daemon: {plain(snapshot.problem)}", style="red")
    now = now or datetime.now(UTC)
    waiting = ", ".join(f"{count} {kind}" for kind, count in queue_by_kind(snapshot).items())
    running = snapshot.having(types.JobState.RUNNING)
    state = "ready" if snapshot.serving else "its model is not loaded"
    head = Text.assemble(
        ("daemon ", "bold"), (state, "green" if snapshot.serving else "yellow"),
        f"   making {len(running)}   waiting: {waiting}   ",
        "" if rate is None else f"{rate:.1f} jumps/s",
    )
    return Group(
        head,
        _models(snapshot.models),
        _in_flight(snapshot.having(*_IN_FLIGHT)),
        _ended(snapshot.having(types.JobState.READY, types.JobState.FAILED), now),
    )


def plain(text: str) -> str:
    """Without control characters and marks that change the direction of writing."""
    return "".join(character if character.isprintable() else "�" for character in text)


def _models(models: Iterable[types.Model]) -> Table:
    table = _table("model", "state", "engine", "memory", "licence")
    for model in models:
        memory = f"{model.memory_bytes / _MB:.0f} MB" if model.state is types.ModelState.LOADED else "-"
        about = f"{model.state}: {model.problem}" if model.problem else model.state
        table.add_row(*map(_cell, (model.name, about, model.engine or "-", memory, model.licence)))
    return table


def _in_flight(jobs: tuple[types.Job, ...]) -> RenderableType:
    if not jobs:
        return Text("nothing in flight", style="dim")
    table = _table("in flight", "jumps", "", "clip", "client")
    for job in jobs[:_ROWS]:
        if job.state is types.JobState.RUNNING:
            progress: RenderableType = ProgressBar(max(1, job.jumps_total), job.jumps_done, width=_BAR_CHARS)
        else:
            progress = _cell(f"{job.position} before it")
        jumps = _cell(f"{job.jumps_done}/{job.jumps_total}")
        table.add_row(_cell(_label(job)), jumps, progress, _cell(job.clip_id), _cell(job.client or "-"))
    return _with_rest(table, jobs)


def _ended(jobs: tuple[types.Job, ...], now: datetime) -> RenderableType:
    if not jobs:
        return Text("nothing lately", style="dim")
    table = _table("lately", "jumps", "", "clip", "asked for")
    for job in jobs[:_ROWS]:
        ready = job.state is types.JobState.READY
        outcome = Text("ready", style="green") if ready else Text(plain(job.reason), style="red")
        age = max(0.0, (now - job.created_at).total_seconds())
        row = (_label(job), f"{job.jumps_done}", outcome, job.clip_id, f"{age:.0f} s ago")
        table.add_row(*(cell if isinstance(cell, Text) else _cell(cell) for cell in row))
    return _with_rest(table, jobs)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="ellipsis", no_wrap=True)
    return table


def _with_rest(table: Table, jobs: tuple[types.Job, ...]) -> RenderableType:
    rest = len(jobs) - _ROWS
    return Group(table, Text(f"and {rest} more", style="dim")) if rest > 0 else table


def _label(job: types.Job) -> str:
    label = job.label or job.recipe.prompt
    return label if len(label) <= _LABEL_CHARS else f"{label[: _LABEL_CHARS - 1]}…"


def _cell(text: str) -> Text:
    return Text(plain(text))
