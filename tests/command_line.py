"""The commands of the client's room, run in the test's own process."""

from __future__ import annotations

import json
from typing import Any

from typer import Typer
from typer.testing import CliRunner, Result

from soundgen import cli, cli_clips, cli_jobs


def soundctm(*arguments: str) -> Result:
    app = Typer()
    for command in (cli.generate, cli.refine, cli.rerender, cli_jobs.jobs, cli_jobs.watch, cli_jobs.cancel):
        app.command(command.__name__)(command)
    app.add_typer(cli_clips.clips, name="clips")
    return CliRunner().invoke(app, arguments)


def lines(result: Result) -> list[Any]:
    return [json.loads(line) for line in result.stdout.splitlines()]
