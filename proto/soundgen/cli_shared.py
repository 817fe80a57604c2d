"""What the commands share: options, a reporter for people or for scripts, errors as messages and exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console

from soundgen import paths
from soundgen.client import Client, connect
from soundgen.errors import (
    ClipCancelledError,
    DaemonUnreachableError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    SoundgenError,
    UnauthenticatedError,
)
from soundgen.formats import require_known_suffix
from soundgen.json_lines import JsonReporter
from soundgen.progress import BarReporter, Reporter

FAILED_EXIT_CODE = 4
CANCELLED_EXIT_CODE = 130
_EXIT_CODES: tuple[tuple[type[SoundgenError], int], ...] = (
    (InvalidRequestError, 2),
    (NotFoundError, 2),
    (DaemonUnreachableError, 3),
    (UnauthenticatedError, 3),
    (ForbiddenError, 3),
    (ClipCancelledError, CANCELLED_EXIT_CODE),
)
FORMATS = ".wav, .flac, .aiff, .ogg or .mp3"
JSON = typer.Option(False, "--json", help="JSON for scripts: one object per line and event.")
CLIP_JSON = typer.Option(False, "--json", help="JSON for scripts: one line per clip, errors too.")
OUT = typer.Option(None, "--out", "-o", help=f"Also copy the last clip to this file: {FORMATS}.", dir_okay=False)
CLIP_ID = typer.Argument(help="Id of a clip, as `soundctm generate` and `soundctm clips list` print it.")
_RECONNECT_SECONDS = 5.0  # a daemon that is started anew is back by then; who waits for one that was stopped is told
CANCELLED = "cancelled; the daemon stops at the next jump."


def whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no whole number; allowed: 1 up to the model's most jumps.") from error


@contextmanager
def connected(out: Path | None, engine: str | None = None) -> Iterator[Client]:
    """A client; a file that could not be written in the end is refused before anything is made.

    `engine`: of the daemon; one that runs already must have been started with it. Raises InvalidRequestError.
    """
    if out is not None:
        require_known_suffix(out)
    if engine is not None:
        _require_engine(engine)
    with connect(reconnect_seconds=_RECONNECT_SECONDS) as client:
        yield client


def _require_engine(engine: str) -> None:
    if (elsewhere := paths.remote_address()) is not None:
        raise InvalidRequestError(
            f"--engine was given for the daemon at {elsewhere}, which chooses its own. Leave it out, or set `engine` "
            "there."
        )
    if paths.ensure_daemon([f"--engine={engine}"]):
        return
    endpoint = paths.read_endpoint()
    if endpoint is None or endpoint.engine != engine:
        started_with = endpoint.engine if endpoint else "another"
        raise InvalidRequestError(
            f"--engine is {engine}, the daemon that runs was started with {started_with}. Stop it first (`soundctm "
            "daemon stop`), or leave --engine out."
        )


def reporter_for(as_json: bool) -> Reporter:
    return JsonReporter(Console()) if as_json else BarReporter(Console(), Console(stderr=True))


@contextmanager
def errors_shown(reporter: Reporter, interrupted: str = CANCELLED) -> Iterator[None]:
    """Errors become a message (or a JSON line) and an exit code, not a traceback. `interrupted` is what Ctrl-C did."""
    try:
        yield
    except SoundgenError as error:
        reporter.failed(error)
        code = next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), FAILED_EXIT_CODE)
        raise typer.Exit(code) from error
    except KeyboardInterrupt as error:
        reporter.failed(ClipCancelledError(interrupted))
        raise typer.Exit(CANCELLED_EXIT_CODE) from error
    except OSError as error:
        reporter.failed(SoundgenError(f"a file could not be read or written: {error}", reason="FILE_NOT_WRITTEN"))
        raise typer.Exit(FAILED_EXIT_CODE) from error
