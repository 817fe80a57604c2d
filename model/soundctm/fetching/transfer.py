"""One file from the hub to the disk: resumed where it broke off, and believed only when its hash is right."""

from __future__ import annotations

import errno
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from soundctm.errors import FetchDigestError, FetchError, FetchSpaceError, FetchUnreachableError
from soundctm.fetching.hub import Hub

_CHUNK_BYTES = 1 << 20
_TRIES = 5                # in a row that bring no byte
_FIRST_PAUSE_SECONDS = 1.0  # doubled at every such try
_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class WantedFile:
    """`algorithm` is "sha256", or "git": the sha1 of the file as a git object."""

    repository: str
    commit: str
    path: str
    size_bytes: int
    algorithm: str
    digest: str

    def place(self, folder: Path) -> Path:
        """Where it lies, once it is whole: under its digest, so that no file is taken for another."""
        return folder / self.digest[:16] / Path(self.path).name

    def partial(self, folder: Path) -> Path:
        place = self.place(folder)
        return place.with_name(f"{place.name}.partial")

    def missing_bytes(self, folder: Path) -> int:
        if self.place(folder).is_file():
            return 0
        partial = self.partial(folder)
        return self.size_bytes - (min(partial.stat().st_size, self.size_bytes) if partial.is_file() else 0)


def fetch_file(
    hub: Hub,
    wanted: WantedFile,
    folder: Path,
    on_bytes: Callable[[int], object] = lambda count: None,
    pause: Callable[[float], None] = time.sleep,
) -> Path:
    """Its path under `folder`. `on_bytes(count)` counts what is here, what was here before included.

    What was transferred stays for the next call, unless its hash is wrong.
    Raises FetchError and its kinds.
    """
    place, partial = wanted.place(folder), wanted.partial(folder)
    if place.is_file():
        on_bytes(wanted.size_bytes)
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
        on_bytes(wanted.size_bytes - wanted.missing_bytes(folder))
        _fill(hub, wanted, partial, on_bytes, pause)
        found = _digest(partial, wanted)
        if found != wanted.digest:
            partial.unlink()
            raise FetchDigestError(
                f"{wanted.path} of {wanted.repository} is not the file that was published: its {wanted.algorithm} hash "
                f"is {found}, the publisher's {wanted.digest}. It was removed; fetch it again, and tell the publisher "
                "if it happens twice."
            )
        partial.replace(place)
    except OSError as error:
        raise disk_error(error, folder) from error
    return place


def disk_error(error: OSError, folder: Path) -> FetchError:
    if error.errno in _FULL:
        return FetchSpaceError(f"the disk that holds {folder} is full. Make room and fetch again: it goes on.")
    return FetchError(f"{folder} cannot be written: {error}. Make it writable, or name another by SOUNDCTM_MODELS.")


def _fill(
    hub: Hub, wanted: WantedFile, partial: Path, on_bytes: Callable[[int], object], pause: Callable[[float], None]
) -> None:
    """Append until the size is right. Raises FetchError after `_TRIES` in a row that brought nothing; OSError."""
    tries = 0
    while (have := partial.stat().st_size) < wanted.size_bytes:
        broken = _append(hub, wanted, partial, have, on_bytes)
        if partial.stat().st_size > have:
            tries = 0
            continue
        tries += 1
        if tries == _TRIES:
            raise FetchError(
                f"the transfer of {wanted.path} broke off at {have} of {wanted.size_bytes} bytes, {_TRIES} times in a "
                f"row ({broken}). Check the network and fetch again: it goes on from there."
            )
        pause(_FIRST_PAUSE_SECONDS * 2 ** (tries - 1))


def _append(hub: Hub, wanted: WantedFile, partial: Path, start: int, on_bytes: Callable[[int], object]) -> str:
    """One request; why it ended. Never more than the file's size is taken. Raises OSError of the disk."""
    try:
        answer = hub.open_file(wanted.repository, wanted.commit, wanted.path, start)
    except FetchUnreachableError as error:
        return str(error)
    with answer:
        if start and not _continues(answer, start):
            on_bytes(-start)
            start = 0
        with partial.open("ab" if start else "wb") as file:
            missing = wanted.size_bytes - start
            while missing:
                try:
                    chunk = answer.read1(min(_CHUNK_BYTES, missing))
                except (OSError, HTTPException) as error:
                    return f"{type(error).__name__}: {error}"
                if not chunk:
                    return "the hub sent less than the whole file"
                file.write(chunk)
                on_bytes(len(chunk))
                missing -= len(chunk)
    return "it is whole"


def _continues(answer: HTTPResponse, start: int) -> bool:
    return answer.status == 206 and (answer.headers["Content-Range"] or "").startswith(f"bytes {start}-")


def _digest(path: Path, wanted: WantedFile) -> str:
    if wanted.algorithm == "sha256":
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha1(f"blob {wanted.size_bytes}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
