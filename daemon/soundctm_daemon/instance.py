"""One daemon per state folder, per socket and per clip folder: locks die with their process, sockets do not."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from soundctm_daemon.errors import AlreadyRunningError, SettingsError
from soundctm_daemon.files import library_error
from soundctm_daemon.private_files import close_to_others, require_own_folder
from soundctm_daemon.settings import Settings
from soundgen import paths

NOT_SIGNED_YET = 0
_LOCK_TRIES = 5
_LOCK_PAUSE_SECONDS = 0.02


@contextlib.contextmanager
def sole_instance(settings: Settings) -> Iterator[None]:
    """Hold the locks, with the state folder made and nobody else's, and a dead daemon's socket removed.

    Raises AlreadyRunningError, SettingsError, LibraryError and its kinds.
    """
    _make_own(settings.state_dir, closed=True)
    _make_own(settings.socket.parent, closed=False)  # the socket closes itself
    _make_clips_folder(settings.clips_dir)
    with (
        _lock(state_lock(settings), "SOUNDCTM_STATE"),
        _lock(settings.socket.with_name(f"{settings.socket.name}.lock"), "SOUNDCTM_SOCKET"),
        _lock(settings.clips_dir / ".daemon.lock", "SOUNDCTM_CLIPS"),
    ):
        _remove_stale_socket(settings.socket)
        try:
            yield
        finally:
            settings.socket.unlink(missing_ok=True)


def state_lock(settings: Settings) -> Path:
    return settings.state_dir / "daemon.lock"


def holder(lock: Path) -> int | None:
    """Process id of the daemon that holds a lock, NOT_SIGNED_YET for an instant; None when nobody does."""
    try:
        with lock.open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _process_id(file.read())
    except FileNotFoundError:
        return None
    return None


def _process_id(text: str) -> int:
    return int(text) if text.strip().isdecimal() else NOT_SIGNED_YET


@contextlib.contextmanager
def _lock(path: Path, variable: str) -> Iterator[None]:
    """`variable` of the environment names the folder. Raises AlreadyRunningError, SettingsError."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError(
            f"the lock {path} cannot be opened ({error.strerror}). Make its folder writable, or name another by "
            f"{variable}."
        ) from error
    try:
        try:
            _take(descriptor)
        except BlockingIOError as error:
            raise AlreadyRunningError(
                f"another daemon (process {os.read(descriptor, 32).decode().strip() or 'unknown'}) holds {path}. "
                f"Use it, stop it with `soundctm daemon stop`, or name another folder by {variable}."
            ) from error
        _sign(descriptor, path, variable)
        yield
    finally:
        os.close(descriptor)  # the file stays: removing it would let two daemons hold two files of one name


def _make_own(folder: Path, *, closed: bool) -> None:
    """`closed`: others may not even look inside. Raises SettingsError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        require_own_folder(folder)
        if closed:
            close_to_others(folder)
    except OSError as error:
        raise SettingsError(
            f"the folder {folder} cannot be made or used ({error.strerror}). Name one that can be written by "
            "SOUNDCTM_STATE (or, for the socket alone, SOUNDCTM_SOCKET)."
        ) from error


def _make_clips_folder(folder: Path) -> None:
    """It may be shared with others: nothing but its lock says whose it is now. Raises LibraryError and its kinds."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise library_error(error, folder) from error


def _sign(descriptor: int, path: Path, variable: str) -> None:
    """Who holds the lock, for `holder` and for who finds it held. Raises SettingsError."""
    try:
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    except OSError as error:
        raise SettingsError(
            f"the lock {path} cannot be written ({error.strerror}). Free some space, or name another folder by "
            f"{variable}."
        ) from error


def _take(descriptor: int) -> None:
    """Somebody asking `holder` has the lock for an instant: try for a little while. Raises BlockingIOError."""
    for _ in range(_LOCK_TRIES - 1):
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(_LOCK_PAUSE_SECONDS)
    return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_stale_socket(path: Path) -> None:
    """What a killed daemon left. Raises SettingsError when something else lies there."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SettingsError(f"{path} is in the socket's place and is no socket. Move it away, or set SOUNDCTM_SOCKET.")
    if paths.answers(path):
        raise AlreadyRunningError(
            f"another process answers at {path} without holding its lock. Stop it, or set SOUNDCTM_SOCKET."
        )
    path.unlink()
