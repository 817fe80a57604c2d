"""`soundctm models`: what is installed, whether it is whole, and under which licence; fetching and removing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from soundctm.bundle import Bundle, find_bundle, installed_names
from soundctm.errors import BundleError, LicenceNotAcceptedError, SoundCTMError
from soundctm.fetching.cli import fetch_model
from soundctm.licences import AcceptedLicences
from soundctm.settings import STARTER, licences_dir, models_dir

models = typer.Typer(
    help="Models (bundles): list, show, verify, fetch, accept, remove, convert.", no_args_is_help=True
)
models.command("fetch")(fetch_model)


@models.command("list")
def list_models(as_json: bool = typer.Option(False, "--json", help="One JSON array instead of a table.")) -> None:
    """Every installed bundle; a broken one is named, not hidden."""
    rows: list[dict[str, Any]] = []
    for name in installed_names():
        try:
            bundle = find_bundle(name)
        except BundleError as error:
            rows.append({"name": name, "error": str(error)})
        else:
            rows.append({"name": name, "digest": bundle.digest, "description": bundle.spec.description,
                         "licence": bundle.spec.licence, "licence_restricted": bundle.spec.restricted,
                         "licence_accepted": _accepted(bundle), "path": str(bundle.path)})
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table("name", "digest", "licence", "description")
    for row in rows:
        about = row.get("description") or row["error"]
        licence = row.get("licence", "-")
        if row.get("licence_restricted") and not row["licence_accepted"]:
            licence += " (not accepted)"
        table.add_row(escape(row["name"]), row.get("digest", "-")[:12], escape(licence), escape(about))
    Console().print(table)


@models.command("show")
def show_model(name: str = typer.Argument(help="A name from `soundctm models list`, or a folder.")) -> None:
    """A bundle's spec, files and digest as JSON."""
    bundle = _find(name)
    facts = {
        "path": str(bundle.path),
        "digest": bundle.digest,
        "licence_restricted": bundle.spec.restricted,
        "licence_accepted": _accepted(bundle),
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


@models.command("accept")
def accept_licence(
    name: str = typer.Argument(help="A name from `soundctm models list`, or a folder."),
    yes: bool = typer.Option(False, "--yes", help="You have read the licence and accept it; nothing is asked."),
) -> None:
    """Accept a model's licence, once. The daemon makes no clips of a model whose licence is restricted before that."""
    bundle = _find(name)
    spec = bundle.spec
    typer.echo(f"{spec.name}: {spec.licence} (its text and its terms: {bundle.path})")
    if not yes and not typer.confirm("Do you accept these terms?"):
        raise _fail(LicenceNotAcceptedError(f"the licence of {spec.name!r} was not accepted; nothing has changed."))
    try:
        AcceptedLicences(licences_dir()).accept(bundle.digest, spec.licence, spec.name)
    except SoundCTMError as error:
        raise _fail(error) from error


@models.command("remove")
def remove_model(
    name: str = typer.Argument(help="A name from `soundctm models list`."),
    yes: bool = typer.Option(False, "--yes", help="Nothing is asked."),
) -> None:
    """Delete an installed model's files. A daemon that has it in memory goes on with it until it is unloaded."""
    folder = models_dir() / name
    if name == STARTER or name not in installed_names():
        removable = ", ".join(other for other in installed_names() if other != STARTER) or "none"
        raise _fail(BundleError(f"{name!r} cannot be removed; models that can be: {removable}."))
    if not yes and not typer.confirm(f"Delete {folder}?"):
        raise typer.Exit(1)
    try:
        _delete(folder)
    except OSError as error:
        raise _fail(BundleError(f"{folder} cannot be deleted ({error}). Make it writable.")) from error
    typer.echo(f"{name} is removed.")


def _delete(folder: Path) -> None:
    """No moment finds half a bundle of that name. A link goes, what it points to stays. Raises OSError."""
    if folder.is_symlink():
        folder.unlink()
        return
    aside = folder.with_name(f".{folder.name}.removed")
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    shutil.rmtree(aside)


def _accepted(bundle: Bundle) -> bool:
    return (bundle.digest, bundle.spec.licence) in AcceptedLicences(licences_dir())


def _find(name: str) -> Bundle:
    try:
        return find_bundle(name)
    except SoundCTMError as error:
        raise _fail(error) from error


def _fail(error: SoundCTMError) -> typer.Exit:
    Console(stderr=True).print(f"[red]{error.reason}[/]: {escape(str(error))}", highlight=False, soft_wrap=True)
    return typer.Exit(2)
