"""Building blocks of the synthesised sounds: noises, envelopes, resonances, grains and rooms, in numpy.

Every audio array is float32 [samples] at `SAMPLE_RATE_HZ`; chance always comes in as a `numpy.random.Generator`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.signal import lfilter

SAMPLE_RATE_HZ = 44_100
RMS_TARGET = 0.1  # -20 dBFS
PEAK_LIMIT = 0.7
SILENCE_RMS = 1e-7

Audio = npt.NDArray[np.float32]
Rng = np.random.Generator
Item = TypeVar("Item")


@dataclass(frozen=True)
class Rendering:
    """What a recipe returns: the raw audio, and the attributes a caption may truthfully claim."""

    audio: Audio
    attributes: dict[str, str] = field(default_factory=dict)


Recipe = Callable[[Rng, int], Rendering]


def as_audio(values: npt.ArrayLike) -> Audio:
    return np.asarray(values, np.float32)


def choose(rng: Rng, items: Sequence[Item]) -> Item:
    return items[int(rng.integers(len(items)))]


def uniform(rng: Rng, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def to_samples(seconds: float) -> int:
    return max(1, round(seconds * SAMPLE_RATE_HZ))


def time_axis(samples: int) -> Audio:
    """Seconds since the start, [samples]."""
    return np.arange(samples, dtype=np.float32) / np.float32(SAMPLE_RATE_HZ)


def decay(samples: int, tau_seconds: float) -> Audio:
    return as_audio(np.exp(-time_axis(samples) / np.float32(tau_seconds)))


def attack_decay(samples: int, attack_seconds: float, tau_seconds: float) -> Audio:
    t = time_axis(samples)
    return as_audio((1 - np.exp(-t / attack_seconds)) * np.exp(-t / tau_seconds))


def _band_gain(frequency_hz: Audio, low_hz: float, high_hz: float, order: int) -> Audio:
    """Butterworth-like magnitude of a high-pass at `low_hz` and a low-pass at `high_hz`."""
    below = (np.float32(low_hz) / frequency_hz) ** (2 * order)
    above = (frequency_hz / np.float32(high_hz)) ** (2 * order)
    return (1 / np.sqrt((1 + below) * (1 + above))).astype(np.float32)


def _frequencies_hz(length: int) -> Audio:
    return as_audio(rfftfreq(length, 1 / SAMPLE_RATE_HZ) + 1.0)  # 1 Hz up: no division by zero at DC


def band_noise(
    rng: Rng,
    samples: int,
    low_hz: float = 20.0,
    high_hz: float = 20_000.0,
    slope_db_per_octave: float = 0.0,
    order: int = 2,
) -> Audio:
    """Gaussian noise within a band, tilted about 1 kHz, at unit standard deviation."""
    length = next_fast_len(samples, True)
    frequency_hz = _frequencies_hz(length)
    spectrum = rng.standard_normal((2, len(frequency_hz)), dtype=np.float32)
    gain = _band_gain(frequency_hz, low_hz, high_hz, order)
    if slope_db_per_octave:
        gain = gain * (frequency_hz / np.float32(1000)) ** np.float32(slope_db_per_octave / 6.02)
    noise = irfft((spectrum[0] + 1j * spectrum[1]) * gain, length)[:samples]
    return as_audio(noise / (noise.std() + 1e-9))


def equalise(
    audio: Audio,
    low_hz: float = 20.0,
    high_hz: float = 20_000.0,
    peaks: Sequence[tuple[float, float, float]] = (),
    order: int = 2,
) -> Audio:
    """Band-limits and adds resonances; a peak is (centre Hz, Q, gain above the base)."""
    length = next_fast_len(len(audio) + 2048, True)
    frequency_hz = _frequencies_hz(length)
    gain = _band_gain(frequency_hz, low_hz, high_hz, order)
    for centre_hz, q, height in peaks:
        detune = np.float32(q) * (frequency_hz / np.float32(centre_hz) - np.float32(centre_hz) / frequency_hz)
        gain = gain * (1 + np.float32(height) / (1 + detune * detune))
    return as_audio(irfft(rfft(audio, length) * gain, length)[: len(audio)])


def drift(rng: Rng, samples: int, rate_hz: float, low: float = 0.0, high: float = 1.0) -> Audio:
    """A smooth random curve between `low` and `high` with about `rate_hz` turning points a second."""
    knots = max(4, int(samples / SAMPLE_RATE_HZ * rate_hz) + 4)
    values = rng.uniform(low, high, knots).astype(np.float32)
    position = np.linspace(0, min(knots - 1.001, samples / SAMPLE_RATE_HZ * rate_hz + 1), samples, dtype=np.float32)
    index = position.astype(np.int32)
    part = position - index
    part = part * part * (3 - 2 * part)
    return as_audio(values[index] * (1 - part) + values[np.minimum(index + 1, knots - 1)] * part)


def place(canvas: Audio, sound: Audio, start: float) -> None:
    """Adds `sound` to `canvas` in place, from sample `start`; what falls outside is cut."""
    first = int(start)
    if first < 0:
        sound, first = sound[-first:], 0
    end = min(len(canvas), first + len(sound))
    if end > first:
        canvas[first:end] += sound[: end - first]


def onsets(rng: Rng, samples: int, first_seconds: float, low_seconds: float, high_seconds: float) -> list[int]:
    """Start samples of events: the first within `first_seconds` (and a fifth of the clip), then at drawn gaps."""
    position = uniform(rng, 0.0, min(first_seconds, 0.2 * samples / SAMPLE_RATE_HZ)) * SAMPLE_RATE_HZ
    starts = []
    while position < samples:
        starts.append(int(position))
        position += uniform(rng, low_seconds, high_seconds) * SAMPLE_RATE_HZ
    return starts


def scatter(rng: Rng, canvas: Audio, rate_hz: float, grains: Sequence[Audio], low: float, high: float) -> None:
    """Drops grains at random moments, `rate_hz` a second on average, at log-uniform gains, in place."""
    count = max(1, int(rng.poisson(rate_hz * len(canvas) / SAMPLE_RATE_HZ)))
    starts = rng.integers(0, len(canvas), count)
    which = rng.integers(0, len(grains), count)
    gains = np.exp(rng.uniform(np.log(low), np.log(high), count)).astype(np.float32)
    for start, grain, gain in zip(starts.tolist(), which.tolist(), gains, strict=True):
        place(canvas, grains[grain] * gain, start)


def modes(
    rng: Rng,
    frequencies_hz: Sequence[float],
    taus_seconds: Sequence[float],
    gains: Sequence[float],
    samples: int,
) -> Audio:
    """A struck body: a sum of decaying sinusoids at random phases."""
    body = np.zeros(samples, np.float32)
    for frequency_hz, tau_seconds, gain in zip(frequencies_hz, taus_seconds, gains, strict=True):
        if frequency_hz > 20_000:
            continue
        heard = min(samples, to_samples(8 * tau_seconds))
        t = time_axis(heard)
        wave = np.sin(2 * np.pi * np.float32(frequency_hz) * t + uniform(rng, 0, 2 * np.pi))
        body[:heard] += (gain * wave * np.exp(-t / tau_seconds)).astype(np.float32)
    return body


def cycles(frequency_hz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The running phase of a frequency curve in cycles, [samples]."""
    return np.cumsum(np.asarray(frequency_hz, np.float64)) / SAMPLE_RATE_HZ


