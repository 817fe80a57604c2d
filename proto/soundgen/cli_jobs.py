"""`soundctm jobs`, `watch` and `cancel`: clips in flight. Exit codes as in soundgen.cli."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console
from rich.table import Column, Table

from soundgen import types
from soundgen.cli_shared import CLIP_ID, JSON, OUT, connected, errors_shown, reporter_for
from soundgen.client import connect
from soundgen.formats import export
from soundgen.json_lines import to_json


def jobs(
    ended: bool = typer.Option(False, help="Also those that ended within the last hour."),
    as_json: bool = typer.Option(False, "--json", help="One JSON array instead of a table."),
) -> None:
    """Clips in flight, in the order they will be made."""
    with errors_shown(reporter_for(as_json)), connect() as client:
        found = client.jobs(include_ended=ended)
    if as_json:
        typer.echo(to_json(found))
        return
    table = Table(Column("id", no_wrap=True, min_width=12), "state", "jumps", "sound", "client", box=None)
    for job in found:
        table.add_row(job.clip_id, _state(job), f"{job.jumps_done}/{job.jumps_total}", job.label, job.client)
    Console().print(table)


def watch(clip_id: str = CLIP_ID, out: Path | None = OUT, as_json: bool = JSON) -> None:
    """Follow a clip that is being made. Ctrl-C leaves, and the clip goes on."""
    reporter = reporter_for(as_json)
    with errors_shown(reporter, "left; the clip goes on."), connected(out) as client:
        clip = reporter.follow("clip", client.watch(clip_id))[-1]
        if out is not None:
            reporter.exported(export(client, clip.id, out))


def cancel(clip_id: str = CLIP_ID, as_json: bool = JSON) -> None:
    """Stop a clip that is queued or being made."""
    with errors_shown(reporter_for(as_json)), connect() as client:
        client.cancel(clip_id)
    if as_json:
        typer.echo(to_json({"event": "cancelled", "clip_id": clip_id}))
    else:
        typer.echo(f"{clip_id}: cancelled")


def _state(job: types.Job) -> str:
    if job.state is types.JobState.QUEUED:
        return f"queued, {job.position} before it"
    return f"failed: {job.message}" if job.state is types.JobState.FAILED else job.state
