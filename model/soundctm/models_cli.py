"""`soundctm models`: what is installed, and whether it is whole."""

from __future__ import annotations

import json

import typer
from rich.console import Console
from rich.table import Table

from soundctm.bundle import Bundle, find_bundle, installed_names
from soundctm.errors import BundleError, SoundCTMError

models = typer.Typer(help="Models (bundles): list, show, verify, convert.", no_args_is_help=True)


@models.command("list")
def list_models(as_json: bool = typer.Option(False, "--json", help="One JSON array instead of a table.")) -> None:
    """Every installed bundle; a broken one is named, not hidden."""
    rows = []
    for name in installed_names():
        try:
            bundle = find_bundle(name)
        except BundleError as error:
            rows.append({"name": name, "error": str(error)})
        else:
            rows.append({"name": name, "digest": bundle.digest, "description": bundle.spec.description,
                         "licence": bundle.spec.licence, "path": str(bundle.path)})
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table("name", "digest", "licence", "description")
    for row in rows:
        about = row.get("description") or row["error"]
        table.add_row(row["name"], row.get("digest", "-")[:12], row.get("licence", "-"), about)
    Console().print(table)


@models.command("show")
def show_model(name: str = typer.Argument(help="A name from `soundctm models list`, or a folder.")) -> None:
    """A bundle's spec, files and digest as JSON."""
    bundle = _find(name)
    facts = {
        "path": str(bundle.path),
        "digest": bundle.digest,
        "spec": bundle.spec.to_json(),
        "files": dict(bundle.files),
    }
    typer.echo(json.dumps(facts, indent=1))


@models.command("verify")
def verify_model(name: str = typer.Argument(help="A name from `soundctm models list`, or a folder.")) -> None:
    """Compare every file with its checksum."""
    bundle = _find(name)
    try:
        bundle.verify()
    except SoundCTMError as error:
        raise _fail(error) from error
    typer.echo(f"{bundle.spec.name}: {len(bundle.files)} files match their checksums ({bundle.path})")


def _find(name: str) -> Bundle:
    try:
        return find_bundle(name)
    except SoundCTMError as error:
        raise _fail(error) from error


def _fail(error: SoundCTMError) -> typer.Exit:
    Console(stderr=True).print(f"[red]{error.reason}[/]: {error}", highlight=False, soft_wrap=True)
    return typer.Exit(2)
