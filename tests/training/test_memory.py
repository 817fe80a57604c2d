"""What a bundle remembers of its texts, and what a prompt's vector becomes by it."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from small_training import CONFIG
from soundctm.networks.dit import DiT, recalled
from soundctm.spec import DiTSpec
from soundctm.text.protocol import TextEncoder
from soundctm_training.config import ConfigError
from soundctm_training.encode import text_encoder
from soundctm_training.familiar import embedded_by_label
from soundctm_training.memory import remembered_texts
from tiny import TINY_SPEC

CAPTIONS = [
    *((text, "rain") for text in ("rain", "heavy rain", "rain on a roof", "a rain shower", "drizzle", "a downpour")),
    *((text, "dog") for text in ("a dog", "a dog barks", "barking", "a puppy yaps", "woof", "a hound")),
]


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return text_encoder()


def network(**changes: object) -> DiT:
    assert CONFIG.network is not None
    torch.manual_seed(0)
    return DiT(dataclasses.replace(CONFIG.network, cond_dim=384, **changes)).requires_grad_(False)  # type: ignore[arg-type]


def with_memory(memory: torch.Tensor) -> DiT:
    """The same network, which remembers."""
    found = network(text_memory=len(memory))
    found.load_state_dict({**network().state_dict(), "text_memory": memory})
    return found


def test_a_vector_becomes_what_is_remembered_nearest_and_stays_between_where_it_lies_between() -> None:
    memory = torch.tensor([[3.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 1.0]])
    near, between = recalled(torch.tensor([[0.9, 0.2, 0.1], [7.0, 7.0, 0.0]]), memory)
    torch.testing.assert_close(near, memory[0])
    torch.testing.assert_close(between, (memory[0] + memory[1]) / 2)


def test_the_centres_of_every_class_and_the_empty_text_are_remembered(encoder: TextEncoder) -> None:
    memory = remembered_texts(network(), embedded_by_label(CAPTIONS, encoder), encoder, 2)
    assert memory.shape == (2 * 2 + 1, 64)
    every = network().pooled(*encoder.encode([text for text, label in CAPTIONS if label == "rain"]))
    assert float(torch.cdist(memory[:2], every).min(0).values.max()) < float(torch.cdist(every, every).max())
    torch.testing.assert_close(memory[-1:], network().pooled(*encoder.encode([""])))


def test_few_captions_are_remembered_themselves(encoder: TextEncoder) -> None:
    memory = remembered_texts(network(), embedded_by_label(CAPTIONS[:3], encoder), encoder, 8)
    texts = [text for text, _ in CAPTIONS[:3]]
    torch.testing.assert_close(memory[:-1], network().pooled(*encoder.encode(texts)), atol=1e-5, rtol=1e-4)


def test_a_prompt_of_other_words_comes_nearer_to_its_class(encoder: TextEncoder) -> None:
    remembering = with_memory(remembered_texts(network(), embedded_by_label(CAPTIONS, encoder), encoder, 2))
    for label, prompt in (("rain", "it is raining cats"), ("dog", "my dog yelps at the postman")):
        own = network().pooled(*encoder.encode([text for text, of in CAPTIONS if of == label])).mean(0)
        tokens = encoder.encode([prompt])
        before, after = (float((net.pooled(*tokens) - own).norm()) for net in (network(), remembering))
        assert after < before


def test_the_empty_text_stays_what_it_is(encoder: TextEncoder) -> None:
    remembering = with_memory(remembered_texts(network(), embedded_by_label(CAPTIONS, encoder), encoder, 2))
    before, after = (net.pooled(*encoder.encode([""])) for net in (network(), remembering))
    nearest = torch.cdist(after, network().pooled(*encoder.encode([text for text, _ in CAPTIONS]))).min()
    assert float((after - before).norm()) < 0.5 * float(nearest)


def test_a_network_whose_texts_have_no_vector_cannot_remember(encoder: TextEncoder) -> None:
    with pytest.raises(ConfigError, match=r"network\.pooled_text = true"):
        remembered_texts(network(pooled_text=False), {}, encoder, 2)


def test_a_specification_without_a_memory_is_written_as_before() -> None:
    remembering = dataclasses.replace(TINY_SPEC, network=dataclasses.replace(TINY_SPEC.network, text_memory=3))
    assert "text_memory" not in TINY_SPEC.to_json()["network"]
    assert remembering.to_json()["network"]["text_memory"] == 3
    assert type(TINY_SPEC).from_json(remembering.to_json()).network == remembering.network
    assert DiTSpec(1, 2, 3, 4, 5).text_memory == 0
