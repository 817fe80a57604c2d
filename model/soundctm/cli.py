"""The `soundctm` command. The other rooms' subcommands are found by entry point, so this room imports none of them."""

from __future__ import annotations

from importlib import metadata

import typer

from soundctm import __version__
from soundctm.checkpoints.cli import convert
from soundctm.doctor import doctor
from soundctm.models_cli import models

COMMANDS_GROUP = "soundctm.commands"


def build_app() -> typer.Typer:
    """This room's commands and every entry point of the group `soundctm.commands`, in alphabetical order."""
    app = typer.Typer(
        name="soundctm",
        help="Generated sound on a DAW's timeline: prompt, preview in one jump, refine, place.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(_version_option)
    for entry in sorted(metadata.entry_points(group=COMMANDS_GROUP), key=lambda point: point.name):
        command = entry.load()
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=entry.name)
        else:
            app.command(entry.name)(command)
    models.command("convert")(convert)
    app.add_typer(models, name="models")
    app.command("doctor")(doctor)
    return app


def _version_option(
    version: bool = typer.Option(False, "--version", help="Print the version and leave.", is_eager=True),
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    build_app()()
