"""What a client of the whole daemon sees of the clip library."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from running_daemon import RunningDaemon, steered
from soundctm_daemon.files import write_durably
from soundgen import types
from soundgen.client import Client
from soundgen.errors import DataLossError, ExhaustedError, PreconditionError


def failing(number: int) -> Callable[[Path, bytes], None]:
    def write(path: Path, data: bytes) -> None:
        raise OSError(number, os.strerror(number), str(path))

    return write


def test_the_client_is_told_and_the_daemon_goes_on_when_the_disk_is_full(models: Path) -> None:
    full = [True]

    def write(path: Path, data: bytes) -> None:
        if full:
            full.pop()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_durably(path, data)

    with RunningDaemon(steered(), write) as daemon, Client() as client:
        with pytest.raises(ExhaustedError, match="Free some space") as caught:
            list(client.generate("rain", seconds=0.5))
        assert caught.value.reason == "DISK_FULL"
        assert client.clips().clips == ()
        assert list(daemon.settings.clips_dir.glob("*.wav")) == []
        assert isinstance(list(client.generate("rain", seconds=0.5))[-1], types.ClipReady)


def test_the_client_is_told_when_the_folder_is_read_only(models: Path) -> None:
    with RunningDaemon(steered(), failing(errno.EROFS)), Client() as client:
        with pytest.raises(PreconditionError, match="cannot be written") as caught:
            list(client.generate("rain", seconds=0.5))
        assert caught.value.reason == "CLIP_FOLDER_NOT_WRITABLE"


def test_a_download_of_a_damaged_file_is_data_loss(models: Path, tmp_path: Path) -> None:
    with RunningDaemon(steered()), Client() as client:
        ready = list(client.generate("rain", seconds=0.5))[-1]
        assert isinstance(ready, types.ClipReady)
        ready.clip.path.write_bytes(b"RIFF")
        with pytest.raises(DataLossError, match="is not the file that was stored"):
            client.download(ready.clip_id, tmp_path / "copy.wav")
        ready.clip.path.unlink()
        with pytest.raises(DataLossError, match="cannot be read"):
            client.download(ready.clip_id, tmp_path / "copy.wav")
    assert not (tmp_path / "copy.wav").exists()
