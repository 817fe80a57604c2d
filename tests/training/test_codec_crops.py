"""Promises of the crops a codec trains on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from soundctm_training.codec.crops import PoolCrops, SourceCrops
from soundctm_training.codec.settings import CodecTrainingError
from soundctm_training.data.clips import Clip, Reason, Skipped
from soundctm_training.data.sources import Source

ALL = slice(0, 8)


class Ramps(Source):
    """Clip i counts up from i; every third item cannot be read."""

    def __init__(self, clips: int, samples: int) -> None:
        self.clips, self.samples, self.decoded = clips, samples, 0

    def __len__(self) -> int:
        return self.clips

    def item(self, index: int) -> Clip | Skipped:
        if index % 3 == 2:
            return Skipped(f"clip {index}", Reason.UNREADABLE)
        self.decoded += 1
        return Clip(((index + np.arange(self.samples)) / 1e4).astype(np.float32), "", f"clip {index}")

    def identity(self) -> Mapping[str, Any]:
        return {}


def ramp_pools() -> PoolCrops:
    short = np.arange(50 * 300).reshape(50, 300).astype(np.int16)
    long = np.arange(20 * 700).reshape(20, 700).astype(np.int16)
    return PoolCrops((short, long), batch=8, samples=100, seed=1)


@pytest.mark.parametrize("draw", [ramp_pools(), SourceCrops(Ramps(30, 300), 8, 100, 1, kept_clips=12)])
def test_a_step_decides_the_crops_whatever_was_drawn_before_and_however_they_are_shared(
    draw: PoolCrops | SourceCrops,
) -> None:
    crops = draw.crops(70, ALL)
    assert crops.shape == (8, 100) and crops.dtype == torch.float32
    other = draw.crops(3, ALL)
    assert not torch.equal(other, crops)
    parts = [draw.crops(70, slice(0, 3)), draw.crops(70, slice(3, 8))]
    torch.testing.assert_close(torch.cat(parts), crops, rtol=0, atol=0)
    assert not torch.equal(draw.resized(8, 100, 2).crops(70, ALL), crops)


def test_pool_crops_are_runs_of_one_clip_in_full_scale() -> None:
    pcm = (ramp_pools().crops(0, ALL) * 32767).round()
    assert bool((pcm.diff(dim=1) == 1).all())


def test_all_parts_of_all_pools_are_drawn() -> None:
    draw = ramp_pools().resized(batch=64, samples=100, seed=0)
    firsts = torch.cat([draw.crops(step, slice(0, 64))[:, 0] for step in range(40)]) * 32767
    assert float(firsts.min()) < 100 and float(firsts.max()) > 20 * 700 - 300


def test_clips_shorter_than_the_crop_end_in_silence() -> None:
    for draw in (ramp_pools().resized(4, 900, 0), SourceCrops(Ramps(30, 300), 4, 900, 0)):
        crops = draw.crops(0, slice(0, 4))
        assert crops.shape == (4, 900)
        assert float(crops[:, 710:].abs().max()) == 0 and float(crops[:, :300].abs().max()) > 0


def test_decoded_clips_serve_many_steps_and_then_make_room() -> None:
    source = Ramps(30, 300)
    draw = SourceCrops(source, 8, 100, 1, kept_clips=4, kept_steps=10)
    for step in range(10):
        draw.crops(step, ALL)
    assert source.decoded <= 4
    draw.crops(10, ALL)
    assert 4 < source.decoded + 1 <= 9


def test_items_that_cannot_be_read_are_drawn_again_and_named_when_there_is_nothing_else() -> None:
    draw = SourceCrops(Ramps(30, 300), 8, 100, 1)
    names = ", ".join(draw.describe(step, ALL) for step in range(20))
    assert not any(f"clip {bad}," in names + "," for bad in range(2, 30, 3))

    class Nothing(Ramps):
        def item(self, index: int) -> Skipped:
            return Skipped("lost.wav", Reason.SILENT)

    with pytest.raises(CodecTrainingError, match=r"lost\.wav"):
        SourceCrops(Nothing(3, 300), 8, 100, 1).crops(0, ALL)


def test_a_folder_without_pools_is_named(tmp_path: Path) -> None:
    with pytest.raises(CodecTrainingError, match=str(tmp_path)):
        PoolCrops.open(tmp_path, 1, 1, 0)
    np.save(tmp_path / "audio_12.npy", np.ones((2, 12 * 1024), np.int16))
    np.save(tmp_path / "audio_8.npy", np.ones((2, 8 * 1024), np.int16))
    assert [pool.shape[1] for pool in PoolCrops.open(tmp_path, 1, 1, 0).pools] == [8 * 1024, 12 * 1024]
