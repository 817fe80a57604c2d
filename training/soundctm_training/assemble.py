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
from soundctm.familiarity import write_familiar_table
from soundctm.networks.dit import DiT
from soundctm.networks.loading import load_into
from soundctm.spec import BundleSpec
from soundctm.text.protocol import TextEncoder
from soundctm_training import synth
from soundctm_training.codec.description import codec_spec
from soundctm_training.config import TrainingConfig, need
from soundctm_training.encode import text_encoder, text_spec, write_text_encoder
from soundctm_training.familiar import catalogue_captions, familiar_table, separation
from soundctm_training.files import read_weights
from soundctm_training.memory import remembered_texts
from soundctm_training.synth.catalogue import LABELS

logger = logging.getLogger(__name__)

LICENCE = "Apache-2.0"
LICENCE_FILE = "LICENCE"
CARD_FILE = "MODEL_CARD.md"
ATTRIBUTION_FILE = "recordings_attribution.csv"
Captions = Sequence[tuple[str, str]]  # with their labels
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
        licence=LICENCE,
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
) -> Bundle:
    """Write the bundle's folder (replaced when it exists) and open it. `labels`: the classes the student was trained
    on; `unlike`: those it makes unlike their names."""
    aside = folder.with_name(folder.name + ".new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    encoder = text_encoder()
    captions = [(caption, label) for caption, label in catalogue_captions() if label in set(labels)]
    tensors, memory = _with_memory(config, read_weights(student), captions, encoder)
    spec = bundle_spec(config)
    spec = replace(spec, network=replace(spec.network, text_memory=memory))
    save_file(half(tensors), aside / NETWORK_FILE)
    save_file(half(read_weights(codec), _DECODERS), aside / CODEC_FILE)
    write_text_encoder(aside / TEXT_FILE, aside / TOKENIZER_FILE)
    _write_familiar(aside, captions, encoder, unlike)
    shutil.copyfile(card, aside / CARD_FILE)
    shutil.copyfile(licence, aside / LICENCE_FILE)
    shutil.copyfile(Path(synth.__file__).with_name(ATTRIBUTION_FILE), aside / ATTRIBUTION_FILE)
    write_manifest(aside, spec)
    shutil.rmtree(folder, ignore_errors=True)
    bundle = write_manifest(aside.rename(folder), spec)
    logger.info("%s: %.1f MB", folder, sum(f.stat().st_size for f in folder.iterdir()) / 1e6)
    return bundle


def _with_memory(
    config: TrainingConfig, student: Mapping[str, Tensor], captions: Captions, encoder: TextEncoder
) -> tuple[Mapping[str, Tensor], int]:
    """The student's tensors with the texts it remembers, as many as the configuration says of each class, and how many
    these are."""
    remembered = config.text.remembered if config.text else 0
    if not remembered:
        return student, 0
    network = load_into(lambda: DiT(need(config.network, "network", config)), student, NETWORK_FILE)
    memory = remembered_texts(network, captions, encoder, remembered)
    return {**student, "text_memory": memory}, len(memory)


def _write_familiar(folder: Path, captions: Captions, encoder: TextEncoder, unlike: Sequence[str]) -> None:
    """By which the daemon tells a prompt the student does not know; how well it does is logged."""
    table = familiar_table(captions, encoder, unlike)
    write_familiar_table(table, folder / FAMILIAR_FILE)
    found = separation(table, encoder)
    shares = {**found.unknown, "unlike their names": found.unlike}
    logger.info(
        "prompts below a similarity of %.3f are called unfamiliar: %.3f of the held-out ones, and of the unknown %s",
        table.threshold, found.held_out,
        ", ".join(f"{share:.2f} ({kind})" for kind, share in shares.items() if share is not None),
    )
