"""What a caption is of, taught by captions alone."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from small_training import CONFIG, dataset
from soundctm.networks.dit import DiT
from soundctm_training.config import ConfigError, TrainingConfig
from soundctm_training.dataset import Dataset, TextTable
from soundctm_training.train_teacher import TeacherTrainer
from soundctm_training.wordings import contrastive_loss

THINGS = ("", *("bell", "rain", "wind") * 4)


def many_wordings() -> Dataset:
    """Twelve captions of three things, whose tokens do not tell which."""
    tokens = torch.randn(len(THINGS), 4, 16, generator=torch.Generator().manual_seed(3))
    texts = [f"{thing} {row}" for row, thing in enumerate(THINGS)]
    return dataclasses.replace(
        dataset(), text=TextTable(tokens, torch.ones(len(THINGS), 4, dtype=torch.bool), texts, THINGS)
    )


def with_contrast(weight: float, **network: bool) -> TrainingConfig:
    text = dataclasses.replace(CONFIG.text, contrast_weight=weight, contrast_captions=16)
    return dataclasses.replace(CONFIG, text=text, network=dataclasses.replace(CONFIG.network, **network))


def nearest_is_of_the_same_thing(network: DiT, table: TextTable) -> float:
    with torch.no_grad():
        vectors = network.pooled(table.tokens[1:], table.masks[1:])
    distances = torch.cdist(vectors, vectors).fill_diagonal_(math.inf)
    things = np.array(table.things[1:])
    return float((things[distances.argmin(1).numpy()] == things).mean())


def test_captions_of_one_thing_come_to_lie_together() -> None:
    data = many_wordings()
    found = {}
    for weight in (0.0, 1.0):
        trainer = TeacherTrainer(with_contrast(weight), data)
        losses = [trainer.train_step(step, 1.0) for step in range(60)]
        found[weight] = nearest_is_of_the_same_thing(trainer.network, data.text)
    assert losses[-1]["wordings"] < losses[0]["wordings"]
    assert found[1.0] == 1.0
    assert found[0.0] < 0.8  # the tokens are noise: sound alone has taught nothing of them


def test_the_loss_is_the_one_of_the_paper() -> None:
    vectors = torch.tensor([[2.0, 0.0], [0.6, 0.8], [0.0, 3.0], [-1.0, 0.0]])
    same = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], dtype=torch.bool)
    rows = []
    unit = (vectors / vectors.norm(dim=1, keepdim=True)).tolist()
    for row, other in ((0, 1), (1, 0), (2, 3), (3, 2)):
        likeness = [sum(a * b for a, b in zip(unit[row], unit[k], strict=True)) / 0.1 for k in range(4)]
        rows.append(-likeness[other] + math.log(sum(math.exp(likeness[k]) for k in range(4) if k != row)))
    assert float(contrastive_loss(vectors, same)) == pytest.approx(sum(rows) / 4, rel=1e-5)


@pytest.mark.parametrize(
    ("config", "data", "said"),
    [
        (with_contrast(0.1), dataset(), "several captions of one thing"),
        (with_contrast(0.1, pooled_text=False), many_wordings(), "network.pooled_text = true"),
    ],
)
def test_what_it_needs_is_said_before_training(config: TrainingConfig, data: Dataset, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        TeacherTrainer(config, data)


def test_what_a_network_remembers_settles_the_vectors_of_texts() -> None:
    remembers = DiT(dataclasses.replace(CONFIG.network, text_memory=3))
    with pytest.raises(ConfigError, match="a network that remembers some has settled them"):
        TeacherTrainer(with_contrast(0.1), many_wordings(), start=remembers)
