"""The pools on disk are what the seed says, whoever wrote them."""

import json
from pathlib import Path

import numpy as np
import pytest

from soundctm_training.synthesise import (
    PCM_SCALE,
    DataConfig,
    DataConfigError,
    PoolDrawer,
    draw_clip,
    pool_seed,
    to_pcm,
    write_pool,
    write_pools,
)

CONFIG = DataConfig({4: 30}, mix_share=0.2, recording_share=0.1)


def test_a_pool_holds_every_clip_and_its_caption_in_order(tmp_path: Path) -> None:
    write_pool(tmp_path, PoolDrawer(9, 4, CONFIG, None))
    audio = np.load(tmp_path / "audio_4.npy", mmap_mode="r")
    rows = [json.loads(line) for line in (tmp_path / "meta_4.jsonl").read_text(encoding="utf-8").splitlines()]
    assert audio.dtype == np.int16 and audio.shape == (30, 4 * 1024) and len(rows) == 30
    for index in (0, 13, 29):
        clip = draw_clip(index, seed=9, frames=4, config=CONFIG, recordings=None)
        assert np.array_equal(audio[index], to_pcm(clip.sound.audio))
        assert rows[index] == {"caption": clip.sound.caption, "label": clip.sound.label, "source": clip.source}
        assert np.abs(audio[index] / PCM_SCALE - clip.sound.audio).max() <= 0.5 / PCM_SCALE + 1e-7
    assert {row["source"] for row in rows} == {"synth", "mix"}


def test_chunks_drawn_apart_are_the_chunks_drawn_together() -> None:
    config = DataConfig({1: 60}, mix_share=0.0, recording_share=0.0)
    drawer = PoolDrawer(3, 1, config, None)
    whole = np.concatenate([chunk.pcm for chunk in drawer.chunks(workers=1)])
    assert len(whole) == 60
    assert np.array_equal(whole[50:], drawer.chunk(50).pcm)


def test_pools_are_what_the_file_says_and_leave_their_seed(tmp_path: Path) -> None:
    config = tmp_path / "data.toml"
    config.write_text("mix_share = 0.1\nrecording_share = 0.1\n[clips]\n1 = 24\n2 = 3\n")
    write_pools(tmp_path / "pools", 42, DataConfig.read(config), None)
    assert pool_seed(tmp_path / "pools") == 42
    assert np.load(tmp_path / "pools" / "audio_2.npy").shape == (3, 2048)
    assert len((tmp_path / "pools" / "meta_1.jsonl").read_text().splitlines()) == 24


@pytest.mark.parametrize(
    ("clips", "mix_share", "said"), [({108: 5}, 1.0, "mix_share is 1"), ({108: 0}, 0.1, "at least 1")]
)
def test_an_impossible_config_is_refused(clips: dict[int, int], mix_share: float, said: str) -> None:
    with pytest.raises(DataConfigError, match=said):
        DataConfig(clips, mix_share, 0.1)


def test_pools_of_some_classes_only(tmp_path: Path) -> None:
    config = tmp_path / "data.toml"
    config.write_text('mix_share = 0.0\nrecording_share = 0.0\nlabels = ["rain", "bell"]\n[clips]\n1 = 4\n')
    write_pools(tmp_path / "pools", 1, DataConfig.read(config), None)
    lines = (tmp_path / "pools" / "meta_1.jsonl").read_text().splitlines()
    assert [json.loads(line)["label"] for line in lines] == ["rain", "bell"] * 2
    config.write_text('mix_share = 0.0\nrecording_share = 0.0\nlabels = ["rane"]\n[clips]\n1 = 4\n')
    with pytest.raises(DataConfigError, match=r"labels names \['rane'\]; the catalogue holds rain, "):
        DataConfig.read(config)


def test_a_folder_without_pools_has_no_seed(tmp_path: Path) -> None:
    with pytest.raises(DataConfigError, match=r"synthesis\.json"):
        pool_seed(tmp_path)
