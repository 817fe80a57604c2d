"""`soundctm status`: what the daemon is doing, as it does it."""

from __future__ import annotations

import time
from collections.abc import Callable

import typer
from rich.console import Console
from rich.live import Live

from soundctm.errors import SoundCTMError
from soundctm_daemon.settings import Settings, load_settings
from soundctm_daemon.status_view import Snapshot, as_data, draw, jumps_per_second, take_snapshot
from soundgen import paths
from soundgen.errors import SoundgenError

NOT_RUNNING_EXIT_CODE = 3
_BAD_SETTINGS_EXIT_CODE = 2
_ANSWER_SECONDS = 5.0


def status(
    once: bool = typer.Option(False, "--once", help="Print it once and leave."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object, once, for scripts."),
    every_seconds: float = typer.Option(1.0, "--every", min=0.1, max=3600.0, help="Seconds between two looks."),
) -> None:
    """Watch the daemon: models, queue, clips in flight and lately. Ctrl-C ends it.

    With --once or --json it exits 3 when no daemon answers.
    """
    try:
        settings = load_settings()
    except SoundCTMError as error:
        typer.echo(f"{error.reason}: {error}", err=True)
        raise typer.Exit(_BAD_SETTINGS_EXIT_CODE) from error
    if not (once or as_json):
        watch(lambda: look(settings), Console(), lambda: time.sleep(every_seconds))
        return
    snapshot = look(settings)
    if as_json:
        from soundgen.json_lines import to_json

        typer.echo(to_json(as_data(snapshot)))
    else:
        Console().print(draw(snapshot))
    if snapshot.problem:
        raise typer.Exit(NOT_RUNNING_EXIT_CODE)


def look(settings: Settings, clock: Callable[[], float] = time.monotonic) -> Snapshot:
    """The daemon now; one that does not answer is a snapshot with a problem."""
    from soundgen.client import Client  # gRPC is loaded only where it is needed

    if not paths.answers(settings.socket):
        return Snapshot(clock(), f"nobody answers at {settings.socket}. Start it with `soundctm daemon start`.")
    try:
        with Client(timeout_seconds=_ANSWER_SECONDS) as client:
            return take_snapshot(client, clock)
    except SoundgenError as error:
        return Snapshot(clock(), str(error))


def watch(take: Callable[[], Snapshot], console: Console, pause: Callable[[], None]) -> None:
    """Look, draw, pause, until Ctrl-C. A daemon that ends or starts meanwhile changes the picture, nothing else."""
    before: Snapshot | None = None
    with Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                now = take()
                live.update(draw(now, jumps_per_second(before, now)), refresh=True)
                before = now
                pause()
        except KeyboardInterrupt:
            return
