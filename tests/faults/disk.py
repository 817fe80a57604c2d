"""The disk is full, read-only or broken: at every single write, once, or until somebody mends it."""

from __future__ import annotations

import errno
import itertools
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from faults.crowd import SECONDS
from faults.points import every_write
from faults.scale import Scale
from faults.told import Told, losses
from running_daemon import RunningDaemon, steered
from soundgen import paths, types
from soundgen.client import Client
from soundgen.errors import ExhaustedError, PreconditionError, SoundgenError

FULL, READ_ONLY, BROKEN = "full", "read-only", "broken"
_CODES = {
    FULL: (errno.ENOSPC, sqlite3.SQLITE_FULL, ExhaustedError),
    READ_ONLY: (errno.EROFS, sqlite3.SQLITE_READONLY, PreconditionError),
    BROKEN: (errno.EIO, sqlite3.SQLITE_IOERR, PreconditionError),
}
_MOST_STEPS = 60  # no operation writes so often


class _Disk:
    """Fails at one step of writing, counted from `break_at`; or at all from that one on."""

    def __init__(self, kind: str) -> None:
        self._errno, self._sqlite_code, self.expected = _CODES[kind]
        self._steps, self._fail_at, self._lasting = 0, 0, False
        self.failed = False

    def break_at(self, step: int, lasting: bool) -> None:
        self._steps, self._fail_at, self._lasting, self.failed = 0, step, lasting, False

    def mend(self) -> None:
        self._fail_at = 0

    def strike(self, in_database: bool) -> None:
        if not self._fail_at:
            return
        self._steps += 1
        if self._steps == self._fail_at or (self._lasting and self._steps > self._fail_at):
            self.failed = True
            if in_database:
                error = sqlite3.OperationalError("told to fail")
                error.sqlite_errorcode = self._sqlite_code
                raise error
            raise OSError(self._errno, os.strerror(self._errno))


def at_every_write(kind: str, scale: Scale) -> list[str]:
    """Clips are made, named, deleted, brought back and imported; each operation meets the fault at its first write,
    at its second, and so on, and works again once the disk is mended."""
    disk, told = _Disk(kind), Told()
    with RunningDaemon(steered()), Client() as client, every_write(disk.strike):
        for operation, lasting in itertools.product(_OPERATIONS, scale.lasting):
            _each_step(operation, lasting, disk, client, told)
    with RunningDaemon(steered()), Client() as client:
        return losses(told, client, paths.clips_dir())


def _each_step(
    operation: Callable[[Client, Told], types.Clip], lasting: bool, disk: _Disk, client: Client, told: Told
) -> None:
    for step in range(1, _MOST_STEPS):
        for clip in (_generate(client, told), _deleted(client, told)):
            told.ready[clip.id] = clip
        disk.break_at(step, lasting)
        try:
            clip = operation(client, told)
        except SoundgenError as error:
            if not (disk.failed and isinstance(error, disk.expected)):
                told.unexpected.append(f"{operation.__name__}, write {step}: {error.reason}: {error}")
            disk.mend()
            clip = operation(client, told)
        disk.mend()
        told.ready[clip.id] = clip
        if not disk.failed:
            return
    told.unexpected.append(f"{operation.__name__} never came to its end")


def _generate(client: Client, told: Told) -> types.Clip:
    for event in client.generate("rain", seconds=SECONDS, steps=2):
        told.hear(event)
    return told.ready[event.clip_id]


def _deleted(client: Client, told: Told) -> types.Clip:
    return client.delete_clip(_generate(client, told).id)


def _name(client: Client, told: Told) -> types.Clip:
    return client.update_clip(client.clips().clips[0].id, label="another name", tags=["new"], favourite=True)


def _delete(client: Client, told: Told) -> types.Clip:
    return client.delete_clip(client.clips().clips[0].id)


def _bring_back(client: Client, told: Told) -> types.Clip:
    return client.undelete_clip(client.clips(deleted=True).clips[0].id)


def _import(client: Client, told: Told) -> types.Clip:
    source = paths.state_dir().with_name("sound.wav")
    soundfile.write(source, 0.1 * np.sin(np.arange(4410) / 9.0), 44100, subtype="FLOAT")
    return client.import_clip(Path(source))


_OPERATIONS = (_generate, _name, _delete, _bring_back, _import)
