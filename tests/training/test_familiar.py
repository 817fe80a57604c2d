"""The table of known texts covers every class, and tells what the starter knows from what it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from soundctm.familiarity import FamiliarTable
from soundctm.text.protocol import TextEncoder
from soundctm_training.dataset import TextTable
from soundctm_training.encode import text_encoder
from soundctm_training.evaluation.prompts import canonical, held_out_prompts, known_labels
from soundctm_training.familiar import (
    MOST_ROWS,
    NothingFamiliarError,
    catalogue_captions,
    embedded_by_label,
    encoded_table,
    familiar_table,
    separation,
    split_held_out,
    spread_out,
    unknown_prompts,
)
from soundctm_training.synth.captions import class_captions
from soundctm_training.synth.catalogue import LABELS
from tiny import write_familiar_texts, write_tiny_bundle

CLASSES = ("rain", "dog", "bell", "engine")


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return text_encoder()


@pytest.fixture(scope="module")
def table(encoder: TextEncoder) -> FamiliarTable:
    captions = [pair for pair in catalogue_captions() if pair[1] in CLASSES]
    few = [pair for index, pair in enumerate(captions) if index % 4 == 0]
    return familiar_table(embedded_by_label(few, encoder), encoder)


def test_the_published_table_would_hold_every_class_and_stay_small() -> None:
    captions = catalogue_captions()
    assert {label for _, label in captions} == set(class_captions())
    assert len({label for _, label in captions}) <= MOST_ROWS


def test_rows_are_unit_vectors_of_every_class(table: FamiliarTable) -> None:
    assert set(table.labels) == set(CLASSES)
    np.testing.assert_allclose(np.linalg.norm(table.embeddings, axis=1), 1.0, atol=1e-5)


def test_what_is_no_sound_is_told_from_what_is_known(table: FamiliarTable, encoder: TextEncoder) -> None:
    found = separation(table, encoder)
    assert found.held_out <= 0.2  # 16 prompts: at most three
    assert found.unknown["no_sound"] >= 0.8
    assert found.right_label >= 0.8


def test_a_class_unlike_its_name_is_told_though_its_words_are_near_to_another(encoder: TextEncoder) -> None:
    captions = [pair for pair in catalogue_captions()[::4] if pair[1] in ("door", "knock")]
    by_label = embedded_by_label(captions, encoder)
    shares = [separation(familiar_table(by_label, encoder, unlike), encoder) for unlike in ((), ("door",))]
    assert shares[0].unlike is None
    assert shares[1].unlike is not None and shares[1].unlike >= 0.75  # of eight prompts


def test_the_threshold_warns_of_one_in_twenty_of_the_prompts_that_set_it(table: FamiliarTable) -> None:
    fitting, judging = split_held_out(CLASSES)
    assert not {text for text, _ in fitting} & {text for text, _ in judging}
    assert len(fitting) + len(judging) == sum(len(held_out_prompts()[label]) for label in CLASSES)
    assert 0.2 < table.threshold < 0.7


def test_encoded_captions_set_a_threshold_that_one_in_twenty_of_them_misses() -> None:
    tokens = torch.nn.functional.normalize(torch.randn(201, 1, 24, generator=torch.Generator().manual_seed(0)), dim=-1)
    texts = ["", *(f"caption {row}" for row in range(200))]
    masks = torch.ones(201, 1, dtype=torch.bool)
    table = encoded_table(TextTable(tokens, masks, texts))
    likeness = tokens[1:, 0] @ tokens[1:, 0].T
    nearest_other = likeness.fill_diagonal_(-1.0).max(1).values.numpy()
    assert sorted(table.labels) == sorted(texts[1:])
    assert np.mean(nearest_other < table.threshold) == pytest.approx(0.05)
    with pytest.raises(NothingFamiliarError, match="1 captions"):
        encoded_table(TextTable(tokens[:2], masks[:2], texts[:2]))


def test_the_kept_rows_are_the_ones_farthest_apart() -> None:
    angles = np.radians([0.0, 1.0, 2.0, 60.0, 61.0, 120.0])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    kept = spread_out(rows, 3)
    assert {round(float(np.degrees(angles[index])) / 60) for index in kept} == {0, 1, 2}
    assert sorted(spread_out(rows, 99)) == list(range(6))


def test_unknown_prompts_name_no_class_and_are_no_held_out_prompt() -> None:
    held_out = {canonical(text) for texts in held_out_prompts().values() for text in texts}
    for texts in unknown_prompts().values():
        for text in texts:
            assert canonical(text) not in held_out
            assert not set(canonical(text).split()) & set(LABELS), text


def test_without_a_class_to_judge_there_is_no_table(encoder: TextEncoder) -> None:
    with pytest.raises(NothingFamiliarError, match="nonsense"):
        familiar_table(embedded_by_label([("a caption", "nonsense")], encoder), encoder)


def test_a_bundle_is_judged_on_what_it_says_it_knows(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny")
    assert known_labels(bundle, ("rain", "dog", "siren")) == ("rain", "dog", "siren")
    telling = write_familiar_texts(bundle, {"rain on a roof": "rain", "a dog barks": "dog"}, threshold=0.4)
    assert known_labels(telling, ("siren", "dog", "rain")) == ("dog", "rain")
