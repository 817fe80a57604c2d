"""Explosions, gunfire and whooshes."""

import numpy as np

from soundctm_training.synth.notes import counted
from soundctm_training.synth.primitives import (
    SAMPLE_RATE_HZ,
    Audio,
    Rendering,
    Rng,
    as_audio,
    band_noise,
    choose,
    decay,
    equalise,
    log_uniform,
    onsets,
    place,
    room,
    sine,
    time_axis,
    to_samples,
    uniform,
)


def _debris(rng: Rng, length: int, seconds: float) -> Audio:
    """Stones and splinters landing: separate dull and bright hits, dense at first, then ever fewer."""
    debris = np.zeros(length, np.float32)
    hits = []
    for _ in range(12):
        centre_hz = log_uniform(rng, 400, 3500)
        hits.append(band_noise(rng, 2600, 0.7 * centre_hz, 2.5 * centre_hz) * decay(2600, uniform(rng, 0.004, 0.014)))
    for _ in range(int(45 * seconds)):
        at_seconds = 0.15 + float(rng.gamma(2.0, 0.3 * seconds))
        gain = uniform(rng, 0.1, 0.5) * np.exp(-at_seconds / (1.2 * seconds))
        place(debris, choose(rng, hits) * np.float32(gain), at_seconds * SAMPLE_RATE_HZ)
    return debris


def _blast(rng: Rng, kind: str, length: int) -> Audio:
    """A full-band burst from one sample to the next, a falling sub-bass boom, a tail whose brightness goes first."""
    tau_seconds = {"big": uniform(rng, 0.7, 1.1), "small": uniform(rng, 0.18, 0.3), "distant": uniform(rng, 0.4, 0.7)}[
        kind
    ]
    boom_hz = (32 if kind == "big" else 45) + uniform(rng, 70, 130) * np.exp(-time_axis(length) / 0.1)
    blast = 1.6 * sine(boom_hz) * decay(length, 0.55 * tau_seconds)
    for low_hz, high_hz, share, gain in ((25, 150, 1.0, 1.3), (120, 600, 0.5, 1.0), (500, 2500, 0.25, 0.8)):
        blast += gain * band_noise(rng, length, low_hz, high_hz) * decay(length, share * tau_seconds)
    if kind == "distant":
        return equalise(as_audio(np.tanh(blast)), 25, uniform(rng, 220, 380))
    burst = min(length, to_samples(0.3))
    place(blast, 2.5 * band_noise(rng, burst, 60, 16000) * decay(burst, 0.03), 0)
    blast = as_audio(np.tanh(1.5 * blast))
    if kind == "big":
        blast += 0.7 * _debris(rng, length, uniform(rng, 0.9, 1.5))
    return blast


def explosion(rng: Rng, samples: int) -> Rendering:
    kind = choose(rng, ("big", "big", "small", "distant"))
    low, high = {"big": (3.0, 4.6), "small": (1.2, 2.2), "distant": (1.8, 3.2)}[kind]
    audio = np.zeros(samples, np.float32)
    for start in onsets(rng, samples, 0.15, low, high):
        place(audio, _blast(rng, kind, min(samples - start, 4 * SAMPLE_RATE_HZ)), start)
    return Rendering(room(rng, audio, 1.2, 0.1), {"kind": kind})


def _shot(rng: Rng, open_air: bool) -> Audio:
    """A full-band crack of a few milliseconds, a short chest-high thump, and the slaps of walls far apart."""
    length = to_samples(0.9)
    shot = 2.5 * band_noise(rng, length, 400, 19000, 1) * decay(length, uniform(rng, 0.004, 0.009))
    shot += 0.9 * band_noise(rng, length, 80, 700) * decay(length, uniform(rng, 0.02, 0.035))
    shot += 0.3 * band_noise(rng, length, 500, 9000, -2) * decay(length, 0.06)
    shot = as_audio(np.tanh(1.5 * shot))
    slapped = shot.copy()
    if open_air:
        delay_seconds = 0.0
        for index in range(3):
            delay_seconds += uniform(rng, 0.07, 0.16)
            slap = equalise(shot, 200, 5000 / (1 + index)) * np.float32(0.35 * 0.6**index)
            place(slapped, slap, delay_seconds * SAMPLE_RATE_HZ)
    return slapped


def gun(rng: Rng, samples: int) -> Rendering:
    """One to three shots and a pause, many shots without one, or the bursts of an automatic."""
    audio = np.zeros(samples, np.float32)
    if uniform(rng, 0, 1) < 0.25:
        kind, shot = "automatic", _shot(rng, open_air=False)
        period_seconds, burst_seconds = uniform(rng, 0.075, 0.115), uniform(rng, 0.6, 1.3)
        for burst in onsets(rng, samples, 0.1, burst_seconds + 0.4, burst_seconds + 0.9):
            for index in range(int(burst_seconds / period_seconds)):
                shift = index * period_seconds * SAMPLE_RATE_HZ
                place(audio, shot * np.float32(uniform(rng, 0.8, 1.0)), burst + shift)
    else:
        count, starts = counted(rng, samples, uniform(rng, 0.4, 0.75), 0.2, 1.6)
        kind, shot = {"one": "single", "many": "several"}.get(count, count), _shot(rng, open_air=True)
        for start in starts:
            place(audio, shot * np.float32(uniform(rng, 0.85, 1.0)), start)
    return Rendering(room(rng, audio, uniform(rng, 0.7, 1.3), 0.15), {"kind": kind})


def _swish(rng: Rng, length: int, low_hz: float, high_hz: float) -> Audio:
    """A band of air about an octave wide that climbs from `low_hz` to `high_hz` and sinks again as it swells."""
    x = np.linspace(-1, 1, length, dtype=np.float32)
    peak = uniform(rng, -0.1, 0.25)
    swell = np.cos(0.5 * np.pi * np.where(x < peak, (peak - x) / (1 + peak), (x - peak) / (1 - peak))) ** 2
    height = np.log2(high_hz / low_hz) * swell  # octaves above `low_hz`
    air = np.zeros(length, np.float32)
    for octave in np.arange(0, np.log2(high_hz / low_hz) + 0.25, 0.5):
        centre_hz = float(low_hz * 2**octave)
        air += band_noise(rng, length, 0.85 * centre_hz, 1.18 * centre_hz) * np.exp(-(((height - octave) / 0.55) ** 2))
    return as_audio(air * swell**1.3)


def whoosh(rng: Rng, samples: int) -> Rendering:
    """Air swept past the ear: smooth both ways, with nothing struck."""
    kind = choose(rng, ("fast", "slow", "deep"))
    low, high = {"fast": (0.3, 0.45), "slow": (0.9, 1.3), "deep": (0.6, 1.0)}[kind]
    length_seconds = uniform(rng, low, high)
    low_hz, high_hz = (110.0, uniform(rng, 600, 900)) if kind == "deep" else (350.0, uniform(rng, 3000, 6000))
    audio = 0.01 * band_noise(rng, samples, 200, 4000, -4)
    for start in onsets(rng, samples, 0.1, length_seconds + 0.1, length_seconds + 0.6):
        place(audio, _swish(rng, to_samples(length_seconds), low_hz, high_hz), start)
    return Rendering(as_audio(audio), {"kind": kind})
