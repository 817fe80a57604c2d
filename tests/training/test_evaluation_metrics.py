"""The metrics agree with closed forms, and identical things are at distance 0."""

import math

import numpy as np
import pytest

from soundctm_training.evaluation.metrics import (
    MetricError,
    accuracy,
    cosine_distance,
    frechet_distance,
    gaussian_frechet,
    grouped_mean,
    log_spectral_distance_db,
    moments,
    multi_scale_stft_distance,
    posterior_kl,
    shrunk,
)

SR = 44_100


def test_the_frechet_distance_of_two_known_gaussians() -> None:
    """Commuting covariances: |m|^2 + sum (sqrt a - sqrt b)^2, also when both are turned by the same rotation."""
    rng = np.random.default_rng(0)
    a, b, shift = rng.uniform(0.1, 4, 6), rng.uniform(0.1, 4, 6), rng.standard_normal(6)
    turn, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    wanted = (shift**2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    found = gaussian_frechet(turn @ shift, turn @ np.diag(a) @ turn.T, np.zeros(6), turn @ np.diag(b) @ turn.T)
    assert found == pytest.approx(wanted, rel=1e-10)


def test_the_frechet_distance_of_samples_approaches_that_of_their_laws() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((40_000, 3)), 2 * rng.standard_normal((40_000, 3)) + 1
    assert frechet_distance(a, b) == pytest.approx(3 + 3 * (2 - 1) ** 2, rel=0.02)  # 1/sqrt(40000) per moment


def test_two_halves_of_one_set_and_fewer_clips_than_features_give_no_negative_distance() -> None:
    few = np.random.default_rng(2).standard_normal((10, 30))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-10)
    moved = frechet_distance(few, few + 1.0)
    assert moved == pytest.approx(30, rel=1e-9)  # shrinking leaves the means alone


def test_shrinking_keeps_the_trace_and_makes_a_singular_covariance_regular() -> None:
    covariance = moments(np.random.default_rng(3).standard_normal((4, 9)))[1]
    smaller = shrunk(covariance, 0.5)
    assert np.trace(smaller) == pytest.approx(np.trace(covariance))
    assert np.linalg.eigvalsh(covariance).min() < 1e-9 < np.linalg.eigvalsh(smaller).min()


def test_embeddings_that_are_not_numbers_or_too_few_are_refused() -> None:
    with pytest.raises(MetricError, match="two clips"):
        moments(np.zeros((1, 3)))
    with pytest.raises(MetricError, match="NaN"):
        moments(np.array([[0.0, 1.0], [math.nan, 1.0]]))


def test_the_kl_of_known_posteriors() -> None:
    real, generated = np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([[0.25, 0.75], [0.5, 0.5]])
    found = posterior_kl(real, generated)
    assert found[0] == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3), abs=1e-5)
    assert found[1] == pytest.approx(math.log(2), abs=2e-5)  # the floor of 1e-6 under the 0
    assert posterior_kl(real, real) == pytest.approx([0, 0], abs=1e-12)


def test_accuracy_counts_the_rank_of_the_right_label_and_its_error_is_over_prompts() -> None:
    posteriors = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7], [0.1, 0.2, 0.7]])
    rates = accuracy(posteriors, [0, 0, 2, 2], ["a", "a", "b", "b"])
    assert rates["top1"].value == pytest.approx(0.75) and rates["top1"].trials == 4
    assert rates["top1"].standard_error == pytest.approx(np.std([0.5, 1.0], ddof=1) / math.sqrt(2))
    assert rates["top5"].value == 1.0


def test_groups_of_unequal_size_weigh_the_same_and_one_group_has_no_error() -> None:
    mean = grouped_mean([1, 1, 1, 4], ["a", "a", "a", "b"])
    assert mean.value == 2.5 and mean.count == 4 and mean.standard_error == pytest.approx(1.5)
    assert math.isnan(grouped_mean([1.0, 2.0], ["a", "a"]).standard_error)
    with pytest.raises(MetricError, match="at least one"):
        grouped_mean([], [])


def test_cosine_distance_is_seen_from_the_centre() -> None:
    a, b = np.array([[2.0, 1.0]]), np.array([[1.0, 2.0]])
    assert cosine_distance(a, a)[0] == pytest.approx(0, abs=1e-12)
    assert cosine_distance(a, b)[0] == pytest.approx(1 - 4 / 5)
    assert cosine_distance(a, b, centre=np.array([1.5, 1.5]))[0] == pytest.approx(2)


def test_identical_audio_is_at_no_distance_and_half_the_level_at_six_decibels() -> None:
    noise = (0.3 * np.random.default_rng(5).standard_normal((2, SR // 4))).astype(np.float32)
    assert log_spectral_distance_db(noise, noise).tolist() == [0, 0]
    assert multi_scale_stft_distance(noise, noise).tolist() == [0, 0]
    assert log_spectral_distance_db(noise / 2, noise) == pytest.approx([6.02, 6.02], abs=0.01)
    # |A - B| / |B| = 1/2 and |ln A - ln B| = ln 2 at every scale
    assert multi_scale_stft_distance(noise / 2, noise) == pytest.approx([0.5 + math.log(2)] * 2, abs=0.01)


def test_silence_against_sound_stays_finite_and_lengths_must_agree() -> None:
    tone = np.sin(np.arange(8192) / 10).astype(np.float32)[None]
    assert np.isfinite(log_spectral_distance_db(np.zeros_like(tone), tone)).all()
    assert np.isfinite(multi_scale_stft_distance(tone, np.zeros_like(tone))).all()
    with pytest.raises(MetricError, match="shapes"):
        log_spectral_distance_db(tone, tone[:, 1:])
