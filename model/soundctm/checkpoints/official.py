"""What the published SoundCTM-DiT files hold: key prefixes, sizes read from shapes, and what is left out on purpose.

student EMA `.pt`: `dit.*` and `text_encoder.model.*` (all of CLAP). `630k-audioset-best.pt`: CLAP under `module.*`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from torch import Tensor

from soundctm.errors import CheckpointError
from soundctm.spec import DiTSpec

DIT_PREFIX = "dit."
TEXT_PREFIX = "text_encoder.model."
CLAP_PREFIX = "module."

# tensors no prompt passes through; everything else must find its place
UNUSED_TEXT = (
    "audio_branch.",
    "audio_transform.",
    "audio_projection.",
    "text_transform.",
    "logit_scale_a",
    "logit_scale_t",
    "text_branch.embeddings.position_ids",
)
PROJECTION = "text_projection."
# made by the teacher's constructor and never called
UNUSED_DIT = ("to_global_embed.",)


class Variant(StrEnum):
    """Which text vector the network was trained on."""

    V1 = "v1"  # CLAP's projected text embedding
    V2 = "v2"  # the text branch's pooled vector


def without_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def leave_out(tensors: Mapping[str, Tensor], prefixes: tuple[str, ...]) -> tuple[dict[str, Tensor], dict[str, int]]:
    """(what stays, how many tensors each prefix took out)."""
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(prefixes)}
    counts = {prefix: sum(name.startswith(prefix) for name in tensors) for prefix in prefixes}
    return kept, {prefix: count for prefix, count in counts.items() if count}


def dit_spec(tensors: Mapping[str, Tensor], num_heads: int) -> DiTSpec:
    """Sizes of the network, from shapes. The number of heads leaves no trace in them and is checked for sense.

    Raises CheckpointError.
    """
    width, channels = _shape(tensors, "transformer.project_in.weight")
    cond_dim = _shape(tensors, "to_cond_embed.0.weight")[1]
    spec = DiTSpec(
        io_channels=channels,
        embed_dim=width,
        depth=_count(tensors, "transformer.layers."),
        num_heads=num_heads,
        cond_dim=cond_dim,
        feed_forward_mult=_shape(tensors, "transformer.layers.0.ff.ff.0.proj.weight")[0] // (2 * width),
    )
    rotary = 2 * _shape(tensors, "transformer.rotary_pos_emb.inv_freq")[0]
    head_dim = width // num_heads
    if width % num_heads or cond_dim % head_dim or max(head_dim // 2, 32) != rotary:
        raise CheckpointError(
            f"{num_heads} heads do not fit this network: width {width}, text width {cond_dim}, {rotary} rotary "
            "dimensions. The published models have 24; give the right number with --heads."
        )
    return spec


def text_options(tensors: Mapping[str, Tensor], heads: int, variant: Variant) -> dict[str, Any]:
    """`TextSpec.options` of CLAP's text branch, from shapes. Raises CheckpointError."""
    vocab_size, hidden = _shape(tensors, "text_branch.embeddings.word_embeddings.weight")
    if hidden % heads:
        raise CheckpointError(f"{heads} heads do not divide the text branch's width {hidden}; RoBERTa-base has 12")
    return {
        "vocab_size": vocab_size,
        "hidden": hidden,
        "layers": _count(tensors, "text_branch.encoder.layer."),
        "heads": heads,
        "intermediate": _shape(tensors, "text_branch.encoder.layer.0.intermediate.dense.weight")[0],
        "positions": _shape(tensors, "text_branch.embeddings.position_embeddings.weight")[0],
        "token_types": _shape(tensors, "text_branch.embeddings.token_type_embeddings.weight")[0],
        "projection": variant is Variant.V1,
    }


def find_variant(cond_dim: int, text: Mapping[str, Tensor], chosen: Variant | None) -> Variant:
    """v1 when the network takes vectors as wide as CLAP's projection, v2 when as wide as the text branch.

    Raises CheckpointError when neither fits, when both do and nothing was chosen, or when the choice does not fit.
    """
    widths = {Variant.V2: _shape(text, "text_branch.embeddings.word_embeddings.weight")[1]}
    if f"{PROJECTION}2.weight" in text:
        widths[Variant.V1] = _shape(text, f"{PROJECTION}2.weight")[0]
    fitting = [variant for variant, width in widths.items() if width == cond_dim]
    if chosen is None and len(fitting) == 1:
        return fitting[0]
    if chosen is not None and chosen in fitting:
        return chosen
    offered = ", ".join(f"{variant.value} gives {width}" for variant, width in widths.items())
    asked = "none was chosen" if chosen is None else f"{chosen.value} was chosen"
    raise CheckpointError(
        f"the network takes text vectors {cond_dim} wide; {offered}; {asked}. "
        + ("Choose with --variant." if fitting else "These files do not belong together.")
    )


def _shape(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    if name not in tensors:
        raise CheckpointError(f"{name} is missing: this is no SoundCTM-DiT checkpoint of the published layout")
    return tuple(tensors[name].shape)


def _count(tensors: Mapping[str, Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)})
