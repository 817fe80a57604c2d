"""Throats: pitched sources with jitter, breath and roughness, shaped by formants that move through a call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from soundctm_training.synth.primitives import (
    SAMPLE_RATE_HZ,
    Audio,
    Rng,
    as_audio,
    band_noise,
    choose,
    cycles,
    drift,
    equalise,
    place,
    room,
    sawtooth,
    to_samples,
    uniform,
)

Formants = Sequence[tuple[float, float, float]]  # (centre Hz, Q, gain above the base), as `equalise` takes them


@dataclass(frozen=True)
class Throat:
    """How a voice sounds whatever it sings; `jitter` is a share of the pitch, the others are gains."""

    jitter: float = 0.01
    roughness: float = 0.0
    breath: float = 0.1
    low_hz: float = 80.0
    high_hz: float = 6000.0


def contour(samples: int, points: Sequence[tuple[float, float]]) -> Audio:
    """An eased curve through (share of the length, value) points, [samples]."""
    shares = np.array([share for share, _ in points], np.float32)
    values = np.array([value for _, value in points], np.float32)
    position = np.linspace(0, 1, samples, dtype=np.float32)
    index = np.clip(np.searchsorted(shares, position, side="right") - 1, 0, len(points) - 2)
    part = np.clip((position - shares[index]) / (shares[index + 1] - shares[index]), 0, 1)
    part = part * part * (3 - 2 * part)
    return as_audio(values[index] * (1 - part) + values[index + 1] * part)


def swell(samples: int, attack_seconds: float, release_seconds: float) -> Audio:
    """One in the middle, with raised-cosine edges, [samples]."""
    t = np.arange(samples, dtype=np.float32) / SAMPLE_RATE_HZ
    rise = np.minimum(1, t / attack_seconds)
    fall = np.minimum(1, (samples / SAMPLE_RATE_HZ - t) / release_seconds)
    return as_audio(np.sin(0.5 * np.pi * rise) ** 2 * np.sin(0.5 * np.pi * fall) ** 2)


def pulses(rate_hz: Audio) -> Audio:
    """One impulse a cycle, [samples]."""
    turns = np.floor(cycles(rate_hz))
    return as_audio(np.diff(turns, prepend=turns[0] - 1) > 0)


def sing(rng: Rng, pitch_hz: Audio, vowels: Sequence[Formants], throat: Throat) -> Audio:
    """A call along a pitch curve through one vowel after another, at peak 1, without an envelope."""
    samples = len(pitch_hz)
    pitch_hz = pitch_hz * drift(rng, samples, 45, 1 - throat.jitter, 1 + throat.jitter)
    source = sawtooth(pitch_hz)
    if throat.roughness:  # every other cycle is weaker, and all of them flutter
        subharmonic = np.sin(np.pi * cycles(pitch_hz)).astype(np.float32)
        flutter = drift(rng, samples, 70, 1 - throat.roughness, 1.0)
        source = source * (1 - 0.6 * throat.roughness * (0.5 + 0.5 * subharmonic)) * flutter
    source = source + throat.breath * band_noise(rng, samples, 600, 9000)
    last = len(vowels) - 1
    position = np.linspace(0, max(last, 1), samples, dtype=np.float32)
    shaped = np.zeros(samples, np.float32)
    for index, formants in enumerate(vowels):
        weight = np.clip(1 - np.abs(position - index), 0, 1) if last else np.float32(1)
        shaped += weight * equalise(source, throat.low_hz, throat.high_hz, formants)
    return at_peak_one(shaped)


def at_peak_one(audio: Audio) -> Audio:
    return as_audio(audio / (np.abs(audio).max() + 1e-9))


def repeat(rng: Rng, samples: int, make: Callable[[], Audio], gap_seconds: tuple[float, float], takes: int) -> Audio:
    """Calls one after another, a pause between the end of one and the start of the next, [samples]."""
    made = [make() for _ in range(takes)]
    audio = np.zeros(samples, np.float32)
    position = uniform(rng, 0.0, min(0.12, 0.1 * samples / SAMPLE_RATE_HZ)) * SAMPLE_RATE_HZ
    while position < samples:
        call = choose(rng, made)
        place(audio, call * np.float32(uniform(rng, 0.75, 1.0)), position)
        position += len(call) + uniform(rng, *gap_seconds) * SAMPLE_RATE_HZ
    return audio


def crowd(rng: Rng, samples: int, make: Callable[[], Audio], calls_hz: float, takes: int) -> Audio:
    """Calls that overlap, `calls_hz` a second on average, the first at once, [samples]."""
    made = [make() for _ in range(takes)]
    audio = np.zeros(samples, np.float32)
    place(audio, choose(rng, made), to_samples(uniform(rng, 0.0, 0.05)))
    step = SAMPLE_RATE_HZ / calls_hz
    position = uniform(rng, 0.2, 1.0) * step
    while position < samples:
        place(audio, choose(rng, made) * np.float32(uniform(rng, 0.25, 1.0)), position)
        position += uniform(rng, 0.3, 1.7) * step
    return audio


def joined(rng: Rng, parts: Sequence[Audio], gap_seconds: tuple[float, float]) -> Audio:
    """Sounds one after another with short gaps between them."""
    starts, position = [], 0
    for part in parts:
        starts.append(position)
        position += len(part) + to_samples(uniform(rng, *gap_seconds))
    audio = np.zeros(starts[-1] + len(parts[-1]), np.float32)
    for start, part in zip(starts, parts, strict=True):
        place(audio, part, start)
    return audio


def heard_from(rng: Rng, audio: Audio, distance: str) -> Audio:
    """The sound as it arrives: `near` almost dry, `distant` dull and diffuse over a breath of outdoor air."""
    if distance == "near":
        return room(rng, audio, uniform(rng, 0.3, 0.6), uniform(rng, 0.08, 0.16))
    dull = equalise(at_peak_one(audio), 150, uniform(rng, 1800, 2800), order=1)
    air = band_noise(rng, len(audio), 60, 2500, -5)
    return room(rng, dull, uniform(rng, 1.4, 2.2), uniform(rng, 0.4, 0.55)) + np.float32(0.006) * air
