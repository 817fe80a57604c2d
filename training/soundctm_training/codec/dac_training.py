"""Trains the learned codec: a weight-normalised GaussianDAC, reconstruction losses, KL and, where asked, a GAN."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from soundctm.bundle import CODEC_FILE
from soundctm.codecs.dac import GaussianDAC, Posterior
from soundctm.codecs.weight_norm import fold_weight_norm
from soundctm_training.averaging import Average
from soundctm_training.codec.adversarial import deception_loss, discriminator_loss, feature_loss
from soundctm_training.codec.crops import CropDraw
from soundctm_training.codec.discriminators import Discriminators
from soundctm_training.codec.losses import gaussian_kl, mel_distance, stft_distance, waveform_distance
from soundctm_training.codec.report import write_reconstructions
from soundctm_training.codec.settings import SAMPLE_RATE_HZ, DacTraining
from soundctm_training.loop import require_finite
from soundctm_training.runs import write_weights
from soundctm_training.workers import ALONE, Workers

_BETAS = (0.8, 0.99)
_LARGEST_DISCRIMINATOR_GRADIENT = 10.0  # DAC's
_LENGTH, _DIRECTION = ".parametrizations.weight.original0", ".parametrizations.weight.original1"


def normalised(codec: GaussianDAC) -> GaussianDAC:
    """The same function with every convolution's weight as a length and a direction."""
    for module in list(codec.modules()):
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            weight_norm(module)
    return codec


