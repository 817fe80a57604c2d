"""The `[dac]` table: sizes, losses and training of the learned codec. Defaults are the paper's and DAC's."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from soundctm.errors import SoundCTMError
from soundctm.spec import CodecKind, CodecSpec
from soundctm_training.codec.adversarial import Adversary
from soundctm_training.codec.discriminators import DiscriminatorSizes

SAMPLE_RATE_HZ = 44_100


class CodecTrainingError(SoundCTMError):
    """A codec that cannot be trained as asked."""

    reason = "CODEC_TRAINING"


@dataclass(frozen=True)
class LossWeights:
    """What a loss counts; one of weight 0 is not computed. `features` counts only beside an adversarial loss."""

    mel: float = 15.0
    stft: float = 0.0
    waveform: float = 0.0
    kl: float = 1e-5
    adversarial: float = 1.0
    features: float = 2.0


@dataclass(frozen=True)
class AdversarySettings:
    """How the discriminators train. `sizes` are DAC's unless given."""

    loss: Adversary = Adversary.LEAST_SQUARES
    after_step: int = 0          # the first step they take part in
    learning_rate: float = 1e-4
    sizes: DiscriminatorSizes = field(default_factory=DiscriminatorSizes)


@dataclass(frozen=True)
class SpectralScales:
    """What the reconstruction losses look through, in samples and bands; `floor` is a magnitude, full scale being 1."""

    mel_windows: tuple[int, ...] = (32, 64, 128, 256, 512, 1024, 2048)
    mel_bands: tuple[int, ...] = (5, 10, 20, 40, 80, 160, 320)
    stft_windows: tuple[int, ...] = (2048, 512)
    floor: float = 1e-5


@dataclass(frozen=True)
class DacTraining:
    """Raises CodecTrainingError for sizes that do not fit together."""

    encoder_dim: int = 64
    encoder_rates: tuple[int, ...] = (4, 4, 8, 8)
    latent_dim: int = 64
    decoder_dim: int = 1536
    decoder_rates: tuple[int, ...] = (8, 8, 4, 4)
    batch: int = 72
    crop_frames: int = 16         # latent frames of a training crop; DAC's crops last 0.38 s
    learning_rate: float = 1e-4
    warmup_steps: int = 0
    largest_gradient: float = 1000.0  # norm of the codec's gradient; a larger one is scaled down
    ema: float = 0.999            # of the weights that are kept
    statistics_batches: int = 32  # batches that the latents' mean and deviation are measured on
    seed: int = 4
    weights: LossWeights = LossWeights()
    scales: SpectralScales = SpectralScales()
    adversary: AdversarySettings = AdversarySettings()

    def __post_init__(self) -> None:
        hop, decoded = math.prod(self.encoder_rates), math.prod(self.decoder_rates)
        if hop != decoded:
            raise CodecTrainingError(
                f"dac.encoder_rates multiply to {hop} samples a frame and dac.decoder_rates to {decoded}; "
                "make the products equal"
            )
        odd = [rate for rate in self.decoder_rates if rate % 2]
        if odd:
            raise CodecTrainingError(f"dac.decoder_rates holds {odd}; odd strides lose samples: use even ones")
        if self.decoder_dim % (1 << len(self.decoder_rates)):
            raise CodecTrainingError(
                f"dac.decoder_dim is {self.decoder_dim}; it is halved {len(self.decoder_rates)} times: "
                f"give a multiple of {1 << len(self.decoder_rates)}"
            )
        if len(self.scales.mel_windows) != len(self.scales.mel_bands):
            raise CodecTrainingError("dac.scales.mel_windows and mel_bands differ in number; give a pair per scale")
        if min(self.batch, self.crop_frames, self.statistics_batches) < 1:
            raise CodecTrainingError("dac.batch, crop_frames and statistics_batches must be at least 1")

    @property
    def hop_samples(self) -> int:
        return math.prod(self.encoder_rates)

    @property
    def crop_samples(self) -> int:
        return self.crop_frames * self.hop_samples

    def spec(self, sigma_data: float) -> CodecSpec:
        """The codec as a bundle names it; `options` build a GaussianDAC."""
        options = {
            "encoder_dim": self.encoder_dim,
            "encoder_rates": list(self.encoder_rates),
            "latent_dim": self.latent_dim,
            "decoder_dim": self.decoder_dim,
            "decoder_rates": list(self.decoder_rates),
            "sigma_data": sigma_data,
        }
        return CodecSpec(CodecKind.GAUSSIAN_DAC, self.latent_dim, self.hop_samples, SAMPLE_RATE_HZ, options)
