"""CLAP's text conditions, from prompt to unit vector."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from soundctm.errors import TensorMismatchError
from soundctm.spec import TextKind, TextSpec
from soundctm.text.clap import PAD_ID, PROMPT_IDS, ClapText
from soundctm.text.encoder import Encoder, EncoderSpec
from soundctm.text.tokens import PromptTokenizer

GOLDEN = Path(__file__).parents[1] / "golden" / "dit" / "text"
META = json.loads((GOLDEN / "cases.json").read_text())["meta"]
OPTIONS = {
    "vocab_size": 120, "hidden": 64, "layers": 2, "heads": 2, "intermediate": 192, "positions": 514, "projection": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer_json(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RoBERTa's special tokens around the golden data's small vocabulary."""
    vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, **META["vocab"]}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    path = tmp_path_factory.mktemp("clap") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def test_prompts_become_the_official_ids(tokenizer_json: Path) -> None:
    cases = load_file(GOLDEN / "cases.safetensors")
    tokenize = PromptTokenizer(tokenizer_json, PROMPT_IDS, PAD_ID)
    ids, masks = (torch.cat(rows) for rows in zip(*(tokenize(text) for text in META["texts"]), strict=True))
    assert torch.equal(ids, cases["input_ids"])
    assert torch.equal(masks, cases["attention_mask"].bool())


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_prompts_become_the_official_conditions(version: str, tokenizer_json: Path) -> None:
    weights, projects = load_file(GOLDEN / "weights.safetensors"), version == "v1"
    kept = {name: tensor for name, tensor in weights.items() if projects or not name.startswith("text_projection.")}
    spec = TextSpec(TextKind.CLAP, dim=64, max_tokens=1, options={**OPTIONS, "projection": projects})
    tokens, mask = ClapText(spec, kept, tokenizer_json).encode(META["texts"])
    expected = load_file(GOLDEN / "cases.safetensors")[f"{version}_embedding"]
    assert tokens.shape == (len(META["texts"]), 1, 64) and mask.all() and mask.shape == tokens.shape[:2]
    assert (tokens[:, 0] - expected).abs().max() <= 1e-5
    assert torch.allclose(tokens.norm(dim=-1), torch.ones(1))


def test_the_projection_does_not_pass_silently_where_it_is_not_used(tokenizer_json: Path) -> None:
    spec = TextSpec(TextKind.CLAP, dim=64, max_tokens=1, options={**OPTIONS, "projection": False})
    with pytest.raises(TensorMismatchError, match=r"left over.*text_projection\.0\.bias"):
        ClapText(spec, load_file(GOLDEN / "weights.safetensors"), tokenizer_json)


def test_hidden_states_equal_the_reference_implementation() -> None:
    """Parity with the Hugging Face RobertaModel at another size, with prompts of unequal length."""
    from transformers import RobertaConfig, RobertaModel

    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=50, hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96,
        max_position_embeddings=40, type_vocab_size=1, layer_norm_eps=1e-5, initializer_range=0.3,
    )  # fmt: skip
    reference = RobertaModel(config).train(False)
    spec = EncoderSpec(50, 48, 3, 4, 96, 40, 1, 1e-5, PAD_ID, positions_after_pad=True, pooler=True)
    network = Encoder(spec).eval()
    network.load_state_dict(reference.state_dict())
    ids = torch.randint(4, 50, (3, 20))
    mask = torch.arange(20)[None] < torch.tensor([20, 11, 2])[:, None]
    ids = torch.where(mask, ids, PAD_ID)
    with torch.no_grad():
        expected = reference(ids, attention_mask=mask.long())
        hidden = network(ids, mask)
        pooled = network.pool(hidden)
    largest = float(expected.last_hidden_state.abs().max())
    assert (hidden - expected.last_hidden_state)[mask].abs().max() <= 1e-5 * max(1.0, largest)
    assert (pooled - expected.pooler_output).abs().max() <= 1e-5
