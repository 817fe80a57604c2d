"""A small sound classifier, trained on real and synthesised clips alone, to judge generated ones."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from soundctm.errors import SoundCTMError
from soundctm_training.evaluation.log_mel import log_mel

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


def save_classifier(model: SoundClassifier, path: Path) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, path, metadata={"kind": "sound classifier", "labels": json.dumps(model.labels)})


def load_classifier(path: Path) -> SoundClassifier:
    """Raises ClassifierFileError."""
    with safe_open(path, framework="pt") as stored:
        metadata = stored.metadata() or {}
        if "labels" not in metadata:
            raise ClassifierFileError(f"{path} is no sound classifier; make one with `soundctm train classifier`")
        model = SoundClassifier(json.loads(metadata["labels"]))
        model.load_state_dict({name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118 - not a dict
    return model.eval()
