"""Promises of the codec's losses and of its discriminators."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from soundctm.codecs.dac import Posterior
from soundctm_training.codec.adversarial import Adversary, deception_loss, discriminator_loss, feature_loss
from soundctm_training.codec.discriminators import Discriminators, DiscriminatorSizes, Verdict
from soundctm_training.codec.losses import (
    gaussian_kl,
    magnitudes,
    mel_distance,
    stft_distance,
    waveform_distance,
)

RATE_HZ = 44100
SMALL = DiscriminatorSizes(
    periods=(2, 3), period_channels=(4, 8), windows=(256, 128), band_edges=(0.0, 0.3, 1.0), band_channels=3
)


def noise(seed: int, level: float = 0.1) -> Tensor:
    return level * torch.randn((2, 8192), generator=torch.Generator().manual_seed(seed))


def mel(estimate: Tensor, target: Tensor) -> Tensor:
    return mel_distance(estimate, target, RATE_HZ)


@pytest.mark.parametrize("distance", [stft_distance, mel, waveform_distance])
def test_equal_audio_has_no_distance_and_different_audio_has(distance: object) -> None:
    assert callable(distance)
    assert float(distance(noise(0), noise(0))) == 0
    assert float(distance(noise(0), noise(1))) > 0.05


@pytest.mark.parametrize("distance", [stft_distance, mel, waveform_distance])
def test_gradients_reach_every_sample(distance: object) -> None:
    assert callable(distance)
    estimate = noise(0).requires_grad_()
    distance(estimate, noise(1)).backward()
    assert estimate.grad is not None and bool(torch.isfinite(estimate.grad).all())
    assert float((estimate.grad != 0).float().mean()) > 0.99


def test_silence_has_a_finite_gradient() -> None:
    estimate = torch.zeros(1, 4096, requires_grad=True)
    (stft_distance(estimate, noise(0)[:1, :4096]) + mel(estimate, noise(0)[:1, :4096])).backward()
    assert estimate.grad is not None and bool(torch.isfinite(estimate.grad).all())


def test_a_gain_of_6_db_moves_every_log_distance_by_its_logarithm() -> None:
    gain = math.log10(2)  # per scale, wherever the audio is far above the floor
    target = noise(0)
    assert float(stft_distance(2 * target, target, linear_weight=0)) == pytest.approx(2 * gain, rel=1e-3)
    assert float(mel(2 * target, target)) == pytest.approx(7 * gain, rel=1e-3)


def test_a_full_scale_sine_has_magnitude_1() -> None:
    sine = torch.sin(2 * math.pi * 64 / 512 * torch.arange(8192))[None]  # in the middle of a bin of every window
    for window in (512, 2048):
        assert float(magnitudes(sine, window)[0, 4:-4].max()) == pytest.approx(1, abs=1e-3)


def test_the_divergence_is_the_mean_over_channels_and_frames() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, logvar = (torch.randn((2, 3, 4), generator=generator) for _ in range(2))
    posterior = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(gaussian_kl(Posterior(mean, logvar)), expected)
    assert float(gaussian_kl(Posterior(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3)))) == 0


def test_discriminators_see_folds_and_bands() -> None:
    torch.manual_seed(0)
    verdicts = Discriminators(SMALL)(noise(0)[:, None, :1000])
    assert [len(verdict.features) for verdict in verdicts] == [2, 2, 10, 10]  # layers; layers of both bands
    folded = verdicts[1].features[0]  # 1002 samples in columns of 334, a stride of 3
    assert folded.shape == (2, 4, 112, 3)
    frames = 1000 // 64  # of the window of 256
    assert verdicts[2].logits.shape[:3] == (2, 1, frames)
    low, high = verdicts[2].features[0], verdicts[2].features[5]
    assert low.shape == (2, 3, frames, 39) and high.shape == (2, 3, frames, 90)  # 129 bins, cut at 0.3


def test_discriminators_do_not_judge_by_level() -> None:
    torch.manual_seed(0)
    network, audio = Discriminators(SMALL), noise(0)[:, None]
    for quiet, loud in zip(network(audio), network(0.5 * audio + 0.1), strict=True):
        torch.testing.assert_close(quiet.logits, loud.logits, atol=1e-4, rtol=1e-4)


def test_the_decoder_gains_as_its_features_and_logits_come_nearer_to_the_real_ones() -> None:
    torch.manual_seed(0)
    network = Discriminators(SMALL)
    real = network(noise(0)[:, None])
    distances = [
        feature_loss(real, network(torch.lerp(noise(1), noise(0), share)[:, None])).item()
        for share in (0.0, 0.5, 0.9, 1.0)
    ]
    assert distances == sorted(distances, reverse=True) and distances[-1] == 0


@pytest.mark.parametrize("kind", Adversary)
def test_adversarial_losses_rank_verdicts(kind: Adversary) -> None:
    def verdict(logit: float) -> list[Verdict]:
        return [Verdict((), torch.full((1, 1, 2), logit))]

    deceived = [float(deception_loss(kind, verdict(logit))) for logit in (-1.0, 0.0, 1.0)]
    assert deceived == sorted(deceived, reverse=True)
    right, wrong = (discriminator_loss(kind, verdict(a), verdict(b)) for a, b in ((1.0, -1.0), (-1.0, 1.0)))
    assert float(right) < float(wrong)
    ideal = 0.0 if kind is Adversary.LEAST_SQUARES else -1.0
    assert float(discriminator_loss(kind, verdict(1.0), verdict(ideal))) == 0


@pytest.mark.parametrize("kind", Adversary)
def test_discriminators_learn_to_tell_noise_from_tones(kind: Adversary) -> None:
    torch.manual_seed(0)
    network = Discriminators(SMALL)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    tone = 0.1 * torch.sin(0.2 * torch.arange(1024)).expand(2, 1, -1)
    losses = []
    for step in range(20):
        loss = discriminator_loss(kind, network(tone), network(noise(step)[:, None, :1024]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_no_gradient_flows_to_the_real_side_of_the_feature_loss() -> None:
    real, fake = (torch.randn(1, 2, 3, requires_grad=True) for _ in range(2))
    feature_loss([Verdict((real,), real)], [Verdict((fake,), fake)]).backward()
    assert real.grad is None and fake.grad is not None
