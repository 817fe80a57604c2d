"""`soundctm daemon token`: add, list, revoke."""

from __future__ import annotations

import json

import typer

from soundctm.errors import SoundCTMError
from soundctm_daemon.errors import TokenNameError
from soundctm_daemon.tokens import TokenFile
from soundgen import paths

token = typer.Typer(
    help="Tokens of other programs and machines. Changes count from the next call; no restart is needed.",
    no_args_is_help=True,
)
_REFUSED_EXIT_CODE, _UNUSABLE_EXIT_CODE = 1, 2


@token.command()
def add(name: str = typer.Argument(help="Whom it is for: up to 40 letters, digits, '.', '-' and '_'.")) -> None:
    """Make a token and print it, this once."""
    try:
        secret = TokenFile(paths.state_dir()).add(name)
    except SoundCTMError as error:
        raise _fail(error) from error
    typer.echo(secret)
    typer.echo("This is shown once: only its hash is kept.", err=True)


@token.command("list")
def list_tokens(as_json: bool = typer.Option(False, "--json", help="One JSON array.")) -> None:
    """Name and date of every token."""
    try:
        tokens = TokenFile(paths.state_dir()).read()
    except SoundCTMError as error:
        raise _fail(error) from error
    if as_json:
        typer.echo(json.dumps([{"name": known.name, "created_at": known.created_at} for known in tokens]))
        return
    for known in tokens:
        typer.echo(f"{known.name:40} {known.created_at}")


@token.command()
def revoke(name: str = typer.Argument(help="A name of `soundctm daemon token list`.")) -> None:
    """Refuse this token from the next call on. A call under way is finished."""
    try:
        TokenFile(paths.state_dir()).revoke(name)
    except SoundCTMError as error:
        raise _fail(error) from error
    typer.echo(f"{name} is revoked.")


def _fail(error: SoundCTMError) -> typer.Exit:
    typer.echo(f"{error.reason}: {error}", err=True)
    return typer.Exit(_REFUSED_EXIT_CODE if isinstance(error, TokenNameError) else _UNUSABLE_EXIT_CODE)