def sine(frequency_hz: npt.ArrayLike) -> Audio:
    return as_audio(np.sin(2 * np.pi * (cycles(frequency_hz) % 1.0).astype(np.float32)))


def sawtooth(frequency_hz: npt.ArrayLike) -> Audio:
    """A sawtooth whose step is rounded over one sample each side (PolyBLEP), so that it hardly aliases."""
    step = (np.asarray(frequency_hz, np.float64) / SAMPLE_RATE_HZ).astype(np.float32)
    x = (cycles(frequency_hz) % 1.0).astype(np.float32)
    after = np.minimum(x / step, 1)
    before = np.minimum((1 - x) / step, 1)
    return as_audio(2 * x - 1 + (1 - after) ** 2 - (1 - before) ** 2)


def room(rng: Rng, audio: Audio, decay_seconds: float = 1.0, mix: float = 0.25) -> Audio:
    """Adds a diffuse reverberation of the given -60 dB time."""
    tail = to_samples(decay_seconds)
    response = rng.standard_normal(tail, dtype=np.float32) * np.exp(-6.9 * time_axis(tail) / decay_seconds)
    response[: to_samples(0.008)] *= 0.2  # the direct sound already stands there
    response = lfilter([0.35], [1, -0.65], response).astype(np.float32)
    response /= np.sqrt((response**2).sum()) + 1e-9
    length = next_fast_len(len(audio) + tail, True)
    wet = irfft(rfft(audio, length) * rfft(response, length), length)[: len(audio)]
    return as_audio(audio * (1 - mix) + 1.6 * mix * wet)


def normalise(audio: npt.ArrayLike) -> Audio:
    """Removes the mean and sets -20 dBFS RMS, or less where the peak would pass 0.7; silence stays silence."""
    centred = np.asarray(audio, np.float32)
    centred = centred - centred.mean()
    rms = float(np.sqrt(np.mean(centred**2)))
    if rms < SILENCE_RMS:
        return as_audio(centred)
    return as_audio(centred * min(RMS_TARGET / rms, PEAK_LIMIT / float(np.abs(centred).max())))
