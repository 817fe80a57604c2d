"""`soundctm daemon models`: what the running daemon has in memory, and changing it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

import typer

from soundgen import paths
from soundgen.errors import DaemonUnreachableError, SoundgenError

if TYPE_CHECKING:
    from soundgen import types
    from soundgen.client import Client

models = typer.Typer(help="Models of the running daemon: list, load, unload, reload, accept.", no_args_is_help=True)
_T = TypeVar("_T")
_NAME = typer.Argument(help="A name of `soundctm daemon models list`.")
_REFUSED_EXIT_CODE, _NOT_RUNNING_EXIT_CODE = 1, 3


@models.command("list")
def list_models(as_json: bool = typer.Option(False, "--json", help="One JSON array.")) -> None:
    """Every model with its state, the memory it takes and its licence."""
    found = _ask(lambda client: client.models())
    if as_json:
        typer.echo(json.dumps([asdict(model) for model in found]))
        return
    for model in found:
        typer.echo(_line(model))


@models.command()
def load(name: str = _NAME) -> None:
    """Load and warm it up now, not at the first clip."""
    typer.echo(_line(_ask(lambda client: client.load_model(name))))


@models.command()
def unload(name: str = _NAME) -> None:
    """Free its memory. Refused while clips are being made with it."""
    typer.echo(_line(_ask(lambda client: client.unload_model(name))))


@models.command()
def reload(name: str = _NAME) -> None:
    """Take what lies in its folder now. Clips in flight finish with the old weights; bad new ones change nothing."""
    typer.echo(_line(_ask(lambda client: client.reload_model(name))))


@models.command()
def accept(
    name: str = _NAME,
    yes: bool = typer.Option(False, "--yes", help="You have read the licence and accept it; nothing is asked."),
) -> None:
    """Accept its licence, once."""
    model = _ask(lambda client: client.model(name))
    typer.echo(f"{model.name}: {model.licence}{f' ({model.provenance})' if model.provenance else ''}")
    if not yes and not typer.confirm("Do you accept these terms?"):
        raise typer.Exit(_REFUSED_EXIT_CODE)
    typer.echo(_line(_ask(lambda client: client.accept_licence(name, model.licence))))


def _line(model: types.Model) -> str:
    missing = " (not accepted)" if model.licence_restricted and not model.licence_accepted else ""
    memory = f"{model.memory_bytes / 1e6:.0f} MB" if model.memory_bytes else "-"
    return (
        f"{model.name:24} {model.state.value:10} {model.engine or '-':14} {memory:>9}  "
        f"{model.problem or model.licence + missing}"
    )


def _ask(work: Callable[[Client], _T]) -> _T:
    from soundgen.client import Client  # gRPC is loaded only where it is needed

    if paths.remote_address() is None and not paths.answers(paths.socket_path()):
        typer.echo("No daemon runs. Start it with `soundctm daemon start`.", err=True)
        raise typer.Exit(_NOT_RUNNING_EXIT_CODE)
    try:
        with Client() as client:
            return work(client)
    except SoundgenError as error:
        typer.echo(f"{error.reason}: {error}", err=True)
        code = _NOT_RUNNING_EXIT_CODE if isinstance(error, DaemonUnreachableError) else _REFUSED_EXIT_CODE
        raise typer.Exit(code) from error
