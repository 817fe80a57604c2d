"""The graphs of a bundle as data: module, names and axes of what goes in and out, and what PyTorch says of an input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from soundctm.codecs.dac import GaussianDAC
from soundctm.codecs.mel import FRAME_SAMPLES, WhitenedMelCodec
from soundctm.codecs.vocoder import BINS
from soundctm.exports import Role, Tiling
from soundctm.networks.dit import TextContext
from soundctm.text.pooling import sentence_embedding
from soundctm_export.errors import ExportError
from soundctm_export.mel import OVERLAP_STEPS, STEPS_PER_FRAME, MelDecoderModule, MelEncoderModule
from soundctm_export.networks import DacDecoderModule, DacEncoderModule, JumpModule, TextModule, context_fields
from soundctm_export.parts import Parts

BATCH, FRAMES = "batch", "frames"
Tensors = tuple[Tensor, ...]


@dataclass(frozen=True)
class Port:
    """An input or output: `axes` maps those of its axes that vary to their names."""

    name: str
    axes: Mapping[int, str]


@dataclass(frozen=True)
class GraphPlan:
    """`inputs_for(rows, frames)` makes realistic inputs; `reference` is the answer of the bundle's own networks."""

    role: Role
    module: nn.Module
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    inputs_for: Callable[[int, int], Tensors]
    reference: Callable[[Tensors], Tensors]


def graph_plans(parts: Parts) -> tuple[GraphPlan, ...]:
    """Text encoder, jump, decoder, encoder. Raises ExportError for a codec that has no graphs."""
    return (_text(parts), _jump(parts), _decoder(parts), _encoder(parts))


def tiling(parts: Parts) -> Tiling:
    codec = parts.codec
    if isinstance(codec, WhitenedMelCodec):
        return Tiling(codec.tile_frames, codec.halo_frames, FRAME_SAMPLES, STEPS_PER_FRAME, OVERLAP_STEPS)
    return Tiling(codec.tile_frames, codec.halo_frames)


def _batched(name: str, **axes: int) -> Port:
    return Port(name, {0: BATCH, **{axis: label for label, axis in axes.items()}})


def _text(parts: Parts) -> GraphPlan:
    fields = tuple(context_fields(parts.contexts(1)))

    def reference(inputs: Tensors) -> Tensors:
        rows = inputs[0].shape[0]
        contexts = context_fields(parts.contexts(rows))
        embeddings = [sentence_embedding(*parts.text.encode([prompt])) for prompt in parts.prompts(rows)]
        return torch.cat(embeddings), *contexts.values()

    return GraphPlan(
        Role.TEXT,
        TextModule(parts.text.network, parts.network),
        (_batched("ids"), _batched("mask")),
        tuple(_batched(name) for name in ("prompt_embedding", *fields)),
        lambda rows, frames: parts.ids(rows),
        reference,
    )


def _jump(parts: Parts) -> GraphPlan:
    fields = tuple(parts.contexts(1).fields())

    def inputs_for(rows: int, frames: int) -> Tensors:
        t, s = parts.levels(rows)
        latents = parts.previews(rows, frames)
        z = latents + t[:, None, None] * parts.start_noise(rows, frames)
        return z, t, s, parts.omegas(rows), *parts.contexts(rows).fields().values()

    def reference(inputs: Tensors) -> Tensors:
        z, t, s, omega, *text = inputs
        return (parts.jumped(z, t, s, omega, TextContext(**dict(zip(fields, text, strict=True)))),)

    return GraphPlan(
        Role.JUMP,
        JumpModule(parts.network, parts.spec.diffusion.sigma_data, fields),
        (_batched("z", frames=2), *(_batched(name) for name in ("t", "s", "omega", *fields))),
        (_batched("landed", frames=2),),
        inputs_for,
        reference,
    )


def _decoder(parts: Parts) -> GraphPlan:
    codec = parts.codec
    latent, audio = _batched("latent", frames=2), _batched("audio", samples=2)

    def reference(inputs: Tensors) -> Tensors:
        return (codec.decode(inputs[0], None),)

    if isinstance(codec, GaussianDAC):
        return GraphPlan(
            Role.DECODER,
            DacDecoderModule(codec),
            (latent,),
            (audio,),
            lambda rows, frames: (parts.previews(rows, frames),),
            reference,
        )
    if not isinstance(codec, WhitenedMelCodec):
        raise ExportError(f"the codec {type(codec).__name__} has no graphs; known: GaussianDAC, WhitenedMelCodec")
    return _mel_decoder(parts, codec, latent, audio)


def _mel_decoder(parts: Parts, codec: WhitenedMelCodec, latent: Port, audio: Port) -> GraphPlan:
    def inputs_for(rows: int, frames: int) -> Tensors:
        noise = parts.decoder_noise(rows, frames)
        assert noise is not None
        steps = torch.arange(STEPS_PER_FRAME * frames)
        carry = torch.zeros(rows, 2, BINS, dtype=torch.float64)
        return parts.previews(rows, frames), noise, steps, torch.tensor(len(steps) - OVERLAP_STEPS - 1), carry

    def reference(inputs: Tensors) -> Tensors:
        return codec.decode_tile(inputs[0], inputs[1], 0, 0, None)

    return GraphPlan(
        Role.DECODER,
        MelDecoderModule(codec),
        (latent, _batched("noise", noise_samples=2), Port("kept", {0: "steps"}), Port("last", {}), _batched("carry")),
        (audio, _batched("next_carry")),
        inputs_for,
        reference,
    )


def _encoder(parts: Parts) -> GraphPlan:
    codec = parts.codec
    audio, latent = _batched("audio", samples=2), _batched("latent", frames=2)

    def inputs_for(rows: int, frames: int) -> Tensors:
        samples = frames * parts.spec.codec.hop_samples
        sound = codec.decode(parts.previews(rows, frames), parts.decoder_noise(rows, frames))
        return (torch.nn.functional.pad(sound, (0, samples - sound.shape[-1])),)

    if isinstance(codec, GaussianDAC):

        def posterior(inputs: Tensors) -> Tensors:
            mean = codec.encode(inputs[0], None)
            return mean, codec.encode(inputs[0], torch.ones_like(mean)) - mean

        return GraphPlan(
            Role.ENCODER,
            DacEncoderModule(codec),
            (audio,),
            (latent, _batched("spread", frames=2)),
            inputs_for,
            posterior,
        )
    assert isinstance(codec, WhitenedMelCodec)
    return GraphPlan(
        Role.ENCODER,
        MelEncoderModule(codec),
        (audio,),
        (latent,),
        inputs_for,
        lambda inputs: (codec.encode(inputs[0]),),
    )
