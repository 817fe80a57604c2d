"""`soundctm generate`, `refine` and `clips`.

Exit codes: 0 done, 2 bad request, 3 daemon unreachable, 4 generation failed, 130 cancelled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from soundgen import types
from soundgen.client import Client, connect
from soundgen.errors import (
    ClipCancelledError,
    DaemonUnreachableError,
    InvalidRequestError,
    NotFoundError,
    SoundgenError,
    UnauthenticatedError,
)
from soundgen.formats import export, require_known_suffix
from soundgen.progress import BarReporter, JsonReporter, Reporter, to_json

FAILED_EXIT_CODE = 4
CANCELLED_EXIT_CODE = 130
_EXIT_CODES: tuple[tuple[type[SoundgenError], int], ...] = (
    (InvalidRequestError, 2),
    (NotFoundError, 2),
    (DaemonUnreachableError, 3),
    (UnauthenticatedError, 3),
    (ClipCancelledError, CANCELLED_EXIT_CODE),
)
_JSON = typer.Option(False, "--json", help="JSON for scripts: one object per line and event.")
_FORMATS = ".wav, .flac, .aiff, .ogg or .mp3"
_OUT = typer.Option(None, "--out", "-o", help=f"Also copy the last clip to this file: {_FORMATS}.", dir_okay=False)
_DESTINATION = typer.Argument(help=f"The file to write: {_FORMATS}.", dir_okay=False)


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no whole number; allowed: 1 up to the model's most jumps.") from error


clips = typer.Typer(help="Stored clips: list, show, export.", no_args_is_help=True)


def generate(
    prompt: str = typer.Argument(help="What to hear."),
    seconds: float | None = typer.Option(None, help="Length; default the model's longest (10)."),
    steps: int | None = typer.Option(None, parser=_whole_number, help="Jumps; default 1."),
    seed: int | None = typer.Option(None, help="0 to 4294967295; default drawn, and printed."),
    omega: float | None = typer.Option(None, help="Guidance scale the model was distilled with; default the model's."),
    nu: float | None = typer.Option(None, help="Mix of conditional and unconditional jump; default 1."),
    gamma: float | None = typer.Option(None, help="0 deterministic (default) to 1 fully stochastic."),
    negative: str | None = typer.Option(None, help="What not to hear; has an effect where nu is not 1."),
    model: str | None = typer.Option(None, help="A name of `soundctm models list`; default the daemon's."),
    refine_steps: int | None = typer.Option(
        None, parser=_whole_number, help="Then refine the very same clip in this many jumps."
    ),
    out: Path | None = _OUT,
    as_json: bool = _JSON,
) -> None:
    """Make a clip from a prompt, in one jump. Ctrl-C cancels it."""
    reporter = _reporter(as_json)
    with _errors_shown(reporter), _connected(out) as client:
        clip = reporter.follow(
            "preview" if refine_steps else "clip",
            client.generate(
                prompt,
                seconds=seconds,
                steps=steps,
                seed=seed,
                omega=omega,
                nu=nu,
                gamma=gamma,
                negative_prompt=negative,
                model=model,
            ),
        )
        if refine_steps is not None:
            clip = reporter.follow("refined", client.refine(clip.id, steps=refine_steps))
        if out is not None:
            reporter.exported(export(client, clip.id, out))


def refine(
    clip_id: str = typer.Argument(help="Id of a clip, as `soundctm generate` and `soundctm clips list` print it."),
    steps: int | None = typer.Option(None, parser=_whole_number, help="Jumps; default 16."),
    gamma: float | None = typer.Option(None, help="Default the clip's own."),
    out: Path | None = _OUT,
    as_json: bool = _JSON,
) -> None:
    """Make the very same clip in more jumps: same noise, same content. Ctrl-C cancels it."""
    reporter = _reporter(as_json)
    with _errors_shown(reporter), _connected(out) as client:
        clip = reporter.follow("refined", client.refine(clip_id, steps=steps, gamma=gamma))
        if out is not None:
            reporter.exported(export(client, clip.id, out))


@clips.command("list")
def list_clips(
    limit: int = typer.Option(50, min=1, help="At most this many, newest first."),
    as_json: bool = typer.Option(False, "--json", help="One JSON array instead of a table."),
) -> None:
    """Stored clips, newest first."""
    with _errors_shown(_reporter(as_json)), connect() as client:
        found = list(_newest(client, limit))
    if as_json:
        typer.echo(to_json(found))
        return
    table = Table("id", "made", "seconds", "jumps", "refines", "prompt", "")
    for clip in found:
        made = f"{clip.created_at.astimezone():%Y-%m-%d %H:%M:%S}"
        row = (clip.id, made, f"{clip.seconds:.2f}", str(clip.recipe.steps), clip.parent_id or "", clip.recipe.prompt)
        table.add_row(*row, clip.problem)
    Console().print(table)


@clips.command("show")
def show_clip(
    clip_id: str = typer.Argument(help="Id of a clip."),
    as_json: bool = typer.Option(False, "--json", help="On one line, with errors as JSON too."),
) -> None:
    """Everything that is known of a clip, its recipe included, as JSON."""
    with _errors_shown(_reporter(as_json)), connect() as client:
        clip = client.clip(clip_id)
    if as_json:
        typer.echo(to_json(clip))
    else:
        Console().print_json(to_json(clip))


@clips.command("export")
def export_clip(
    clip_id: str = typer.Argument(help="Id of a clip."),
    out: Path = _DESTINATION,
    as_json: bool = _JSON,
) -> None:
    """Copy a clip, verified on its way; the suffix says in which format."""
    reporter = _reporter(as_json)
    with _errors_shown(reporter), _connected(out) as client:
        reporter.exported(export(client, clip_id, out))


def _newest(client: Client, limit: int) -> Iterator[types.Clip]:
    token, remaining = "", limit
    while remaining > 0:
        page = client.clips(page_size=min(remaining, 200), page_token=token)
        yield from page.clips
        token, remaining = page.next_page_token, remaining - len(page.clips)
        if not token:
            return


@contextmanager
def _connected(out: Path | None) -> Iterator[Client]:
    """A client; a file that could not be written in the end is refused before anything is made."""
    if out is not None:
        require_known_suffix(out)
    with connect() as client:
        yield client


def _reporter(as_json: bool) -> Reporter:
    return JsonReporter(Console()) if as_json else BarReporter(Console(), Console(stderr=True))


@contextmanager
def _errors_shown(reporter: Reporter) -> Iterator[None]:
    """Errors become a message (or a JSON line) and an exit code, not a traceback."""
    try:
        yield
    except SoundgenError as error:
        reporter.failed(error)
        code = next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), FAILED_EXIT_CODE)
        raise typer.Exit(code) from error
    except KeyboardInterrupt as error:
        reporter.failed(ClipCancelledError("cancelled; the daemon stops at the next jump."))
        raise typer.Exit(CANCELLED_EXIT_CODE) from error
    except OSError as error:
        reporter.failed(SoundgenError(f"the file could not be written: {error}", reason="FILE_NOT_WRITTEN"))
        raise typer.Exit(FAILED_EXIT_CODE) from error
