"""`soundctm train assemble`: a bundle out of a codec, a student and the text encoder.

Network and decoder weights are stored in half precision, the fixed encoder's tensors in single precision, the text
encoder in int8; loading widens all of them to single precision.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from soundctm.bundle import CODEC_FILE, FAMILIAR_FILE, NETWORK_FILE, TEXT_FILE, TOKENIZER_FILE, Bundle, write_manifest
from soundctm.familiarity import FamiliarTable, write_familiar_table
from soundctm.spec import BundleSpec
from soundctm.text.protocol import TextEncoder
from soundctm_training import synth
from soundctm_training.codec.description import codec_spec
from soundctm_training.config import ConfigError, TrainingConfig, need
from soundctm_training.encode import text_encoder, text_spec, write_text_encoder
from soundctm_training.familiar import (
    catalogue_captions,
    embedded_by_label,
    encoded_table,
    familiar_table,
    separation,
)
from soundctm_training.files import read_network, read_weights
from soundctm_training.joined import open_datasets
from soundctm_training.synth.catalogue import LABELS

logger = logging.getLogger(__name__)

LICENCE_FILE = "LICENCE"
CARD_FILE = "MODEL_CARD.md"
ATTRIBUTION_FILE = "recordings_attribution.csv"
_DECODERS = ("vocoder.", "decoder.", "post_conv.")  # of the mel codec, of the learned one


def bundle_spec(config: TrainingConfig) -> BundleSpec:
    return BundleSpec(
        name=config.name,
        description=config.description,
        network=need(config.network, "network", config),
        diffusion=config.diffusion,
        codec=codec_spec(config),
        text=text_spec(),
        ranges=config.ranges(),
        licence=config.licence,
    )


def half(tensors: Mapping[str, Tensor], prefixes: tuple[str, ...] = ("",)) -> dict[str, Tensor]:
    """Floating tensors whose name begins with one of `prefixes`, in half precision; the others as they are.

    Raises ValueError naming a tensor that half precision cannot hold.
    """
    stored = {}
    for name, tensor in tensors.items():
        smaller = tensor.half() if tensor.is_floating_point() and name.startswith(prefixes) else tensor
        if not bool(torch.isfinite(smaller).all()):
            raise ValueError(f"{name} is not finite in half precision; largest value {float(tensor.abs().max()):g}")
        stored[name] = smaller.contiguous()
    return stored


def assemble(
    config: TrainingConfig,
    codec: Path,
    student: Path,
    card: Path,
    licence: Path,
    folder: Path,
    labels: Sequence[str] = LABELS,
    unlike: Sequence[str] = (),
    latents: Sequence[Path] = (),
) -> Bundle:
    """Write the bundle's folder (replaced when it exists) and open it. `labels`: the classes of the synthesiser that
    the student was trained on; `unlike`: those it makes unlike their names. `latents`: encoded data of other sounds,
    instead.

    Raises ConfigError, DataError, NothingFamiliarError.
    """
    network = read_network(need(config.network, "network", config), student)
    if config.text and config.text.remembered and network.text_memory is None:
        raise ConfigError(
            f"text.remembered = {config.text.remembered}, but {student} remembers nothing; give it a memory "
            "(`soundctm train remember`), or --set text.remembered=0"
        )
    table = _known(labels, unlike, latents)
    spec = replace(bundle_spec(config), network=network.spec)
    aside = folder.with_name(folder.name + ".new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    save_file(half(network.state_dict()), aside / NETWORK_FILE)
    save_file(half(read_weights(codec), _DECODERS), aside / CODEC_FILE)
    write_text_encoder(aside / TEXT_FILE, aside / TOKENIZER_FILE)
    write_familiar_table(table, aside / FAMILIAR_FILE)
    shutil.copyfile(card, aside / CARD_FILE)
    shutil.copyfile(licence, aside / LICENCE_FILE)
    if not latents:
        shutil.copyfile(Path(synth.__file__).with_name(ATTRIBUTION_FILE), aside / ATTRIBUTION_FILE)
    write_manifest(aside, spec)
    shutil.rmtree(folder, ignore_errors=True)
    bundle = write_manifest(aside.rename(folder), spec)
    logger.info("%s: %.1f MB", folder, sum(f.stat().st_size for f in folder.iterdir()) / 1e6)
    return bundle


def _known(labels: Sequence[str], unlike: Sequence[str], latents: Sequence[Path]) -> FamiliarTable:
    """The table by which the daemon tells a prompt it does not know. How well it does is logged."""
    if latents:
        return encoded_table(open_datasets(latents).text)
    encoder = text_encoder()
    by_label = embedded_by_label([pair for pair in catalogue_captions() if pair[1] in set(labels)], encoder)
    table = familiar_table(by_label, encoder, unlike)
    _log_separation(table, encoder)
    return table


def _log_separation(table: FamiliarTable, encoder: TextEncoder) -> None:
    found = separation(table, encoder)
    shares = {**found.unknown, "unlike their names": found.unlike}
    logger.info(
        "prompts below a similarity of %.3f are called unfamiliar: %.3f of the held-out ones, and of the unknown %s",
        table.threshold, found.held_out,
        ", ".join(f"{share:.2f} ({kind})" for kind, share in shares.items() if share is not None),
    )
