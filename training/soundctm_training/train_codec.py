"""`python -m soundctm_training.train_codec --config FILE --data DIR --out DIR --minutes M`: the starter's codec.

`--fit` writes the encoder alone (encoder.safetensors), enough for encoding the pools while the decoder trains.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from soundctm.codecs.mel import WhitenedMelCodec
from soundctm_training.averaging import Average
from soundctm_training.codec_training import PCM_SCALE, decoder_step, fit_whitening, random_crops
from soundctm_training.config import DecoderTraining, TrainingConfig, need, read_config
from soundctm_training.loop import require_finite, train
from soundctm_training.runs import Budget, write_weights
from soundctm_training.workers import ALONE

logger = logging.getLogger(__name__)

ENCODER_FILE = "encoder.safetensors"
CODEC_FILE = "codec.safetensors"


def open_pools(data: Path) -> list[NDArray[np.int16]]:
    """All audio pools of a folder, memory-mapped, shortest clips first."""
    paths = sorted(data.glob("audio_*.npy"), key=lambda path: int(path.stem.split("_")[1]))
    return [np.load(path, mmap_mode="r") for path in paths]


def fit(config: TrainingConfig, pools: list[NDArray[np.int16]], folder: Path) -> None:
    """Write the fitted encoder: the filters and the projection."""
    settings = need(config.codec, "codec", config)
    codec = WhitenedMelCodec(**settings.options())

    def batches() -> Iterator[Tensor]:
        generator = np.random.default_rng(0)
        for pool in pools:
            rows = generator.permutation(len(pool))[: settings.fit_clips // len(pools)]
            for start in range(0, len(rows), 10):
                yield torch.from_numpy(pool[np.sort(rows[start : start + 10])].astype(np.float32) / PCM_SCALE)

    kept = fit_whitening(codec, batches(), settings.spread, config.diffusion.sigma_data)
    logger.info("%d channels keep %.2f %% of the variance", settings.channels, 100 * kept)
    save_file(encoder_tensors(codec), folder / ENCODER_FILE)


def encoder_tensors(codec: WhitenedMelCodec) -> dict[str, Tensor]:
    return {name: t.contiguous() for name, t in codec.state_dict().items() if not name.startswith("vocoder.")}


def load_encoder(config: TrainingConfig, path: Path) -> WhitenedMelCodec:
    """A codec with a fitted encoder and an untrained decoder."""
    codec = WhitenedMelCodec(**need(config.codec, "codec", config).options())
    codec.load_state_dict(load_file(path), strict=False)
    return codec


class DecoderTrainer:
    """The whitened-mel codec's decoder, by the spectral energy distance; the encoder stays as it was fitted."""

    warmup_steps = 50

    def __init__(self, codec: WhitenedMelCodec, pools: list[NDArray[np.int16]], settings: DecoderTraining) -> None:
        self.codec, self.pools, self.settings = codec, pools, settings
        self.parameters = list(codec.vocoder.parameters())
        self.optimiser = torch.optim.AdamW(self.parameters, settings.learning_rate, (0.8, 0.99), weight_decay=0.01)
        self.average = Average(codec, settings.ema)
        self.windows = [torch.hann_window(size) for size in settings.windows]
        sizes = np.array([pool.size for pool in pools], dtype=np.float64)
        self.shares = sizes / sizes.sum()

    def train_step(self, step: int, rate: float) -> dict[str, float]:
        settings = self.settings
        choice = np.random.default_rng((1, step))
        pool = self.pools[choice.choice(len(self.pools), p=self.shares)]
        audio = random_crops(pool, settings.batch, settings.crop_frames, choice)
        noise = torch.Generator().manual_seed(step)
        loss = decoder_step(self.codec, audio, settings.latent_noise, self.windows, noise)
        self.optimiser.zero_grad()
        loss.backward()
        gradient = torch.nn.utils.clip_grad_norm_(self.parameters, 5.0)
        result = {"loss": loss.item(), "gradient": float(gradient)}
        require_finite(result, step, f"{len(audio)} crops of a pool of clips of {pool.shape[1]} samples")
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * rate
        self.optimiser.step()
        self.average.update(self.codec)
        return result

    def state(self) -> dict[str, Any]:
        return {
            "codec": self.codec.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.codec.load_state_dict(state["codec"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average.load(state["average"])

    def export(self, folder: Path) -> None:
        write_weights(folder / CODEC_FILE, self.average.weights(self.codec))

    def sample(self, folder: Path, step: int) -> None:
        """The reconstructions are judged by `evaluate`; a decoder has no prompts."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of the audio pools")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--minutes", type=float, required=True, help="budget of the decoder's training, all parts")
    parser.add_argument("--fit", action="store_true", help="fit the encoder and stop")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(arguments.threads)
    config, pools = read_config(arguments.config), open_pools(arguments.data)
    if arguments.fit:
        fit(config, pools, arguments.out)
        return
    torch.manual_seed(0)
    codec = load_encoder(config, arguments.out / ENCODER_FILE)
    settings = need(config.decoder, "decoder", config)
    budget = Budget(minutes=arguments.minutes)
    train(lambda: DecoderTrainer(codec, pools, settings), config, arguments.out, budget, ALONE)


if __name__ == "__main__":
    main()
