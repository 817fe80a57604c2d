"""What generated sound is measured by, with no download: distances of embeddings, posteriors, spectra. Pure functions.

Shapes: n clips; d features of the classifier's embedding; L labels; audio [n, samples] float32 in -1..1 at 44.1 kHz.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from soundctm.errors import SoundCTMError
from soundctm_training.evaluation.scores import Rate

Floats = npt.NDArray[np.float64]

TOP = 5
_PROBABILITY_FLOOR = 1e-6  # a classifier's certainty beyond this is chance; it bounds one clip's KL near 14 nats
_MAGNITUDE_FLOOR = 1e-4    # -80 dB below a full-scale sine: what is quieter is not heard beside anything
_LSD_WINDOW_SAMPLES = 2048
_STFT_WINDOWS_SAMPLES = (256, 512, 1024, 2048)


class MetricError(SoundCTMError):
    """Numbers that cannot be compared."""

    reason = "EVALUATION_METRIC"


@dataclass(frozen=True)
class Mean:
    """A mean over clips with its standard error over groups of clips (prompts)."""

    value: float
    standard_error: float
    count: int

    def to_json(self) -> dict[str, float | int]:
        return {"mean": round(self.value, 5), "se": round(self.standard_error, 5), "n": self.count}


def grouped_mean(values: npt.ArrayLike, groups: Sequence[Hashable]) -> Mean:
    """Mean of the groups' means; clips of one group (a prompt) are not independent, groups are.

    The standard error of a single group is not known: NaN. Raises MetricError for no values or a wrong length.
    """
    array = np.asarray(values, np.float64)
    if len(array) == 0 or len(array) != len(groups):
        raise MetricError(f"{len(array)} values in {len(groups)} groups; give one group per value, at least one")
    by_group: dict[Hashable, list[float]] = {}
    for group, value in zip(groups, array.tolist(), strict=True):
        by_group.setdefault(group, []).append(value)
    means = np.array([np.mean(of_group) for of_group in by_group.values()])
    error = float(means.std(ddof=1) / math.sqrt(len(means))) if len(means) > 1 else math.nan
    return Mean(float(means.mean()), error, len(array))


def accuracy(posteriors: Floats, targets: Sequence[int], groups: Sequence[Hashable]) -> dict[str, Rate]:
    """Share of clips whose label comes first ("top1") and among the five first ("top5"): [n, L] and [n]."""
    ranks = (posteriors > posteriors[np.arange(len(targets)), list(targets)][:, None]).sum(axis=1)
    rates = {}
    for name, within in (("top1", 1), (f"top{TOP}", TOP)):
        mean = grouped_mean(ranks < within, groups)
        rates[name] = Rate(mean.value, mean.standard_error, mean.count)
    return rates


def moments(embeddings: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Mean [d] and unbiased covariance [d, d]. Raises MetricError for fewer than two clips or values not finite."""
    values = np.asarray(embeddings, np.float64)
    if values.ndim != 2 or len(values) < 2:
        raise MetricError(f"embeddings of shape {values.shape}; give [clips, features] of two clips or more")
    if not np.isfinite(values).all():
        raise MetricError("an embedding is NaN or infinite; look at the clips it came from")
    return values.mean(axis=0), np.cov(values, rowvar=False).reshape(values.shape[1], values.shape[1])


def gaussian_frechet(mean_a: Floats, covariance_a: Floats, mean_b: Floats, covariance_b: Floats) -> float:
    """Squared Frechet distance of two Gaussians: |m_a - m_b|^2 + tr(A + B - 2 (A B)^(1/2)).

    (A B)^(1/2) has the trace of (A^(1/2) B A^(1/2))^(1/2), whose argument is symmetric: two eigendecompositions in
    float64, and eigenvalues that rounding made negative count as 0.
    """
    values, vectors = np.linalg.eigh(covariance_a)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    inner = np.linalg.eigvalsh(root @ covariance_b @ root)
    cross = float(np.sqrt(inner.clip(min=0)).sum())
    return float(np.square(mean_a - mean_b).sum() + np.trace(covariance_a) + np.trace(covariance_b) - 2 * cross)


