"""`python -m soundctm_training.assemble --config FILE --codec FILE --student FILE --card FILE --out DIR`: a bundle.

Network and decoder weights are stored in half precision, the fixed encoder's tensors in single precision, the text
encoder in int8; loading widens all of them to single precision.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from soundctm.bundle import CODEC_FILE, NETWORK_FILE, TEXT_FILE, TOKENIZER_FILE, Bundle, write_manifest
from soundctm.codecs.mel import FRAME_SAMPLES
from soundctm.spec import BundleSpec, CodecKind, CodecSpec
from soundctm_training import synth
from soundctm_training.config import TrainingConfig, need, read_config
from soundctm_training.encode import text_spec, write_text_encoder

logger = logging.getLogger(__name__)

LICENCE = "Apache-2.0"
LICENCE_FILE = "LICENCE"
CARD_FILE = "MODEL_CARD.md"
ATTRIBUTION_FILE = "recordings_attribution.csv"
_DECODER = "vocoder."


def bundle_spec(config: TrainingConfig) -> BundleSpec:
    codec, network = need(config.codec, "codec", config), need(config.network, "network", config)
    return BundleSpec(
        name=config.name,
        description=config.description,
        network=network,
        diffusion=config.diffusion,
        codec=CodecSpec(CodecKind.WHITENED_MEL, codec.channels, FRAME_SAMPLES, 44100, codec.options()),
        text=text_spec(),
        ranges=config.ranges(),
        licence=LICENCE,
    )


def half(tensors: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Floating tensors whose name begins with `prefix`, in half precision; the others as they are.

    Raises ValueError naming a tensor that half precision cannot hold.
    """
    stored = {}
    for name, tensor in tensors.items():
        smaller = tensor.half() if tensor.is_floating_point() and name.startswith(prefix) else tensor
        if not bool(torch.isfinite(smaller).all()):
            raise ValueError(f"{name} is not finite in half precision; largest value {float(tensor.abs().max()):g}")
        stored[name] = smaller.contiguous()
    return stored


def assemble(config: TrainingConfig, codec: Path, student: Path, card: Path, licence: Path, folder: Path) -> Bundle:
    """Write the bundle's folder (replaced when it exists) and open it."""
    aside = folder.with_name(folder.name + ".new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    save_file(half(load_file(student)), aside / NETWORK_FILE)
    save_file(half(load_file(codec), _DECODER), aside / CODEC_FILE)
    write_text_encoder(aside / TEXT_FILE, aside / TOKENIZER_FILE)
    shutil.copyfile(card, aside / CARD_FILE)
    shutil.copyfile(licence, aside / LICENCE_FILE)
    shutil.copyfile(Path(synth.__file__).with_name(ATTRIBUTION_FILE), aside / ATTRIBUTION_FILE)
    write_manifest(aside, bundle_spec(config))
    shutil.rmtree(folder, ignore_errors=True)
    bundle = write_manifest(aside.rename(folder), bundle_spec(config))
    logger.info("%s: %.1f MB", folder, sum(f.stat().st_size for f in folder.iterdir()) / 1e6)
    return bundle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--codec", type=Path, required=True, help="codec.safetensors of train_codec")
    parser.add_argument("--student", type=Path, required=True, help="student.safetensors of distill")
    parser.add_argument("--card", type=Path, required=True, help="the model card")
    parser.add_argument("--licence", type=Path, required=True, help="text of the licence")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    assemble(
        read_config(arguments.config), arguments.codec, arguments.student, arguments.card, arguments.licence,
        arguments.out,
    )


if __name__ == "__main__":
    main()
