"""Several encoded folders are one data set: every clip keeps its caption."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from small_training import dataset
from soundctm_training import joined
from soundctm_training.dataset import Dataset
from soundctm_training.joined import open_datasets


def test_clips_of_all_folders_keep_their_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: dict[Path, Dataset] = {Path("a"): dataset(0), Path("b"): dataset(1)}
    monkeypatch.setattr(joined, "open_dataset", lambda folder, _channels: parts[folder])
    together = open_datasets(list(parts))
    for frames, pool in together.pools.items():
        assert len(pool.captions) == len(pool.latents) == 24
        read = pool.latents[np.arange(24)]
        for index, part in enumerate(parts.values()):
            rows = slice(12 * index, 12 * (index + 1))
            assert np.array_equal(read[rows], part.pools[frames].latents)
            tokens, masks = together.text.rows(pool.captions[rows])
            expected_tokens, expected_masks = part.text.rows(part.pools[frames].captions)
            assert torch.equal(tokens, expected_tokens) and torch.equal(masks, expected_masks)
    assert together.text.texts[0] == ""


def test_what_captions_are_of_is_kept_where_a_folder_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    silent, said = dataset(0), dataset(1)
    told = dataclasses.replace(said, text=dataclasses.replace(said.text, things=("", "a", "a")))
    parts = {Path("a"): silent, Path("b"): told}
    monkeypatch.setattr(joined, "open_dataset", lambda folder, _channels: parts[folder])
    together = open_datasets(list(parts)).text
    assert list(together.things) == ["", "", "", "", "a", "a"]
    assert sorted(together.wordings) == [4, 5]


def test_one_folder_is_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    only = dataset()
    monkeypatch.setattr(joined, "open_dataset", lambda _folder, _channels: only)
    assert open_datasets([Path("a")]) is only
