"""A small sound classifier, trained on real and synthesised clips alone, to judge generated ones.

It never sees a codec or a model; gain, equalisation, band-limited noise and smearing make it forgiving of timbre.
"""

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from soundctm.errors import SoundCTMError
from soundctm_training.evaluation.log_mel import BANDS, log_mel

logger = logging.getLogger(__name__)

_CLIPS_AT_ONCE = 32

class ClassifierFileError(SoundCTMError):
    """A file does not hold a classifier of ours."""


class SoundClassifier(nn.Module):
    """Four strided convolutions over a log-mel spectrogram, then mean and maximum over time and bands."""

    def __init__(self, labels: Sequence[str], widths: Sequence[int] = (32, 64, 96, 128)) -> None:
        super().__init__()
        self.labels = tuple(labels)
        layers: list[nn.Module] = []
        for inputs, outputs in zip((1, *widths[:-1]), widths, strict=True):
            convolution = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(2 * widths[-1], len(self.labels))

    def pooled(self, mel: Tensor) -> Tensor:
        """Log-mel [B, bands, frames] -> features before the head [B, 2 C]. Each clip's level is taken away first."""
        levelled = mel - mel.mean(dim=(1, 2), keepdim=True)
        h = self.layers(0.3 * levelled[:, None])  # (B, C, bands / 16, frames / 16)
        return torch.cat([h.mean(dim=(2, 3)), h.amax(dim=(2, 3))], dim=1)

    def forward(self, mel: Tensor) -> Tensor:
        """Log-mel [B, bands, frames] -> logits [B, labels]."""
        return self._logits(self.pooled(mel))

    def _logits(self, pooled: Tensor) -> Tensor:
        return F.dropout(pooled, 0.2, self.training) @ self.head.weight.T + self.head.bias

    @torch.inference_mode()
    def embed(self, audio: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Clips [n, samples] at 44.1 kHz -> pooled features [n, 2 C] and probabilities [n, labels]."""
        self.eval()
        parts = range(0, len(audio), _CLIPS_AT_ONCE)
        pooled = torch.cat([self.pooled(log_mel(audio[first : first + _CLIPS_AT_ONCE])) for first in parts])
        return pooled.double().numpy(), self._logits(pooled).softmax(dim=1).double().numpy()

    def probabilities(self, audio: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Mono float32 [samples] at 44.1 kHz -> probability of each label."""
        return np.asarray(self.embed(audio[None])[1][0], np.float32)


@dataclass(frozen=True)
class LabelledMels:
    """Clips of one length: log-mel float16 [clips, bands, frames] and the index of each clip's label [clips]."""

    mels: Tensor
    targets: Tensor


@dataclass(frozen=True)
class TrainingSettings:
    epochs: int = 14
    batch: int = 32
    peak_learning_rate: float = 3e-3
    seed: int = 7


def augment(mel: Tensor, generator: torch.Generator) -> Tensor:
    """A smooth random equaliser, a noise floor within a band and a little smearing; log-mel [B, bands, frames]."""
    batch = len(mel)
    knots = 2.0 * torch.randn(batch, 1, 6, generator=generator)
    mel = mel + F.interpolate(knots, BANDS, mode="linear", align_corners=True).transpose(1, 2)

    band = torch.linspace(0, 1, BANDS)
    low, width = torch.rand(2, batch, 1, generator=generator)
    inside = (band >= 0.7 * low) & (band <= 0.7 * low + 0.3 + width)
    level = mel.amax(dim=(1, 2)) - (3 + 8 * torch.rand(batch, generator=generator))
    wobble = torch.randn(mel.shape, generator=generator) * 0.5
    noise = torch.where(inside[:, :, None], level[:, None, None] + wobble, torch.tensor(-30.0))
    with_noise = torch.rand(batch, generator=generator) < 0.6
    mel = torch.where(with_noise[:, None, None], torch.logaddexp(mel, noise), mel)

    smeared = F.avg_pool2d(mel[:, None], 3, stride=1, padding=1, count_include_pad=False)[:, 0]
    share = torch.rand(batch, 1, 1, generator=generator) * (torch.rand(batch, 1, 1, generator=generator) < 0.5)
    return mel + share * (smeared - mel)


def _batches(pools: Sequence[LabelledMels], size: int, generator: torch.Generator) -> list[tuple[LabelledMels, Tensor]]:
    """Every clip once, in batches of one pool each, in random order."""
    batches = [
        (pool, rows)
        for pool in pools
        for rows in torch.split(torch.randperm(len(pool.targets), generator=generator), size)
        if len(rows) > 1  # batch normalisation needs two
    ]
    return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]


def _one_cycle(progress: float) -> float:
    """A tenth of the run warming up, then a cosine down to 0."""
    return min(1.0, 10 * progress + 0.02) * 0.5 * (1 + math.cos(math.pi * progress))


def train_classifier(
    labels: Sequence[str], pools: Sequence[LabelledMels], settings: TrainingSettings | None = None
) -> SoundClassifier:
    """Trains from scratch with AdamW under a one-cycle cosine; deterministic from the settings' seed."""
    settings = settings or TrainingSettings()
    generator = torch.Generator().manual_seed(settings.seed)
    torch.manual_seed(settings.seed)  # initial weights and dropout draw from the global generator
    model = SoundClassifier(labels)
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.peak_learning_rate, weight_decay=0.02)
    total = settings.epochs * len(_batches(pools, settings.batch, generator))
    step = 0
    for epoch in range(settings.epochs):
        model.train()
        losses = []
        for pool, rows in _batches(pools, settings.batch, generator):
            for group in optimiser.param_groups:
                group["lr"] = settings.peak_learning_rate * _one_cycle(step / total)
            logits = model(augment(pool.mels[rows].float(), generator))
            loss = F.cross_entropy(logits, pool.targets[rows], label_smoothing=0.05)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            losses.append(loss.item())
            step += 1
        logger.info("classifier epoch %d of %d: loss %.3f", epoch + 1, settings.epochs, float(np.mean(losses)))
    return model.eval()


@torch.inference_mode()
def hits(model: SoundClassifier, pool: LabelledMels) -> npt.NDArray[np.bool_]:
    """Whether each clip's label came first, [clips]."""
    model.eval()
    parts = [model(mels.float()).argmax(dim=1) for mels in torch.split(pool.mels, 64)]
    return (torch.cat(parts) == pool.targets).numpy()


def save_classifier(model: SoundClassifier, path: Path) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, path, metadata={"kind": "sound classifier", "labels": json.dumps(model.labels)})


def load_classifier(path: Path) -> SoundClassifier:
    """Raises ClassifierFileError."""
    with safe_open(path, framework="pt") as stored:
        metadata = stored.metadata() or {}
        if "labels" not in metadata:
            raise ClassifierFileError(f"{path} is no sound classifier; make one with `evaluate train-classifier`")
        model = SoundClassifier(json.loads(metadata["labels"]))
        model.load_state_dict({name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118 - not a dict
    return model.eval()
