"""A full-size model of the official layout with random weights that behave like trained ones.

Nothing is zero, every block changes the residual by 10 to 50 % of its norm, and the decoder's waveform peaks between
0.3 and 0.8 before tanh: errors are then as loud beside the sound as they are in a trained model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from torch.nn import functional

from soundctm.bundle import CODEC_FILE, NETWORK_FILE, TEXT_FILE, TOKENIZER_FILE, Bundle, write_manifest
from soundctm.codecs.dac import Decoder, GaussianDAC
from soundctm.networks.dit import DiT
from soundctm.networks.preconditioning import c_in, c_noise, jump
from soundctm.spec import BundleSpec, CodecKind, CodecSpec, DiffusionSpec, DiTSpec, Ranges, TextKind, TextSpec
from soundctm.text.clap import ClapNetwork, roberta_spec

SIGMA_MAX, SIGMA_MIN, SIGMA_DATA, OMEGA = 80.0, 0.002, 0.5, 3.5
_SHARES = {"attention": (0.10, 0.30), "text": (0.02, 0.10), "feed-forward": (0.10, 0.35)}  # of the residual's norm
_PEAK = 0.5  # before tanh


@dataclass(frozen=True)
class Sizes:
    """Of the network, the decoder, the text encoder (RoBERTa's) and the latent."""

    network: DiTSpec
    decoder_dim: int
    decoder_rates: tuple[int, ...]
    text: dict[str, int]
    frames: int
    sample_rate_hz: int = 44100

    @property
    def seconds(self) -> float:
        return self.frames * math.prod(self.decoder_rates) / self.sample_rate_hz


FULL = Sizes(
    DiTSpec(io_channels=64, embed_dim=1536, depth=24, num_heads=24, cond_dim=768),
    decoder_dim=1536,
    decoder_rates=(8, 8, 4, 4),
    text={"vocab_size": 50265, "hidden": 768, "layers": 12, "heads": 12, "intermediate": 3072, "positions": 514},
    frames=432,
)
MINUTE = Sizes(
    replace(FULL.network, io_channels=4, embed_dim=64, depth=2, num_heads=2, cond_dim=64),
    decoder_dim=16,
    decoder_rates=(4, 2),
    text={"vocab_size": 100, "hidden": 64, "layers": 1, "heads": 2, "intermediate": 64, "positions": 90},
    frames=24,
)


def random_network(sizes: Sizes, seed: int = 0) -> DiT:
    """In float32, on the CPU."""
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(seed)
        network = DiT(sizes.network).eval().requires_grad_(False)
        for name, parameter in network.named_parameters():
            if name.endswith("gamma"):
                parameter.uniform_(0.8, 1.2)
            else:
                inputs = parameter[0].numel() if parameter.ndim > 1 else sizes.network.embed_dim
                nn.init.normal_(parameter, std=1.0 if "timestep_features" in name else inputs**-0.5)
        _balance_blocks(network, *start(sizes))
    return network


def start(sizes: Sizes, rows: int = 1, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Noise [B, C, T] at sigma_max, and the token of a prompt [B, 1, D], of unit length as the encoder gives it."""
    random = torch.Generator().manual_seed(seed)
    z = SIGMA_MAX * torch.randn(rows, sizes.network.io_channels, sizes.frames, generator=random)
    text = functional.normalize(torch.randn(rows, 1, sizes.network.cond_dim, generator=random), dim=-1)
    return z, text


def _balance_blocks(network: DiT, z: Tensor, text: Tensor) -> None:
    """Scale what each branch of each block gives to a drawn share of the residual that it is added to."""
    t, s = torch.tensor([SIGMA_MAX]), torch.tensor([SIGMA_MIN])
    level = network.level_embedding(c_noise(t), c_noise(s), torch.tensor([OMEGA]), None)
    hidden = network.embed(c_in(t, SIGMA_DATA)[:, None, None] * z, level)
    angles = network.transformer.rotary_pos_emb(hidden.shape[1])
    embedded = network.to_cond_embed(text)

    def scaled(branch: str, added: Tensor, outputs: nn.Linear) -> Tensor:
        low, high = _SHARES[branch]
        factor = float(torch.empty(()).uniform_(low, high) * hidden.norm() / added.expand_as(hidden).norm())
        for parameter in outputs.parameters():
            parameter.mul_(factor)
        return added * factor

    for layer in network.transformer.blocks():
        narrow = layer.ff.ff[2]
        assert isinstance(narrow, nn.Linear)
        hidden = hidden + scaled("attention", layer.self_attn(layer.pre_norm(hidden), angles), layer.self_attn.to_out)
        text_part = layer.cross_attn.constant(embedded)[:, None]
        hidden = hidden + scaled("text", text_part, layer.cross_attn.to_out)
        hidden = hidden + scaled("feed-forward", layer.ff(layer.ff_norm(hidden)), narrow)


def random_codec(sizes: Sizes, latent: Tensor, seed: int = 2) -> GaussianDAC:
    """In float32. `latent` [1, C, T] is what it will decode; the last convolution is scaled to it.

    Convolutions are as PyTorch initialises them. With as much out as in, residual units make a Snake stack chaotic:
    it turns the roundings of bfloat16, 45 dB, into 26.
    """
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(seed)
        rates = sizes.decoder_rates
        codec = GaussianDAC(
            encoder_dim=2, encoder_rates=rates[::-1], latent_dim=sizes.network.io_channels,
            decoder_dim=sizes.decoder_dim, decoder_rates=rates,
        )  # fmt: skip
        codec.eval().requires_grad_(False)
        for name, parameter in codec.decoder.named_parameters():
            if name.endswith("alpha"):
                parameter.uniform_(0.5, 1.5)
        peak = float(_before_tanh(codec, latent).abs().amax())
        for parameter in _last_convolution(codec.decoder).parameters():
            parameter.mul_(_PEAK / peak)
    return codec


def _last_convolution(decoder: Decoder) -> nn.Conv1d:
    last = decoder.model[-2]
    assert isinstance(last, nn.Conv1d)
    return last


def _before_tanh(codec: GaussianDAC, latent: Tensor) -> Tensor:
    sound: Tensor = codec.decoder.model[:-1](codec.post_conv(codec.restore(latent)))
    return sound


def write_bundle(folder: Path, sizes: Sizes) -> Bundle:
    """The model as a bundle in `folder` (created): engines load it as they load any other. 4.9 GB at full size."""
    folder.mkdir(parents=True)
    network = random_network(sizes)
    with torch.inference_mode():
        landed = _landed(network, *start(sizes), sizes)
    codec = random_codec(sizes, landed)
    encoder = roberta_spec(**sizes.text)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        text = ClapNetwork(encoder, None)
    for name, module in ((NETWORK_FILE, network), (CODEC_FILE, codec), (TEXT_FILE, text)):
        save_file({key: tensor.contiguous() for key, tensor in module.state_dict().items()}, folder / name)
    words = {word: index for index, word in enumerate(("<s>", "<pad>", "</s>", "<unk>", "heavy", "rain", "a", "dog"))}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    ends = [(word, words[word]) for word in ("<s>", "</s>")]
    tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    tokenizer.save(str(folder / TOKENIZER_FILE))
    (folder / "LICENCE").write_text("Apache-2.0, random weights\n")
    return write_manifest(folder, _spec(sizes))


def _landed(network: DiT, z: Tensor, text: Tensor, sizes: Sizes) -> Tensor:
    """A piece of a latent, long enough for the decoder to be scaled to."""
    t, s, omega = (torch.tensor([value]) for value in (SIGMA_MAX, SIGMA_MIN, OMEGA))
    piece = z[..., : min(sizes.frames, 32)]
    return jump(network, piece, t, s, omega, network.encode_context(text), SIGMA_DATA)


def _spec(sizes: Sizes) -> BundleSpec:
    network, rates = sizes.network, list(sizes.decoder_rates)
    longest = (sizes.frames - 0.5) / sizes.frames * sizes.seconds  # rounded up to whole frames, all of them
    return BundleSpec(
        name="full-size" if sizes is FULL else "minute",
        description="random weights, for measurements",
        network=network,
        diffusion=DiffusionSpec(SIGMA_DATA, SIGMA_MIN, SIGMA_MAX),
        codec=CodecSpec(
            CodecKind.GAUSSIAN_DAC, network.io_channels, math.prod(rates), sizes.sample_rate_hz,
            {
                "encoder_dim": 2, "encoder_rates": rates[::-1], "latent_dim": network.io_channels,
                "decoder_dim": sizes.decoder_dim, "decoder_rates": rates,
            },
        ),
        text=TextSpec(TextKind.CLAP, network.cond_dim, 1, {**sizes.text, "projection": False}),
        ranges=Ranges(1.0, 10.0, OMEGA, min_seconds=min(0.5, longest), max_seconds=longest),
        licence="Apache-2.0",
    )  # fmt: skip
