"""The one log-mel spectrogram all evaluation looks through."""

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

SAMPLE_RATE_HZ = 44_100
BANDS = 64
FFT_SAMPLES = 2048
HOP_SAMPLES = 1024
LOW_HZ = 40.0
HIGH_HZ = 16_000.0
FLOOR = 1e-7  # power of a band; about 50 dB below a clip at -20 dBFS


def _mel(frequency_hz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return 2595 * np.log10(1 + np.asarray(frequency_hz, np.float64) / 700)


@cache
def filterbank() -> Tensor:
    """Triangles evenly spaced on the mel scale, each of unit sum, [bands, bins]."""
    edges_mel = np.linspace(_mel(LOW_HZ), _mel(HIGH_HZ), BANDS + 2)
    edges_hz = 700 * (10 ** (edges_mel / 2595) - 1)
    bins_hz = np.fft.rfftfreq(FFT_SAMPLES, 1 / SAMPLE_RATE_HZ)
    low, centre, high = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    triangles = np.maximum(0, np.minimum((bins_hz - low) / (centre - low), (high - bins_hz) / (high - centre)))
    # The lowest triangles are narrower than a bin; the nearest bin then speaks for them.
    nearest = np.argmin(np.abs(bins_hz - centre), axis=1)
    triangles[np.arange(BANDS), nearest] = np.maximum(triangles[np.arange(BANDS), nearest], 1e-3)
    return torch.from_numpy((triangles / triangles.sum(axis=1, keepdims=True)).astype(np.float32))


def log_mel(audio: npt.NDArray[np.float32]) -> Tensor:
    """Mono float32 [..., samples] -> natural log of band power, [..., bands, frames], about 43 frames a second."""
    window = torch.hann_window(FFT_SAMPLES)
    values = torch.from_numpy(np.ascontiguousarray(audio))
    spectrum = torch.stft(values, FFT_SAMPLES, HOP_SAMPLES, window=window, center=True, return_complex=True)
    power = spectrum.abs().square() / window.square().sum()
    return torch.log(filterbank() @ power + FLOOR)
