"""Licences of weights: which must be accepted once, and which were."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path

from soundctm.errors import LicenceNotKeptError

NONE_STATED = "none stated by the publisher"
# They forbid no use. Everything else, what is unknown included, must be accepted.
_PERMISSIVE = frozenset(
    {
        "0bsd", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-4.0", "cc0-1.0",
        "isc", "mit", "unlicense", "zlib",
    }
)  # fmt: skip


def is_restricted(licence: str) -> bool:
    """Unless every licence of an SPDX expression ("Apache-2.0", "MIT AND CC-BY-4.0") is known to forbid no use."""
    names = re.split(r"\s+(?:AND|OR)\s+", licence.strip().strip("()"))
    return not all(name.strip("() ").lower() in _PERMISSIVE for name in names)


class AcceptedLicences:
    """One small file per acceptance, of a bundle's digest and a licence: who accepts at the same time loses nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __contains__(self, acceptance: tuple[str, str]) -> bool:
        """Whether (digest, licence) was accepted. A file that cannot be read is no acceptance."""
        digest, licence = acceptance
        try:
            kept = json.loads(self._file(digest, licence).read_bytes())
            return bool(kept["digest"] == digest and kept["licence"] == licence)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def accept(self, digest: str, licence: str, model: str) -> None:
        """`model` is its name, for who reads the file. Raises LicenceNotKeptError."""
        kept = {"digest": digest, "licence": licence, "model": model, "accepted_at": datetime.now(UTC).isoformat()}
        file = self._file(digest, licence)
        partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with partial.open("w", encoding="utf-8") as stream:
                json.dump(kept, stream, indent=1)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(file)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise LicenceNotKeptError(
                f"that the licence of {model!r} was accepted cannot be written to {self._folder} ({error.strerror}). "
                "Make room there, or make it writable, and accept it again."
            ) from error

    def _file(self, digest: str, licence: str) -> Path:
        key = hashlib.sha256("\n".join((digest, licence)).encode()).hexdigest()
        return self._folder / f"{key[:32]}.json"
