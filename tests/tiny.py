"""A minute bundle with random weights, made through the public path: the whole chain runs on it in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from soundctm.bundle import (
    CODEC_FILE,
    FAMILIAR_FILE,
    NETWORK_FILE,
    TEXT_FILE,
    TOKENIZER_FILE,
    Bundle,
    write_manifest,
)
from soundctm.codecs.loading import codec_factory
from soundctm.familiarity import FamiliarTable, write_familiar_table
from soundctm.networks.dit import DiT
from soundctm.spec import (
    BundleSpec,
    CodecKind,
    CodecSpec,
    Conditioning,
    DiffusionSpec,
    DiTSpec,
    Ranges,
    TextKind,
    TextSpec,
)
from soundctm.text.encoder import Encoder, EncoderSpec
from soundctm.text.loading import load_text_encoder
from soundctm.text.pooling import sentence_embedding
from soundctm.text.quantisation import quantise_matrices

_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "rain", "on", "a", "tin", "roof", "dog", "barks", "thunder", "heavy"]
_TEXT_DIM = 64

TINY_SPEC = BundleSpec(
    name="tiny",
    description="random weights, for tests",
    network=DiTSpec(
        io_channels=4,
        embed_dim=64,
        depth=2,
        num_heads=2,
        cond_dim=_TEXT_DIM,
        conditioning=Conditioning.ADAPTIVE_NORM,
        patch_frames=2,
        feed_forward_mult=2,
        qk_norm=True,
        pooled_text=True,
    ),
    diffusion=DiffusionSpec(),
    codec=CodecSpec(
        kind=CodecKind.GAUSSIAN_DAC,
        latent_channels=4,
        hop_samples=1024,
        options={
            "encoder_dim": 2,
            "encoder_rates": [4, 4, 8, 8],
            "latent_dim": 4,
            "decoder_dim": 16,
            "decoder_rates": [8, 8, 4, 4],
        },
    ),
    text=TextSpec(
        kind=TextKind.MINILM,
        dim=_TEXT_DIM,
        max_tokens=8,
        options={
            "vocab_size": len(_WORDS),
            "hidden": _TEXT_DIM,
            "layers": 1,
            "heads": 2,
            "intermediate": 64,
            "positions": 16,
            "token_types": 2,
            "norm_eps": 1e-12,
        },
    ),
    ranges=Ranges(omega_min=1.0, omega_max=5.0, omega_default=3.0),
    licence="Apache-2.0",
)


# Fewer layers still: a graph takes its exporter a tenth of a second per layer and more.
TINIEST_SPEC = replace(
    TINY_SPEC,
    network=replace(TINY_SPEC.network, depth=1),
    codec=replace(
        TINY_SPEC.codec, options={**TINY_SPEC.codec.options, "encoder_rates": [32, 32], "decoder_rates": [32, 32]}
    ),
)


def write_tiny_bundle(folder: Path, seed: int = 0, spec: BundleSpec = TINY_SPEC) -> Bundle:
    """Make the bundle in `folder` (created). Different seeds give different weights and digests."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network, codec = DiT(spec.network), codec_factory(spec)()
        options = spec.text.options
        text = Encoder(EncoderSpec(**options, pad_id=0, positions_after_pad=False, pooler=False))
        for parameter in network.parameters():  # zero-initialised branches would make every prompt sound the same
            torch.nn.init.normal_(parameter, std=0.15)
    save_file(dict(network.state_dict()), folder / NETWORK_FILE)
    save_file({name: tensor.contiguous() for name, tensor in codec.state_dict().items()}, folder / CODEC_FILE)
    save_file(quantise_matrices(dict(text.state_dict())), folder / TEXT_FILE)
    _tokenizer().save(str(folder / TOKENIZER_FILE))
    (folder / "LICENCE").write_text("Apache-2.0, random weights\n")
    return write_manifest(folder, spec)


def write_familiar_texts(bundle: Bundle, known: Mapping[str, str], threshold: float) -> Bundle:
    """The bundle, now saying what it was trained on: text -> label."""
    encoder = load_text_encoder(bundle)
    embeddings = sentence_embedding(*encoder.encode(list(known))).numpy()
    write_familiar_table(FamiliarTable(embeddings, tuple(known.values()), threshold), bundle.path / FAMILIAR_FILE)
    return write_manifest(bundle.path, bundle.spec)


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(_WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer
