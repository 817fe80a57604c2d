"""Published files -> one bundle. Every tensor is used, or left out by a named rule and reported."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from soundctm.bundle import CODEC_FILE, NETWORK_FILE, TEXT_FILE, TOKENIZER_FILE, Bundle, sha256_file, write_manifest
from soundctm.checkpoints import official
from soundctm.checkpoints.official import Variant
from soundctm.checkpoints.pickles import read_pickle, tensors_of
from soundctm.codecs.dac import GaussianDAC
from soundctm.codecs.weight_norm import fold_weight_norm
from soundctm.errors import BundleError, CheckpointError
from soundctm.networks.dit import DiT
from soundctm.networks.loading import check_fit
from soundctm.settings import STARTER
from soundctm.spec import BundleSpec, CodecKind, CodecSpec, DiffusionSpec, Ranges, TextKind, TextSpec
from soundctm.text.clap import PAD_ID, PROMPT_IDS, ClapNetwork, roberta_spec
from soundctm.text.tokens import PromptTokenizer

_LICENCE = """\
These weights were converted from files published by the authors of SoundCTM-DiT and of CLAP and keep their terms.
No licence of the DiT weights was found beside the files. Ask their authors before you pass them on.
"""
_DAC_OPTIONS = ("encoder_dim", "encoder_rates", "latent_dim", "decoder_dim", "decoder_rates")


@dataclass(frozen=True)
class OfficialFiles:
    """`clap` is needed only when the student's file holds no text encoder. `tokenizer`: RoBERTa's tokenizer.json."""

    student: Path
    vae: Path
    z_stats: Path
    tokenizer: Path
    clap: Path | None = None


@dataclass(frozen=True)
class Choices:
    """What the files do not say. The defaults are the published models'."""

    name: str
    ranges: Ranges
    num_heads: int = 24
    text_heads: int = 12
    variant: Variant | None = None
    licence: str = "unknown (see LICENCE)"
    licence_text: str = _LICENCE
    provenance: str = ""


@dataclass(frozen=True)
class Conversion:
    """`notes`: everything left out or worth knowing, one sentence each."""

    bundle: Bundle
    variant: Variant
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Parts:
    spec: BundleSpec
    variant: Variant
    network: Mapping[str, Tensor]
    codec: Mapping[str, Tensor]
    text: Mapping[str, Tensor]
    notes: tuple[str, ...]


def convert(files: OfficialFiles, choices: Choices, destination: Path) -> Conversion:
    """Write the bundle folder `destination` (must not exist; nothing is left there on failure).

    Weights stay memory-mapped on their way through. Raises CheckpointError or TensorMismatchError.
    """
    if not choices.name or Path(choices.name).name != choices.name or choices.name == STARTER:
        raise CheckpointError(f"{choices.name!r} is no name for a bundle; use one word other than {STARTER!r}")
    if destination.exists():
        raise CheckpointError(f"{destination} exists; remove it or choose another folder")
    parts = _read(files, choices)
    partial = destination.with_name(f"{destination.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        save_file(_contiguous(parts.network), partial / NETWORK_FILE)
        save_file(_contiguous(parts.codec), partial / CODEC_FILE)
        save_file(_contiguous(parts.text), partial / TEXT_FILE)
        shutil.copyfile(files.tokenizer, partial / TOKENIZER_FILE)
        (partial / "LICENCE").write_text(choices.licence_text, encoding="utf-8")
        (partial / "MODEL_CARD.md").write_text(_model_card(files, parts), encoding="utf-8")
        bundle = write_manifest(partial, parts.spec)
        partial.rename(destination)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{destination} could not be written: {error}. Make room or choose --out.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # gone already when it became the bundle
    return Conversion(replace(bundle, path=destination), parts.variant, parts.notes)


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _read(files: OfficialFiles, choices: Choices) -> _Parts:
    """Open, sort and check everything; nothing is written."""
    network, own_text, notes = _student(files.student)
    text = _text(files, own_text, notes)
    spec = official.dit_spec(network, choices.num_heads)
    variant = official.find_variant(spec.cond_dim, text, choices.variant)
    options = official.text_options(text, choices.text_heads, variant)
    unused = official.UNUSED_TEXT if variant is Variant.V1 else (*official.UNUSED_TEXT, official.PROJECTION)
    text, left_out = official.leave_out(text, unused)
    notes += [f"{count} tensors {prefix}* left out: no prompt uses them" for prefix, count in left_out.items()]
    codec_spec, codec = _codec(files, notes)
    if codec_spec.latent_channels != spec.io_channels:
        raise CheckpointError(
            f"the student makes latents of {spec.io_channels} channels, the codec takes {codec_spec.latent_channels}; "
            "these files do not belong together"
        )
    bundle = BundleSpec(
        name=choices.name,
        description=f"SoundCTM-DiT {variant.value}, converted from the published files",
        network=spec,
        diffusion=DiffusionSpec(),
        codec=codec_spec,
        text=TextSpec(TextKind.CLAP, dim=spec.cond_dim, max_tokens=1, options=options),
        ranges=choices.ranges,
        licence=choices.licence,
        provenance=choices.provenance,
    )
    with torch.device("meta"):
        check_fit(DiT(spec), network, str(files.student))
        check_fit(GaussianDAC(**codec_spec.options), codec, str(files.vae))
        clap = {name: value for name, value in options.items() if name != "projection"}
        projection_dim = spec.cond_dim if variant is Variant.V1 else None
        check_fit(ClapNetwork(roberta_spec(**clap), projection_dim), text, "the text encoder")
    _check_tokenizer(files.tokenizer, options["vocab_size"])
    return _Parts(bundle, variant, network, codec, text, tuple(notes))


def _student(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]]:
    """(network, text encoder, notes). Raises CheckpointError for keys of unknown origin."""
    tensors = tensors_of(read_pickle(path), str(path))
    strangers = [name for name in tensors if not name.startswith((official.DIT_PREFIX, official.TEXT_PREFIX))]
    if strangers:
        raise CheckpointError(
            f"{path} holds {len(strangers)} keys of unknown origin: {', '.join(strangers[:8])}; expected "
            f"{official.DIT_PREFIX}* and {official.TEXT_PREFIX}*"
        )
    network, left_out = official.leave_out(
        official.without_prefix(tensors, official.DIT_PREFIX), official.UNUSED_DIT
    )
    notes = [f"{count} tensors dit.{prefix}* left out: they are never used" for prefix, count in left_out.items()]
    return network, official.without_prefix(tensors, official.TEXT_PREFIX), notes


def _text(files: OfficialFiles, own: dict[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    """CLAP's tensors: the student's own, as the official loader's last word, or those of the CLAP file."""
    if files.clap is None:
        if not own:
            raise CheckpointError(f"{files.student} holds no text encoder; give CLAP's file too (--clap)")
        return own
    loaded = read_pickle(files.clap)
    if not isinstance(loaded, Mapping) or "state_dict" not in loaded:
        raise CheckpointError(f"{files.clap} has no 'state_dict'; expected 630k-audioset-best.pt")
    tensors = tensors_of(loaded["state_dict"], f"{files.clap} state_dict")
    strangers = [name for name in tensors if not name.startswith(official.CLAP_PREFIX)]
    if strangers:
        raise CheckpointError(
            f"{files.clap} holds keys without {official.CLAP_PREFIX!r}: {', '.join(strangers[:8])}"
        )
    clap = official.without_prefix(tensors, official.CLAP_PREFIX)
    notes += [f"{files.clap.name}: entry {key!r} left out: no weights" for key in loaded if key != "state_dict"]
    if not own:
        return clap
    used = [name for name in own if name.startswith(("text_branch.", official.PROJECTION)) and name in clap]
    differing = [name for name in used if not torch.equal(own[name], clap[name])]
    if differing:
        notes.append(
            f"{len(differing)} text tensors differ between {files.student.name} and {files.clap.name} (such as "
            f"{differing[0]}); the student's are used, as the official loader does"
        )
    return own


def _codec(files: OfficialFiles, notes: list[str]) -> tuple[CodecSpec, dict[str, Tensor]]:
    loaded = read_pickle(files.vae)
    try:
        kwargs: dict[str, Any] = dict(loaded["metadata"]["kwargs"])
        options = {name: kwargs.pop(name) for name in _DAC_OPTIONS}
        sample_rate_hz, tensors = int(kwargs.pop("sample_rate")), loaded["state_dict"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{files.vae} is no GaussianDAC file: {error} is missing from its state_dict or metadata kwargs"
        ) from error
    if kwargs.pop("double_z", True) is not True:
        raise CheckpointError(f"{files.vae} has double_z False; only a posterior with mean and variance is supported")
    notes += [f"{files.vae.name}: unknown setting {name}={value!r} left out" for name, value in kwargs.items()]
    codec = fold_weight_norm(tensors_of(tensors, f"{files.vae} state_dict"))
    statistics = tensors_of(read_pickle(files.z_stats), str(files.z_stats))
    if set(statistics) != {"z_mean", "z_std"}:
        raise CheckpointError(f"{files.z_stats} holds {sorted(statistics)}; expected z_mean and z_std")
    codec |= {name: tensor.float().flatten() for name, tensor in statistics.items()}
    options = {name: list(value) if isinstance(value, list | tuple) else value for name, value in options.items()}
    spec = CodecSpec(
        CodecKind.GAUSSIAN_DAC, options["latent_dim"], math.prod(options["encoder_rates"]), sample_rate_hz, options
    )
    return spec, codec


def _check_tokenizer(path: Path, vocab_size: int) -> None:
    """The empty prompt must be <s> </s> in RoBERTa's numbers, and no id may lie outside the embedding."""
    try:
        tokenizer = PromptTokenizer(path, PROMPT_IDS, PAD_ID)
    except BundleError as error:
        raise CheckpointError(str(error)) from error
    ids, mask = tokenizer("")
    empty = ids[mask].tolist()
    if empty != [0, 2] or tokenizer.vocab_size > vocab_size:
        raise CheckpointError(
            f"{path} is not this text encoder's tokenizer: the empty prompt gives ids {empty} (RoBERTa's: [0, 2]) and "
            f"it knows {tokenizer.vocab_size} tokens (the encoder {vocab_size}). Give RoBERTa-base's tokenizer.json."
        )


def _model_card(files: OfficialFiles, parts: _Parts) -> str:
    sources = [files.student, files.vae, files.z_stats, files.tokenizer, *([files.clap] if files.clap else [])]
    lines = [f"# {parts.spec.name}", "", f"{parts.spec.description}.", "", "## Sources", ""]
    lines += [f"- {source.name}, sha256 {sha256_file(source)}" for source in sources]
    lines += ["", "## Left out and noted", "", *(f"- {note}" for note in parts.notes), ""]
    return "\n".join(lines)
