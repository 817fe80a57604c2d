"""Files that are whole or not there, and what the disk may answer."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from soundctm_daemon.errors import ClipFolderNotWritableError, DiskFullError, LibraryError

WriteFile = Callable[[Path, bytes], None]

_FULL = {errno.ENOSPC, errno.EDQUOT}
_NOT_WRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM}
PARTIAL_PATTERN = ".*.partial"


def partial_path(path: Path) -> Path:
    """Where a file is written before it gets its name; what lies there after a crash is removed."""
    return path.with_name(f".{path.name}.partial")


def write_durably(path: Path, data: bytes) -> None:
    """Write aside, fsync, rename, fsync the folder: after a crash the file is whole or absent. Raises OSError."""
    partial = partial_path(path)
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def move_durably(source: Path, destination: Path) -> None:
    """Rename, and fsync both folders. Raises FileExistsError where something is in the way, OSError."""
    if destination.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(destination))
    source.rename(destination)
    sync_folder(destination.parent)
    sync_folder(source.parent)


def sync_folder(path: Path) -> None:
    """Names given and removed in a folder outlast a crash. Raises OSError."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sha256_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def library_error(error: OSError, folder: Path) -> LibraryError:
    """What a failed write means to a user."""
    if error.errno in _FULL:
        return DiskFullError(
            f"the disk that holds the clip folder {folder} is full; this was not stored, everything stored before is "
            "untouched. Free some space and ask again."
        )
    if error.errno in _NOT_WRITABLE:
        return ClipFolderNotWritableError(
            f"the clip folder {folder} cannot be written ({error.strerror}); everything in it is untouched. Make it "
            "writable for the daemon's user, or name another folder by SOUNDCTM_CLIPS and start the daemon again."
        )
    return LibraryError(f"the clip folder {folder} cannot be used: {error}. What is stored there is untouched.")
