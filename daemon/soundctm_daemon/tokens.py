"""Named tokens: one for each program that may call, revoked alone.

Only their sha256 is kept. A token is 256 random bits, so a slow hash would add nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from soundctm_daemon.errors import SettingsError, TokenNameError
from soundctm_daemon.private_files import close_to_others, write_private

OWNER = ""  # the name of the owner's own token
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NamedToken:
    """`sha256` of the token in lower-case hexadecimal; `created_at` in ISO 8601."""

    name: str
    sha256: str
    created_at: str


class TokenFile:
    """The tokens of one state folder. Several processes may change it at once."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / "tokens.json"

    def read(self) -> tuple[NamedToken, ...]:
        """In the order they were made. Raises SettingsError when the file is there and is no list of tokens."""
        try:
            close_to_others(self.path)
            return tuple(NamedToken(**entry) for entry in json.loads(self.path.read_text())["tokens"])
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise SettingsError(
                f"the token list {self.path} cannot be used ({error}). Mend it, or remove it: then every named token "
                "is revoked, and new ones are made by `soundctm daemon token add NAME`."
            ) from error

    def add(self, name: str) -> str:
        """The new token, which is kept nowhere. Raises TokenNameError, SettingsError."""
        if not _NAME.fullmatch(name):
            raise TokenNameError(
                f"{name!r} cannot name a token; allowed: 1 to 40 letters, digits, '.', '-' and '_', a letter or digit "
                "first."
            )
        with self._locked():
            tokens = self.read()
            if any(token.name == name for token in tokens):
                raise TokenNameError(f"a token named {name!r} is there already. Revoke it first, or take another name.")
            secret = secrets.token_urlsafe(32)
            self._write((*tokens, NamedToken(name, _sha256(secret), datetime.now(UTC).isoformat(timespec="seconds"))))
        return secret

    def revoke(self, name: str) -> None:
        """From now on its calls are refused. Raises TokenNameError when there is none of that name, SettingsError."""
        with self._locked():
            tokens = self.read()
            kept = tuple(token for token in tokens if token.name != name)
            if len(kept) == len(tokens):
                known = ", ".join(token.name for token in tokens) or "none"
                raise TokenNameError(f"no token is named {name!r}; there are: {known}.")
            self._write(kept)

    def _write(self, tokens: tuple[NamedToken, ...]) -> None:
        text = json.dumps({"tokens": [asdict(token) for token in tokens]}, indent=1)
        try:
            write_private(self.path, text + "\n")
        except OSError as error:
            raise self._unwritable(error) from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One change at a time. Raises SettingsError."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _unwritable(self, error: OSError) -> SettingsError:
        return SettingsError(
            f"the token list {self.path} cannot be written ({error.strerror}); nothing was changed. Make its folder "
            "writable, or free some space, and try again."
        )


class Tokens:
    """Whose a token is. Follows the file: what was added or revoked counts from the next call."""

    def __init__(self, owner_token: str, file: TokenFile) -> None:
        self._owner_sha256, self._file = _sha256(owner_token), file
        self._stamp: tuple[int, ...] | None = None
        self._named: tuple[NamedToken, ...] = ()

    def owner_of(self, token: str) -> str | None:
        """The token's name, OWNER for the owner's own, None for one that is not known."""
        given = _sha256(token)
        if hmac.compare_digest(given, self._owner_sha256):
            return OWNER
        self._follow()
        return next((known.name for known in self._named if hmac.compare_digest(given, known.sha256)), None)

    def _follow(self) -> None:
        """Read the file again when it is another. One that cannot be used admits nobody but the owner."""
        stamp = _stamp(self._file.path)
        if stamp == self._stamp:
            return
        try:
            self._named = self._file.read()
        except SettingsError as error:
            self._named = ()
            _log.error("%s", error)
        self._stamp = stamp


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_ino, about.st_mtime_ns, about.st_size


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()