def frechet_distance(a: Floats, b: Floats) -> float:
    """Frechet distance of two sets of embeddings, [n, d] and [m, d].

    With n, the smaller set, not larger than d, a covariance is singular and its noise outweighs it. Both covariances
    are then shrunk towards a sphere of the same trace, S <- (1 - w) S + w (tr S / d) I with w = d / (d + n), the same
    w for both. Distances are comparable between sets of the same sizes only.
    """
    (mean_a, covariance_a), (mean_b, covariance_b) = moments(a), moments(b)
    dims, smaller = len(mean_a), min(len(a), len(b))
    if smaller <= dims:
        weight = dims / (dims + smaller)
        covariance_a, covariance_b = shrunk(covariance_a, weight), shrunk(covariance_b, weight)
    return gaussian_frechet(mean_a, covariance_a, mean_b, covariance_b)


def shrunk(covariance: Floats, weight: float) -> Floats:
    """`weight` of the way to the sphere of the same trace."""
    sphere: Floats = np.eye(len(covariance)) * (np.trace(covariance) / len(covariance))
    mixed: Floats = (1 - weight) * covariance + weight * sphere
    return mixed


def posterior_kl(real: Floats, generated: Floats) -> Floats:
    """KL(real || generated) of classifier posteriors in nats, [n, L] each -> [n]; both floored at 1e-6."""
    p, q = (np.asarray(part, np.float64).clip(min=_PROBABILITY_FLOOR) for part in (real, generated))
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
    return np.asarray((p * np.log(p / q)).sum(axis=1), np.float64)


def cosine_distance(a: Floats, b: Floats, centre: Floats | None = None, scale: Floats | None = None) -> Floats:
    """1 - cosine of rows, [n, d] each -> [n], 0 to 2; after taking `centre` away and dividing by `scale`, each [d].

    Embeddings of rectified units all point into one octant; seen from the mean of real clips they do not.
    """
    moved = []
    for part in (a, b):
        values = np.asarray(part, np.float64) - (0.0 if centre is None else centre)
        values = values if scale is None else values / scale
        moved.append(values / np.linalg.norm(values, axis=1, keepdims=True).clip(min=1e-12))
    return np.asarray((1 - (moved[0] * moved[1]).sum(axis=1)).clip(min=0))


def _magnitudes(audio: npt.NDArray[np.float32], window_samples: int) -> Tensor:
    """One clip [samples] -> [bins, frames], a full-scale sine reaching 1."""
    window = torch.hann_window(window_samples)
    values = torch.from_numpy(np.ascontiguousarray(audio, np.float32))
    spectrum = torch.stft(values, window_samples, window_samples // 4, window=window, return_complex=True)
    power = spectrum.real.square() + spectrum.imag.square()  # abs() of a complex tensor takes four times as long
    return power.sqrt() * (2 / window.sum())


def _same_shape(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> None:
    if a.shape != b.shape or a.ndim != 2:
        raise MetricError(f"audio of shapes {a.shape} and {b.shape}; give two equal [clips, samples]")


def log_spectral_distance_db(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> Floats:
    """Root mean square over frequency of the difference of log spectra in dB, mean over time: [n].

    Windows of 2048 samples; magnitudes are floored 80 dB below a full-scale sine. Raises MetricError.
    """
    _same_shape(a, b)
    return np.array([_lsd_db(x, y) for x, y in zip(a, b, strict=True)])


def _lsd_db(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    levels = [20 * _magnitudes(clip, _LSD_WINDOW_SAMPLES).clamp(min=_MAGNITUDE_FLOOR).log10() for clip in (a, b)]
    return float((levels[0] - levels[1]).square().mean(dim=0).sqrt().mean())


def multi_scale_stft_distance(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> Floats:
    """Spectral convergence |A - B| / |B| plus mean |ln A - ln B|, mean over windows of 256 to 2048 samples: [n].

    `b` is what `a` should be. Raises MetricError.
    """
    _same_shape(a, b)
    return np.array([_mstft(x, y) for x, y in zip(a, b, strict=True)])


def _mstft(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    terms = []
    for window_samples in _STFT_WINDOWS_SAMPLES:
        x, y = (_magnitudes(clip, window_samples) for clip in (a, b))
        convergence = (x - y).norm() / y.norm().clamp(min=_MAGNITUDE_FLOOR)
        logs = (x.clamp(min=_MAGNITUDE_FLOOR).log() - y.clamp(min=_MAGNITUDE_FLOOR).log()).abs().mean()
        terms.append(float(convergence + logs))
    return float(np.mean(terms))
