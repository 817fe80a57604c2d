"""Files that are whole or not there, and what the disk may answer."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from soundctm_daemon.errors import ClipFolderNotWritableError, DiskFullError, LibraryError

WriteFile = Callable[[Path, bytes], None]

_FULL = {errno.ENOSPC, errno.EDQUOT}
_NOT_WRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM}
PARTIAL_PATTERN = ".*.partial"


def write_durably(path: Path, data: bytes) -> None:
    """Write aside, fsync, rename, fsync the folder: after a crash the file is whole or absent. Raises OSError."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
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
            f"the disk that holds the clip folder {folder} is full; this clip was not stored, everything stored before "
            "is untouched. Free some space and ask for the clip again."
        )
    if error.errno in _NOT_WRITABLE:
        return ClipFolderNotWritableError(
            f"the clip folder {folder} cannot be written ({error.strerror}); everything in it is untouched. Make it "
            "writable for the daemon's user, or name another folder by SOUNDCTM_CLIPS and start the daemon again."
        )
    return LibraryError(f"the clip folder {folder} cannot be used: {error}. What is stored there is untouched.")
