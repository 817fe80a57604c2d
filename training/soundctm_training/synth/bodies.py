"""Sounds of the body: the heart and sleep."""

import numpy as np

from soundctm_training.synth.notes import gate
from soundctm_training.synth.primitives import (
    SAMPLE_RATE_HZ,
    Audio,
    Rendering,
    Rng,
    as_audio,
    band_noise,
    choose,
    decay,
    drift,
    equalise,
    log_uniform,
    place,
    room,
    sine,
    time_axis,
    to_samples,
    uniform,
)
from soundctm_training.synth.voices import at_peak_one, contour, pulses, repeat, swell


def _valve(rng: Rng, pitch_hz: float, tau_seconds: float) -> Audio:
    """A heart valve closing: a soft low thump whose pitch sinks."""
    length = to_samples(0.22)
    fall = sine(pitch_hz * (1 + 0.6 * np.exp(-time_axis(length) / 0.02)))
    thump = fall * decay(length, tau_seconds) + 0.35 * band_noise(rng, length, 60, 260) * decay(
        length, 0.6 * tau_seconds
    )
    return as_audio(thump * gate(length, 0.008, 0.08))


def heartbeat(rng: Rng, samples: int) -> Rendering:
    """Lub-dub: a longer low thump, then a shorter higher one at about a third of a second, then the rest."""
    pace = choose(rng, ("slow", "steady", "racing"))
    low, high = {"slow": (1.15, 1.5), "steady": (0.8, 0.95), "racing": (0.42, 0.52)}[pace]
    beat_seconds, pitch_hz = uniform(rng, low, high), uniform(rng, 48, 66)
    lub, dub = _valve(rng, pitch_hz, 0.06), 0.7 * _valve(rng, 1.35 * pitch_hz, 0.04)
    second_seconds = min(0.32, 0.38 * beat_seconds) * uniform(rng, 0.92, 1.08)
    audio = np.zeros(samples, np.float32)
    position = uniform(rng, 0.0, 0.1)
    while position * SAMPLE_RATE_HZ < samples:
        place(audio, lub * np.float32(uniform(rng, 0.9, 1.0)), position * SAMPLE_RATE_HZ)
        place(audio, dub * np.float32(uniform(rng, 0.9, 1.0)), (position + second_seconds) * SAMPLE_RATE_HZ)
        position += beat_seconds * uniform(rng, 0.98, 1.02)
    return Rendering(as_audio(audio), {"pace": pace})


def _snore(rng: Rng, kind: str, palate_hz: float, size: float) -> Audio:
    """One breath: the palate flaps while air comes in, then the air goes out in a sigh or a whistle."""
    inward, outward = to_samples(uniform(rng, 0.9, 1.4)), to_samples(uniform(rng, 0.8, 1.2))
    rate_hz = palate_hz * contour(inward, [(0, 0.8), (0.6, 1.15), (1, 0.95)]) * drift(rng, inward, 25, 0.85, 1.15)
    throat = [(260 * size, 3.0, 10.0), (620 * size, 4.0, 7.0), (1500 * size, 4.0, 4.0)]
    flaps = at_peak_one(equalise(pulses(rate_hz), 90, 3000, throat)) * drift(rng, inward, 30, 0.6, 1.0)
    rush = band_noise(rng, inward, 250, 2500, -4)
    snore = (flaps + 0.02 * rush) * contour(inward, [(0, 0.15), (0.7, 1.0), (1, 0.5)]) * swell(inward, 0.12, 0.1)
    if kind == "whistling":
        whistle = sine(uniform(rng, 1300, 2000) * contour(outward, [(0, 1.1), (0.5, 1.0), (1, 0.85)]))
        sigh = 0.22 * whistle + 0.05 * band_noise(rng, outward, 900, 5000)
    else:
        sigh = 0.06 * band_noise(rng, outward, 400, 3500, -4)
    if kind == "soft":
        snore = 0.5 * snore + 0.02 * rush * swell(inward, 0.3, 0.3)
    pause = to_samples(uniform(rng, 0.1, 0.3))
    breath = np.zeros(inward + pause + outward, np.float32)
    place(breath, as_audio(snore), 0)
    place(breath, as_audio(sigh * swell(outward, 0.2, 0.4)), inward + pause)
    return breath


def snoring(rng: Rng, samples: int) -> Rendering:
    kind = choose(rng, ("loud", "soft", "whistling"))
    palate_hz, size = log_uniform(rng, 38, 62), uniform(rng, 0.9, 1.15)
    audio = repeat(rng, samples, lambda: _snore(rng, kind, palate_hz, size), (0.2, 0.6), 3)
    return Rendering(room(rng, audio, uniform(rng, 0.25, 0.5), 0.1), {"kind": kind})
