"""Crickets, birds and dogs."""

import numpy as np

from soundctm_training.synth.primitives import (
    SAMPLE_RATE_HZ,
    Audio,
    Rendering,
    Rng,
    as_audio,
    band_noise,
    choose,
    equalise,
    log_uniform,
    place,
    room,
    sawtooth,
    sine,
    time_axis,
    to_samples,
    uniform,
)


def crickets(rng: Rng, samples: int) -> Rendering:
    kind = choose(rng, ("one", "few", "many"))
    audio = np.zeros(samples, np.float32)
    for _ in range({"one": 1, "few": 3, "many": 6}[kind]):
        t = time_axis(samples) + np.float32(uniform(rng, 0, 3))
        period_seconds = uniform(rng, 0.5, 1.0)
        trill = np.maximum(0, np.sin(2 * np.pi * uniform(rng, 22, 34) * t)) ** 2
        part = np.minimum(1, (t % period_seconds) / (0.45 * period_seconds))
        song = np.maximum(0, np.sin(np.pi * part)) ** 0.4  # a hard gate would click
        audio += sine(np.full(samples, uniform(rng, 3800, 5600))) * trill * song * uniform(rng, 0.3, 1.0)
    if kind == "many":
        audio += 0.03 * band_noise(rng, samples, 100, 4000, -5)
    return Rendering(audio.astype(np.float32), {"kind": kind})


def _chirp(rng: Rng, pitch_hz: float, shape: int) -> Audio:
    length = to_samples(uniform(rng, 0.05, 0.13))
    x = np.linspace(0, 1, length, dtype=np.float32)
    bend = (0.35 * x, -0.35 * x, 0.2 * np.sin(18 * x))[shape]
    return as_audio(sine(pitch_hz * (1 + bend + uniform(rng, -0.05, 0.05))) * np.sin(np.pi * x))


def birds(rng: Rng, samples: int) -> Rendering:
    """Each bird repeats phrases of two to five chirps in its own pitch and shape."""
    kind = choose(rng, ("one", "few", "many"))
    audio = np.zeros(samples, np.float32)
    for bird in range({"one": 1, "few": 3, "many": 6}[kind]):
        pitch_hz, shape, loudness = log_uniform(rng, 2000, 5000), int(rng.integers(3)), uniform(rng, 0.3, 1.0)
        position = uniform(rng, 0.0, 0.2 if bird == 0 else 0.8) * SAMPLE_RATE_HZ
        while position < samples:
            for _ in range(int(rng.integers(2, 6))):
                chirp = _chirp(rng, pitch_hz, shape)
                place(audio, chirp * np.float32(loudness), position)
                position += len(chirp) + uniform(rng, 0.02, 0.08) * SAMPLE_RATE_HZ
            position += uniform(rng, 0.4, 1.2) * SAMPLE_RATE_HZ
    return Rendering(room(rng, audio, 0.8, 0.2), {"kind": kind})


def _bark(rng: Rng, kind: str, pitch_hz: float) -> Audio:
    formants = [(1100.0, 5.0, 6.0), (2600.0, 6.0, 3.0)] if kind == "small" else [(600.0, 4.0, 6.0), (1300.0, 5.0, 4.0)]
    length = to_samples(uniform(rng, 0.12, 0.2))
    x = np.linspace(0, 1, length, dtype=np.float32)
    throat = sawtooth(pitch_hz * (1 + 0.5 * np.sin(np.pi * x) - 0.2 * x)) + 0.35 * band_noise(rng, length, 300, 5000)
    envelope = np.abs(np.sin(np.pi * x**0.6)) ** 1.2
    return as_audio(equalise(throat, 200, 5000, formants) * envelope)


def dog(rng: Rng, samples: int) -> Rendering:
    kind = choose(rng, ("small", "large"))
    pitch_hz = uniform(rng, 450, 650) if kind == "small" else uniform(rng, 170, 260)
    audio = np.zeros(samples, np.float32)
    position = uniform(rng, 0.03, 0.15) * SAMPLE_RATE_HZ
    while position < samples:
        for _ in range(int(rng.integers(1, 4))):
            bark = _bark(rng, kind, pitch_hz)
            place(audio, bark * np.float32(uniform(rng, 0.8, 1.0)), position)
            position += len(bark) + uniform(rng, 0.08, 0.2) * SAMPLE_RATE_HZ
        position += uniform(rng, 0.3, 0.8) * SAMPLE_RATE_HZ
    return Rendering(room(rng, audio, 0.5, 0.15), {"kind": kind})
