"""`soundctm models fetch`: published files, their licence shown and asked for, into an installed bundle."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from soundctm.errors import LicenceNotAcceptedError, SoundCTMError
from soundctm.fetching.fetch import Licence, Offer, fetch, make_offer, require_absent
from soundctm.fetching.hub import Hub
from soundctm.fetching.sources import find_source, sources_file
from soundctm.licences import AcceptedLicences
from soundctm.settings import hub_endpoint, hub_token, licences_dir, models_dir

_INTERRUPTED_EXIT_CODE = 130  # as a shell says it of SIGINT


def fetch_model(
    name: Annotated[str, typer.Argument(help="A published model: soundctm-v1, soundctm-v2.")],
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="You have read the licence and accept it; nothing is asked.")
    ] = False,
) -> None:
    """Download a published model, verify it and install it as a bundle. A broken transfer goes on where it was."""
    console = Console(stderr=True)
    models = models_dir()
    try:
        source = find_source(name, sources_file())
        require_absent(name, models)
        hub = Hub(hub_endpoint(), hub_token())
        offer = make_offer(source, hub)
        _show(offer, console)
        if not accept_licence:
            _ask(offer)
        with _progress(console) as progress:
            task = progress.add_task(name, total=offer.size_bytes)
            bundle = fetch(offer, hub, models, lambda count: progress.advance(task, count))
        if bundle.spec.restricted:
            AcceptedLicences(licences_dir()).accept(bundle.digest, bundle.spec.licence, name)
    except KeyboardInterrupt as error:
        told = f"\nStopped. What is here is kept: `soundctm models fetch {name}` goes on from there."
        console.print(told, soft_wrap=True)
        raise typer.Exit(_INTERRUPTED_EXIT_CODE) from error
    except SoundCTMError as error:
        console.print(f"[red]{error.reason}[/]: {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error
    typer.echo(f"{name}: digest {bundle.digest[:12]}, {bundle.path}")


def _show(offer: Offer, console: Console) -> None:
    console.print(f"{offer.source.name}: {offer.source.description}", highlight=False)
    for file in offer.files.values():
        console.print(f"  {file.size_bytes / 1e6:8.1f} MB  {file.repository}/{escape(file.path)}", highlight=False)
    for licence in offer.licences:
        console.print(escape(_statement(licence)), highlight=False)
        if licence.text:
            console.print(escape(licence.text), highlight=False)


def _statement(licence: Licence) -> str:
    if licence.name:
        return f"Licence of {licence.repository}: {licence.name}"
    return (
        f"Licence of {licence.repository}: its publisher states none. Without a licence you may not be allowed to use, "
        "pass on or sell what the model makes; ask the publisher."
    )


def _ask(offer: Offer) -> None:
    """Raises LicenceNotAcceptedError unless the answer is yes."""
    question = "Do you accept these terms?" if all(licence.name for licence in offer.licences) else "Fetch it anyway?"
    try:
        accepted = typer.confirm(question, err=True)
    except typer.Abort:  # no more input, or Ctrl-C at the question
        accepted = False
    if not accepted:
        raise LicenceNotAcceptedError(
            "the licence was not accepted; nothing was fetched. A script that may accept it says --accept-licence."
        )


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
        console=console,
    )  # fmt: skip
