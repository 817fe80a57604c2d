"""Files and folders that are the owner's alone."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from soundctm_daemon.errors import SettingsError

_OWNER_ONLY = 0o600
_log = logging.getLogger(__name__)


def write_private(path: Path, text: str) -> None:
    """Written aside for the owner alone, fsynced, renamed: a file that is there is whole. Raises OSError."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def close_to_others(path: Path) -> None:
    """Take group's and others' rights from a file or folder, with a warning where they had any. Raises OSError."""
    mode = path.stat().st_mode
    if mode & 0o077:
        _log.warning("%s could be used by others than its owner; it is closed to them now", path)
        path.chmod(mode & 0o700)


def require_own_folder(folder: Path) -> None:
    """A folder in which nobody else can put, exchange or remove anything. Raises SettingsError, OSError."""
    about = folder.stat()
    if about.st_uid != os.geteuid():
        raise SettingsError(
            f"the folder {folder} belongs to another user (id {about.st_uid}; this is {os.geteuid()}), who could put a "
            "socket of theirs in the daemon's place. Name a folder of your own by SOUNDCTM_STATE or SOUNDCTM_SOCKET."
        )
    if about.st_mode & 0o022:
        raise SettingsError(
            f"the folder {folder} can be written by others (mode {about.st_mode & 0o777:o}), who could put a socket of "
            f"theirs in the daemon's place. Close it (`chmod go-w {folder}`), or name another by SOUNDCTM_SOCKET."
        )
