"""`python -m soundctm_training.train_codec --config FILE --data DIR --out DIR --minutes M`: the starter's codec.

`--fit` writes the encoder alone (encoder.safetensors), enough for encoding the pools while the decoder trains.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from soundctm.codecs.mel import WhitenedMelCodec
from soundctm_training.codec_training import PCM_SCALE, decoder_step, fit_whitening, random_crops
from soundctm_training.config import DecoderTraining, StarterConfig, read_config, save_config
from soundctm_training.runs import Average, Run, learning_rate_factor, open_run

logger = logging.getLogger(__name__)

ENCODER_FILE = "encoder.safetensors"
CODEC_FILE = "codec.safetensors"
_SAVE_SECONDS = 120.0
_REPORT_STEPS = 20
_WARMUP_STEPS = 50


def open_pools(data: Path) -> list[NDArray[np.int16]]:
    """All audio pools of a folder, memory-mapped, shortest clips first."""
    paths = sorted(data.glob("audio_*.npy"), key=lambda path: int(path.stem.split("_")[1]))
    return [np.load(path, mmap_mode="r") for path in paths]


def fit(config: StarterConfig, pools: list[NDArray[np.int16]], folder: Path) -> None:
    """Write the fitted encoder: the filters and the projection."""
    codec = WhitenedMelCodec(**config.codec.options())

    def batches() -> Iterator[Tensor]:
        generator = np.random.default_rng(0)
        for pool in pools:
            rows = generator.permutation(len(pool))[: config.codec.fit_clips // len(pools)]
            for start in range(0, len(rows), 10):
                yield torch.from_numpy(pool[np.sort(rows[start : start + 10])].astype(np.float32) / PCM_SCALE)

    kept = fit_whitening(codec, batches(), config.codec.spread, config.diffusion.sigma_data)
    logger.info("%d channels keep %.2f %% of the variance", config.codec.channels, 100 * kept)
    save_file(encoder_tensors(codec), folder / ENCODER_FILE)


def encoder_tensors(codec: WhitenedMelCodec) -> dict[str, Tensor]:
    return {name: t.contiguous() for name, t in codec.state_dict().items() if not name.startswith("vocoder.")}


def load_encoder(config: StarterConfig, path: Path) -> WhitenedMelCodec:
    """A codec with a fitted encoder and an untrained decoder."""
    codec = WhitenedMelCodec(**config.codec.options())
    codec.load_state_dict(load_file(path), strict=False)
    return codec


def train_decoder(
    codec: WhitenedMelCodec, pools: list[NDArray[np.int16]], settings: DecoderTraining, folder: Path, minutes: float
) -> None:
    """Until the budget is spent; codec.safetensors holds the averaged weights."""
    run, state = open_run(folder, minutes)
    parameters = list(codec.vocoder.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=settings.learning_rate, betas=(0.8, 0.99), weight_decay=0.01)
    average = Average(codec, settings.ema)
    if state is not None:
        codec.load_state_dict(state["codec"])
        optimiser.load_state_dict(state["optimiser"])
        average.load(state["average"])
    windows = [torch.hann_window(size) for size in settings.windows]
    sizes = np.array([pool.size for pool in pools], dtype=np.float64)
    losses: list[float] = []
    while run.share < 1:
        choice = np.random.default_rng((1, run.step))
        pool = pools[choice.choice(len(pools), p=sizes / sizes.sum())]
        audio = random_crops(pool, settings.batch, settings.crop_frames, choice)
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * learning_rate_factor(run.step, run.share, _WARMUP_STEPS)
        noise = torch.Generator().manual_seed(run.step)
        loss = decoder_step(codec, audio, settings.latent_noise, windows, noise)
        optimiser.zero_grad()
        loss.backward()
        gradient = torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        average.update(codec)
        losses.append(loss.item())
        run.step += 1
        if run.step % _REPORT_STEPS == 0:
            run.report(loss=sum(losses) / len(losses), gradient=float(gradient))
            losses.clear()
        if run.due(_SAVE_SECONDS):
            _save(run, codec, optimiser, average)
    _save(run, codec, optimiser, average)


def _save(run: Run, codec: WhitenedMelCodec, optimiser: torch.optim.Optimizer, average: Average) -> None:
    run.save({"codec": codec.state_dict(), "optimiser": optimiser.state_dict(), "average": average.state()})
    aside = run.folder / (CODEC_FILE + ".new")
    save_file({name: t.contiguous() for name, t in average.weights(codec).items()}, aside)
    aside.rename(run.folder / CODEC_FILE)


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
    save_config(config, arguments.out)
    if arguments.fit:
        fit(config, pools, arguments.out)
        return
    torch.manual_seed(0)
    codec = load_encoder(config, arguments.out / ENCODER_FILE)
    train_decoder(codec, pools, config.decoder, arguments.out, arguments.minutes)


if __name__ == "__main__":
    main()
