"""A published model, from what the hub says of it to an installed bundle."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path

from soundctm.bundle import Bundle
from soundctm.errors import FetchDigestError, FetchError, FetchNotFoundError, FetchSpaceError
from soundctm.fetching.hub import Hub, HubRecord, printable
from soundctm.fetching.sources import Repository, Source, SourceFile
from soundctm.fetching.transfer import WantedFile, disk_error, fetch_file
from soundctm.licences import NONE_STATED

DOWNLOADS = ".downloads"  # in the models folder; no bundle's name begins with a dot
_RESERVE_BYTES = 200_000_000
_LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "LICENCE.md")
_LONGEST_LICENCE_BYTES = 200_000


@dataclass(frozen=True)
class Licence:
    """Of one repository. `name` is None where its publisher states none; `text` is empty where none lies beside."""

    repository: str
    name: str | None
    text: str


@dataclass(frozen=True)
class Offer:
    """What fetching a model would bring, and under which licences: for a person to say yes or no to.

    `files` by the names the converter has for them; the model's own licence comes first.
    """

    source: Source
    files: Mapping[str, WantedFile]
    licences: tuple[Licence, ...]

    @property
    def licence(self) -> str:
        return self.licences[0].name or NONE_STATED

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files.values())

    def missing_bytes(self, models: Path) -> int:
        return sum(file.missing_bytes(self.downloads(models)) for file in self.files.values())

    def downloads(self, models: Path) -> Path:
        return models / DOWNLOADS / self.source.name


def make_offer(source: Source, hub: Hub) -> Offer:
    """Ask the hub; nothing is written. Raises FetchError and its kinds."""
    repositories = {file.repository.id: file.repository for file in source.files.values()}
    records = {id: hub.record(id, repository.revision) for id, repository in repositories.items()}
    files = {role: _wanted(file, records[file.repository.id]) for role, file in source.files.items()}
    licences = [_licence(repository, records[id], hub) for id, repository in repositories.items()]
    return Offer(source, files, tuple(licences))


def fetch(
    offer: Offer,
    hub: Hub,
    models: Path,
    on_bytes: Callable[[int], object] = lambda count: None,
    free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
) -> Bundle:
    """Transfer, verify, convert and install under the source's name. `on_bytes(count)` counts up to the offer's size.

    Whole files and parts stay in the models folder until the bundle is installed, so that the next call goes on.
    Raises FetchError and its kinds, CheckpointError, TensorMismatchError.
    """
    downloads = offer.downloads(models)
    require_absent(offer.source.name, models)
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        _require_space(offer, models, free_bytes(downloads))
    except OSError as error:
        raise disk_error(error, models) from error
    paths = {role: fetch_file(hub, file, downloads, on_bytes) for role, file in offer.files.items()}
    aside = downloads / "bundle"
    shutil.rmtree(aside, ignore_errors=True)  # of a run that was killed just here
    bundle = _converted(offer, paths, aside)
    try:
        aside.rename(models / offer.source.name)
    except OSError as error:
        raise disk_error(error, models) from error
    shutil.rmtree(downloads, ignore_errors=True)
    return replace(bundle, path=models / offer.source.name)


def require_absent(name: str, models: Path) -> None:
    """Raises FetchError when a model of this name is installed."""
    if (models / name).exists():
        raise FetchError(f"{models / name} is there already. Remove it first: `soundctm models remove {name}`.")


def _converted(offer: Offer, paths: Mapping[str, Path], destination: Path) -> Bundle:
    from soundctm.checkpoints.convert import Choices, OfficialFiles, convert  # imports torch
    from soundctm.checkpoints.official import Variant
    from soundctm.spec import Ranges

    source = offer.source
    choices = Choices(
        source.name,
        Ranges(omega_min=2.0, omega_max=5.0, omega_default=3.5),  # the paper's interval
        source.num_heads,
        source.text_heads,
        Variant(source.variant),
        offer.licence,
        licence_text=_licence_text(offer),
        provenance="; ".join(f"{file.path} of {file.repository} at {file.commit}" for file in offer.files.values()),
    )
    return convert(OfficialFiles(**paths), choices, destination).bundle


def _wanted(file: SourceFile, record: HubRecord) -> WantedFile:
    where = f"{file.path} of {file.repository.id}"
    found = record.files.get(file.path)
    if found is None:
        raise FetchNotFoundError(
            f"{where} is no longer there; its publisher moved or removed it. Download the files by hand and use "
            "`soundctm models convert`."
        )
    if file.sha256 and found.sha256 and file.sha256 != found.sha256:
        raise FetchDigestError(
            f"{where} was changed by its publisher: its sha256 is {found.sha256} now, {file.sha256} was expected. "
            "Nothing was fetched. A newer version of soundctm-daw may know the new file."
        )
    if sha256 := file.sha256 or found.sha256:
        algorithm, digest = "sha256", sha256
    elif found.git_sha1:
        algorithm, digest = "git", found.git_sha1
    else:
        raise FetchError(f"the hub records no hash of {where}, so that it cannot be verified. Nothing was fetched.")
    return WantedFile(file.repository.id, record.commit, file.path, found.size_bytes, algorithm, digest)


def _licence(repository: Repository, record: HubRecord, hub: Hub) -> Licence:
    """Raises FetchError."""
    text = ""
    for path in _LICENCE_FILES:
        if path in record.files:
            with hub.open_file(repository.id, record.commit, path) as answer:
                try:
                    raw = answer.read(_LONGEST_LICENCE_BYTES)
                except (OSError, HTTPException) as error:
                    raise FetchError(f"{path} of {repository.id} cannot be read ({error}). Try again.") from error
            text = printable(raw.decode("utf-8", "replace"))
            break
    return Licence(repository.id, record.licence or repository.licence or None, text)


def _licence_text(offer: Offer) -> str:
    """The bundle's LICENCE file."""
    parts = [f"{licence.repository}: {licence.name or NONE_STATED}\n\n{licence.text}" for licence in offer.licences]
    return "\n\n".join(["These weights were converted from published files and keep their terms.", *parts]) + "\n"


def _require_space(offer: Offer, models: Path, free: int) -> None:
    """For what is missing and for the bundle, which is as big as all files together."""
    needed = offer.missing_bytes(models) + offer.size_bytes + _RESERVE_BYTES
    if free < needed:
        raise FetchSpaceError(
            f"{offer.source.name} needs {needed / 1e9:.1f} GB of disk, files and bundle together; the disk that holds "
            f"{models} has {free / 1e9:.1f} GB free. Make room, or set SOUNDCTM_MODELS to a folder on another disk."
        )
