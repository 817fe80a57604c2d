"""The `soundctm` command. The other rooms' subcommands are found by entry point, so this room imports none of them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata

import typer

from soundctm import __version__
from soundctm.checkpoints.cli import convert
from soundctm.doctor import doctor
from soundctm.models_cli import models

COMMANDS_GROUP = "soundctm.commands"
_ANY_ARGUMENTS = {"ignore_unknown_options": True, "allow_extra_args": True}


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
        try:
            command = entry.load()
        except Exception as error:  # ImportError, AttributeError, protobuf's VersionError
            app.command(entry.name, context_settings=_ANY_ARGUMENTS)(_broken(entry.name, error))
            continue
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=entry.name)
        else:
            app.command(entry.name)(command)
    models.command("convert")(convert)
    app.add_typer(models, name="models")
    app.command("doctor")(doctor)
    return app


def _broken(name: str, error: Exception) -> Callable[[], None]:
    """In the place of a subcommand that cannot be imported: the others must work, `doctor` above all."""

    def broken() -> None:
        """Cannot be loaded: see `soundctm doctor`."""
        typer.echo(f"`soundctm {name}` cannot be loaded ({error}). Run `soundctm doctor`: it says why.", err=True)
        raise typer.Exit(1)

    return broken


def _version_option(
    version: bool = typer.Option(False, "--version", help="Print the version and leave.", is_eager=True),
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    build_app()()
