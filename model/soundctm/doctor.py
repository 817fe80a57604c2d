"""`soundctm doctor`: is this installation able to make sound? Each check says what to do when it is not."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from soundctm import __version__
from soundctm.checks import CHECKS, Finding

CHECKS_GROUP = "soundctm.checks"


def doctor(as_json: bool = typer.Option(False, "--json", help="One JSON array instead of a table.")) -> None:
    """Check this installation. Exits 1 when something would keep it from making sound."""
    findings = list(examine())
    if as_json:
        typer.echo(json.dumps([finding._asdict() for finding in findings]))
    else:
        Console().print(_drawn(findings))
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)


def examine() -> Iterator[Finding]:
    """This room's findings, then those of the other rooms in alphabetical order. A check that breaks is a finding."""
    for check in CHECKS:
        yield from _findings(check.__name__, check)
    for entry in sorted(metadata.entry_points(group=CHECKS_GROUP), key=lambda point: point.name):
        # each is asked before the next turn
        yield from _findings(entry.name, lambda: itertools.starmap(Finding, entry.load()()))  # noqa: B023


def _findings(name: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:
        yield Finding(
            name, False, f"the check itself failed ({type(error).__name__}: {error}); install soundctm-daw again, and "
            "report it if that does not help"
        )


def _drawn(findings: Iterable[Finding]) -> Table:
    table = Table("check", "", "detail", title=f"soundctm-daw {__version__}")
    marks = {True: Text("ok", "green"), False: Text("no", "red"), None: Text("-")}
    for finding in findings:
        table.add_row(Text(finding.check), marks[finding.ok], Text(finding.detail))
    return table
