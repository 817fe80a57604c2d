"""What a network remembers of its texts, and what a prompt's vector becomes by it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from small_training import CONFIG
from soundctm.networks.dit import DiT
from soundctm.networks.recall import likeness, recalled
from soundctm.spec import DiTSpec
from soundctm.text.protocol import TextEncoder
from soundctm_training.config import ConfigError
from soundctm_training.encode import text_encoder
from soundctm_training.familiar import Embeddings, embed, embedded_by_label
from soundctm_training.memory import Texts, remembering, trainable_copy
from tiny import TINY_SPEC

CAPTIONS = [
    *((text, "rain") for text in ("rain", "heavy rain", "rain on a roof", "a rain shower", "drizzle", "a downpour")),
    *((text, "dog") for text in ("a dog", "a dog barks", "barking", "a puppy yaps", "woof", "a hound")),
]


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return text_encoder()


@pytest.fixture(scope="module")
def by_label(encoder: TextEncoder) -> dict[str, Texts]:
    """Each known by one more phrase than its captions, in words of which they have none."""
    others = {"rain": "it is bucketing down", "dog": "a mutt growls"}
    known = embedded_by_label(CAPTIONS, encoder)
    return {label: Texts(of, np.concatenate([of, embed([others[label]], encoder)])) for label, of in known.items()}


@pytest.fixture(scope="module")
def empty(encoder: TextEncoder) -> Embeddings:
    return embed([""], encoder)


def network(**changes: object) -> DiT:
    assert CONFIG.network is not None
    torch.manual_seed(0)
    return DiT(dataclasses.replace(CONFIG.network, cond_dim=384, **changes)).requires_grad_(False)  # type: ignore[arg-type]


@pytest.fixture
def unlike(by_label: dict[str, Texts], empty: Embeddings) -> DiT:
    """A network whose vectors of different texts point into different directions."""
    found = network()
    every = torch.from_numpy(np.concatenate([*(texts.captions for texts in by_label.values()), empty]))
    found.to_pooled_embed[2].bias -= found.prompt_vector(every[:, None]).mean(0)
    return found


@pytest.fixture
def pupil(unlike: DiT, by_label: dict[str, Texts], empty: Embeddings) -> DiT:
    return remembering(unlike, by_label, empty, 2, 0)


def memory_of(found: DiT) -> torch.Tensor:
    assert found.text_memory is not None
    return found.text_memory


def test_a_vector_becomes_what_is_remembered_nearest_and_stays_between_where_it_lies_between() -> None:
    memory = torch.tensor([[3.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 1.0]])
    vectors = torch.tensor([[0.9, 0.2, 0.1], [7.0, 7.0, 0.0]])
    near, between = recalled(likeness(vectors, vectors, memory, None), memory)
    torch.testing.assert_close(near, memory[0])
    torch.testing.assert_close(between, (memory[0] + memory[1]) / 2)


def test_what_is_clearly_less_alike_takes_no_part() -> None:
    memory = torch.tensor([[3.0, 0.0], [0.0, 5.0]])
    torch.testing.assert_close(recalled(torch.tensor([[0.78, 0.62]]), memory), memory[:1])


def test_sentences_outweigh_vectors() -> None:
    memory, phrases = torch.eye(2), torch.eye(3)[:2]
    vector, sentence = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0]])
    alike = likeness(vector, sentence, memory, phrases)
    assert alike.tolist() == [[1.0, 6.0]]  # cosine 1 of the vectors; cosine 1 of the sentences, which counts sixfold
    torch.testing.assert_close(recalled(alike, memory), memory[1:])


def test_kinds_of_every_class_and_the_empty_text_are_remembered(
    encoder: TextEncoder, by_label: dict[str, Texts], empty: Embeddings
) -> None:
    memory = memory_of(remembering(network(), by_label, empty, 2, 0))
    assert memory.shape == (2 * 2 + 1, 64)
    every = network().pooled(*encoder.encode([text for text, label in CAPTIONS if label == "rain"]))
    assert float(torch.cdist(memory[:2], every).min(0).values.max()) < float(torch.cdist(every, every).max())
    torch.testing.assert_close(memory[-1:], network().pooled(*encoder.encode([""])))


def test_few_captions_are_remembered_themselves(encoder: TextEncoder, empty: Embeddings) -> None:
    few = embedded_by_label(CAPTIONS[:3], encoder)["rain"]
    memory = memory_of(remembering(network(), {"rain": Texts(few, few)}, empty, 8, 0))
    texts = [text for text, _ in CAPTIONS[:3]]
    torch.testing.assert_close(memory[:-1], network().pooled(*encoder.encode(texts)), atol=1e-5, rtol=1e-4)


def test_a_prompt_of_other_words_comes_nearer_to_a_kind_of_its_class(pupil: DiT, encoder: TextEncoder) -> None:
    rain, dog, _ = memory_of(pupil).split([2, 2, 1])
    for kinds, prompt in ((rain, "it is raining cats"), (dog, "my dog yelps at the postman")):
        tokens = encoder.encode([prompt])
        vectors = pupil.prompt_vector(*tokens), pupil.pooled(*tokens)
        before, after = (float((vector - kinds).norm(dim=-1).min()) for vector in vectors)
        assert after < 0.5 * before


def test_a_phrase_has_the_vector_of_a_kind_of_its_class_and_its_own_sentence(
    unlike: DiT, by_label: dict[str, Texts], empty: Embeddings
) -> None:
    kinds, found = (remembering(unlike, by_label, empty, 2, phrases) for phrases in (0, 7))
    assert found.spec.text_memory == 2 * 7 + 1 and found.text_phrases is not None
    for row, kind in ((slice(0, 7), slice(0, 2)), (slice(7, 14), slice(2, 4)), (slice(14, 15), slice(4, 5))):
        assert float(torch.cdist(memory_of(found)[row], memory_of(kinds)[kind]).min(1).values.max()) == 0
    every = np.concatenate([*(texts.phrases for texts in by_label.values()), empty])
    torch.testing.assert_close(found.text_phrases, torch.from_numpy(every))


def test_a_phrase_brings_what_its_vector_would_not(
    unlike: DiT, by_label: dict[str, Texts], encoder: TextEncoder, empty: Embeddings
) -> None:
    """Of a map that puts all texts of rain where those of dogs lie, the phrases alone tell them apart."""
    found = remembering(unlike, by_label, empty, 2, 7)
    of_dogs = unlike.prompt_vector(torch.from_numpy(by_label["dog"].captions[:1, None]))
    last = found.to_pooled_embed[2]
    last.weight.zero_()
    last.bias.copy_(of_dogs[0])
    pooled = found.pooled(*encoder.encode(["it is really bucketing down"]))
    assert float(torch.cdist(pooled, memory_of(found)[:7]).min()) < 1e-4


def test_a_memory_is_made_anew(pupil: DiT, by_label: dict[str, Texts], empty: Embeddings) -> None:
    again = remembering(remembering(pupil, by_label, empty, 2, 3), by_label, empty, 2, 0)
    torch.testing.assert_close(again.state_dict(), pupil.state_dict())
    assert again.spec == pupil.spec


def test_the_empty_text_stays_what_it_is(
    encoder: TextEncoder, by_label: dict[str, Texts], empty: Embeddings
) -> None:
    remembers = remembering(network(), by_label, empty, 2, 0)
    before, after = (net.pooled(*encoder.encode([""])) for net in (network(), remembers))
    nearest = torch.cdist(after, network().pooled(*encoder.encode([text for text, _ in CAPTIONS]))).min()
    assert float((after - before).norm()) < 0.5 * float(nearest)


def test_a_network_whose_texts_have_no_vector_cannot_remember(empty: Embeddings) -> None:
    with pytest.raises(ConfigError, match=r"network\.pooled_text = true"):
        remembering(network(pooled_text=False), {}, empty, 2, 0)


def test_training_leaves_the_map_from_texts_of_a_network_that_remembers(pupil: DiT) -> None:
    for source, moves in ((pupil, False), (network(), True)):
        copy = trainable_copy(source)
        assert all(parameter.requires_grad is moves for parameter in copy.to_pooled_embed.parameters())
        assert copy.transformer.project_in.weight.requires_grad


def test_a_specification_without_a_memory_is_written_as_before() -> None:
    remembering = dataclasses.replace(TINY_SPEC, network=dataclasses.replace(TINY_SPEC.network, text_memory=3))
    assert not {"text_memory", "text_phrases"} & TINY_SPEC.to_json()["network"].keys()
    assert remembering.to_json()["network"]["text_memory"] == 3
    assert type(TINY_SPEC).from_json(remembering.to_json()).network == remembering.network
    assert DiTSpec(1, 2, 3, 4, 5).text_memory == 0