def folded(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a normalised codec as that of a plain one."""
    pairs = {
        name.replace(_LENGTH, ".weight_g").replace(_DIRECTION, ".weight_v"): tensor for name, tensor in tensors.items()
    }
    return fold_weight_norm(pairs)


@torch.inference_mode()
def measure_latents(codec: GaussianDAC, crops: CropDraw, batches: int) -> None:
    """Set z_mean and z_std [C] to those of raw latents drawn from the posteriors of so many batches.

    The deviation of a draw has two parts: Var z = Var mu + E sigma^2.
    """
    device = codec.z_mean.device
    count, total, square = 0, torch.zeros_like(codec.z_mean).double(), torch.zeros_like(codec.z_mean).double()
    for step in range(batches):
        posterior = codec.posterior(crops.crops(step, slice(0, crops.batch)).to(device)[:, None])
        mean, variance = posterior.mean.double(), posterior.std.double().square()
        count += mean.shape[0] * mean.shape[2]
        total += mean.sum(dim=(0, 2))
        square += (mean.square() + variance).sum(dim=(0, 2))
    mean = total / count
    codec.z_mean.copy_(mean)
    codec.z_std.copy_((square / count - mean.square()).clamp(min=1e-12).sqrt())


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


class DacTrainer:
    """Decoder and discriminators step together from one batch, so that a faulty batch changes neither."""

    def __init__(
        self, settings: DacTraining, crops: CropDraw, sigma_data: float = 0.5, workers: Workers = ALONE
    ) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.crops, self.workers = settings, crops, workers
        self.spec = settings.spec(sigma_data)
        self.codec = normalised(GaussianDAC(**self.spec.options)).to(workers.device)
        self.optimiser = self._optimiser(self.codec, settings.learning_rate)
        self.average = Average(self.codec, settings.ema)
        self.discriminators: Discriminators | None = None
        if settings.weights.adversarial > 0:
            self.discriminators = Discriminators(settings.adversary.sizes).to(workers.device)
            self.discriminator_optimiser = self._optimiser(self.discriminators, settings.adversary.learning_rate)

    @staticmethod
    def _optimiser(network: nn.Module, learning_rate: float) -> torch.optim.AdamW:
        return torch.optim.AdamW(network.parameters(), learning_rate, _BETAS, weight_decay=0.01)

    @property
    def warmup_steps(self) -> int:
        return self.settings.warmup_steps

    def train_step(self, step: int, rate: float) -> dict[str, float]:
        """One step of the codec and, from `after_step` on, of the discriminators; returns means over the batch."""
        rows, weight = self.workers.rows(self.crops.batch), self.workers.weight(self.crops.batch)
        audio = self.crops.crops(step, rows).to(self.workers.device)[:, None]
        made, posterior = self._reconstruct(audio, step, rows)
        losses = self._reconstruction_losses(made, audio, posterior)
        judges = self.discriminators if step >= self.settings.adversary.after_step else None
        if judges is not None:
            losses |= self._adversarial_losses(judges, made, audio)
        losses["loss"] = self._weighted(losses)
        gradient = self._gradients(self.codec, losses["loss"] * weight, self.settings.largest_gradient)
        if judges is not None:
            losses["discriminator"] = self._discriminator_loss(judges, made.detach(), audio)
            own = self._gradients(judges, losses["discriminator"] * weight, _LARGEST_DISCRIMINATOR_GRADIENT)
        means = torch.stack([value.detach() * weight for value in losses.values()])
        self.workers.average([means])
        result = {**dict(zip(losses, means.tolist(), strict=True)), "gradient": gradient}
        if judges is not None:
            result["discriminator_gradient"] = own
        require_finite(result, step, self.crops.describe(step, rows))
        self._apply(self.optimiser, self.settings.learning_rate * rate)
        self.average.update(self.codec)
        if judges is not None:
            self._apply(self.discriminator_optimiser, self.settings.adversary.learning_rate * rate)
        return result

    def _reconstruct(self, audio: Tensor, step: int, rows: slice) -> tuple[Tensor, Posterior]:
        """Audio [B, 1, samples] through one draw of its latents."""
        posterior = self.codec.posterior(audio)
        _, generator = self.workers.generators(self.settings.seed, step)
        noise = torch.randn((self.crops.batch, *posterior.mean.shape[1:]), generator=generator)[rows]
        return self.codec.decode_raw(posterior.sample(noise.to(audio.device))), posterior

    def _reconstruction_losses(self, made: Tensor, audio: Tensor, posterior: Posterior) -> dict[str, Tensor]:
        weights, scales = self.settings.weights, self.settings.scales
        x, y = made[:, 0], audio[:, 0]
        losses = {"kl": gaussian_kl(posterior)}
        if weights.mel:
            losses["mel"] = mel_distance(x, y, SAMPLE_RATE_HZ, scales.mel_bands, scales.mel_windows, scales.floor)
        if weights.stft:
            losses["stft"] = stft_distance(x, y, scales.stft_windows, scales.floor)
        if weights.waveform:
            losses["waveform"] = waveform_distance(x, y)
        return losses

    def _adversarial_losses(self, judges: Discriminators, made: Tensor, audio: Tensor) -> dict[str, Tensor]:
        with _frozen(judges):
            with torch.no_grad():
                real = judges(audio)
            fake = judges(made)
        deception = deception_loss(self.settings.adversary.loss, fake)
        return {"adversarial": deception, "features": feature_loss(real, fake)}

    def _discriminator_loss(self, judges: Discriminators, made: Tensor, audio: Tensor) -> Tensor:
        return discriminator_loss(self.settings.adversary.loss, judges(audio), judges(made))

    def _weighted(self, losses: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([getattr(self.settings.weights, name) * value for name, value in losses.items()]).sum()

    def _gradients(self, network: nn.Module, loss: Tensor, largest: float) -> float:
        """Leave the workers' mean gradient on the network, clipped; returns its norm before."""
        network.zero_grad()
        loss.backward()
        self.workers.average_gradients(network.parameters())
        return float(nn.utils.clip_grad_norm_(network.parameters(), largest))

    def _apply(self, optimiser: torch.optim.Optimizer, learning_rate: float) -> None:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate
        optimiser.step()

    def state(self) -> dict[str, Any]:
        state = {
            "codec": self.codec.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state(),
        }
        if self.discriminators is not None:
            state["discriminators"] = self.discriminators.state_dict()
            state["discriminator_optimiser"] = self.discriminator_optimiser.state_dict()
        return state

    def load(self, state: Mapping[str, Any]) -> None:
        self.codec.load_state_dict(state["codec"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average.load(state["average"])
        if self.discriminators is not None:
            self.discriminators.load_state_dict(state["discriminators"])
            self.discriminator_optimiser.load_state_dict(state["discriminator_optimiser"])

    def kept(self) -> GaussianDAC:
        """A plain codec of the averaged weights, its latents' statistics measured."""
        codec = GaussianDAC(**self.spec.options).to(self.workers.device)
        codec.load_state_dict(folded(self.average.weights(self.codec)))
        own = self.crops.resized(self.settings.batch, self.settings.crop_samples, self.settings.seed + 1)
        measure_latents(codec, own, self.settings.statistics_batches)
        return codec.eval()

    def export(self, folder: Path) -> None:
        """codec.safetensors, as a bundle holds it."""
        write_weights(folder / CODEC_FILE, self.kept().state_dict())

    def sample(self, folder: Path, step: int) -> None:
        """Crops beside their reconstructions."""
        write_reconstructions(self.kept(), self.crops, self.settings.hop_samples, folder, step)
