"""What a client of the whole daemon sees of the clip library."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from running_daemon import PATIENCE_SECONDS, RunningDaemon, SteeredEngine, steered
from soundctm.bundle import Bundle
from soundctm.engines.protocol import Engine
from soundctm_daemon.files import write_durably
from soundgen import types
from soundgen.client import Client
from soundgen.errors import DataLossError, ExhaustedError, InvalidRequestError, PreconditionError
from soundgen.formats import export


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


def test_clips_made_brought_in_and_deleted_are_found_by_meaning(daemon: RunningDaemon, client: Client) -> None:
    rain = client.generate("rain on a tin roof", seconds=0.5).clip()
    dog = client.generate("dog barks", seconds=0.5).clip()
    path = daemon.settings.clips_dir.parent / "heavy rain.wav"
    soundfile.write(path, np.zeros(100, np.float32), 44100)
    brought = client.import_clip(path)
    hits = client.search_clips("rain on a tin roof")
    assert (hits[0].clip.id, hits[0].similarity) == (rain.id, pytest.approx(1.0, abs=1e-5))
    assert {hit.clip.id for hit in hits} == {rain.id, dog.id, brought.id}
    client.delete_clip(rain.id)
    assert {hit.clip.id for hit in client.search_clips("rain on a tin roof")} == {dog.id, brought.id}
    assert {hit.clip.id for hit in client.search_clips(clip_id=dog.id)} == {brought.id}


def test_searches_that_wait_for_a_model_hold_up_nobody_else(models: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def load(bundle: Bundle) -> Engine:
        begun.set()
        assert go_on.wait(PATIENCE_SECONDS)
        return SteeredEngine(bundle, lambda: None)

    with (
        RunningDaemon(load),
        Client(timeout_seconds=PATIENCE_SECONDS) as client,
        ThreadPoolExecutor(64) as searching,
    ):
        assert begun.wait(PATIENCE_SECONDS)
        searches = [searching.submit(client.search_clips, "rain") for _ in range(64)]
        for _ in range(50):
            assert client.clips().clips == ()
        assert not any(search.done() for search in searches)
        go_on.set()
        assert [search.result(PATIENCE_SECONDS) for search in searches] == [()] * 64


def test_an_export_brought_in_again_makes_the_same_clip(client: Client, tmp_path: Path) -> None:
    made = client.generate("thunder", seconds=0.5, steps=2).clip()
    for suffix in (".wav", ".flac", ".aiff", ".ogg", ".mp3"):
        brought = client.import_clip(export(client, made.id, tmp_path / f"thunder{suffix}"))
        assert brought.recipe == made.recipe, suffix
    again = client.rerender(client.export_recipe(brought.id)).clip()
    np.testing.assert_array_equal(soundfile.read(again.path)[0], soundfile.read(made.path)[0])


def test_the_daemon_s_limits_hold_for_imports(models: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.zeros(300_000, np.float32), 44100, subtype="FLOAT")
    with RunningDaemon(steered(), import_limit_mb=1), Client() as client:
        with pytest.raises(InvalidRequestError, match="import_limit_mb is 1"):
            client.import_clip(tmp_path / "long.wav")
        assert client.clips().clips == ()
