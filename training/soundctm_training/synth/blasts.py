"""Explosions, gunfire and whooshes."""

import numpy as np

from soundctm_training.synth.primitives import (
    SAMPLE_RATE_HZ,
    Audio,
    Rendering,
    Rng,
    as_audio,
    attack_decay,
    band_noise,
    choose,
    decay,
    log_uniform,
    onsets,
    place,
    room,
    scatter,
    sine,
    time_axis,
    to_samples,
    uniform,
)


def _blast(rng: Rng, kind: str, length: int) -> Audio:
    tau_seconds = {"big": uniform(rng, 0.7, 1.2), "small": uniform(rng, 0.2, 0.4), "distant": uniform(rng, 0.6, 1.0)}[
        kind
    ]
    blast = 1.2 * band_noise(rng, length, 25, 250, -4) * attack_decay(length, 0.005, tau_seconds)
    if kind != "distant":
        blast += band_noise(rng, length, 200, 8000, -4) * attack_decay(length, 0.001, 0.35 * tau_seconds)
        sweep = min(length, SAMPLE_RATE_HZ)
        place(blast, sine(40 + 80 * np.exp(-time_axis(sweep) / 0.08)) * decay(sweep, 0.25), 0)
    blast = np.tanh(1.6 * blast).astype(np.float32)
    if kind == "big":
        debris = np.zeros(length, np.float32)
        bits = [band_noise(rng, 900, log_uniform(rng, 700, 3000), 9000) * decay(900, 0.004) for _ in range(8)]
        scatter(rng, debris, 40, bits, 0.03, 0.4)
        blast += debris * attack_decay(length, 0.2, 0.7)
    return as_audio(blast)


def explosion(rng: Rng, samples: int) -> Rendering:
    kind = choose(rng, ("big", "big", "small", "distant"))
    low, high = {"big": (2.6, 4.2), "small": (1.2, 2.4), "distant": (2.2, 3.8)}[kind]
    audio = np.zeros(samples, np.float32)
    for start in onsets(rng, samples, 0.3, low, high):
        place(audio, _blast(rng, kind, min(samples - start, 4 * SAMPLE_RATE_HZ)), start)
    return Rendering(room(rng, audio, 1.5, 0.25), {"kind": kind})


def gun(rng: Rng, samples: int) -> Rendering:
    kind = choose(rng, ("single", "several", "automatic"))
    length = 16000
    shot = band_noise(rng, length, 150, 12000, -2) * (1.5 * decay(length, 0.012) + 0.3 * decay(length, 0.06))
    shot += 0.7 * band_noise(rng, length, 40, 250) * decay(length, 0.04)
    period = uniform(rng, 0.08, 0.12)
    audio = np.zeros(samples, np.float32)
    if kind == "automatic":
        burst_seconds = uniform(rng, 0.7, 1.4)
        for burst in onsets(rng, samples, 0.2, burst_seconds + 0.3, burst_seconds + 0.9):
            for index in range(int(burst_seconds / period)):
                place(audio, shot * np.float32(uniform(rng, 0.8, 1.0)), burst + index * period * SAMPLE_RATE_HZ)
    else:
        low, high = (1.6, 2.4) if kind == "single" else (0.35, 0.9)
        for start in onsets(rng, samples, 0.3, low, high):
            place(audio, shot * np.float32(uniform(rng, 0.8, 1.0)), start)
    return Rendering(room(rng, np.tanh(audio).astype(np.float32), 1.2, 0.28), {"kind": kind})


def whoosh(rng: Rng, samples: int) -> Rendering:
    """Noise swells whose brightness rises and falls with their loudness."""
    kind = choose(rng, ("fast", "slow", "deep"))
    low, high = {"fast": (0.25, 0.5), "slow": (1.0, 1.6), "deep": (0.6, 1.2)}[kind]
    length_seconds = uniform(rng, low, high)
    high_hz = uniform(rng, 600, 900) if kind == "deep" else uniform(rng, 3500, 6000)
    audio = np.zeros(samples, np.float32)
    for start in onsets(rng, samples, 0.2, length_seconds + 0.35, length_seconds + 1.0):
        length = to_samples(length_seconds)
        swell = np.exp(-((np.linspace(-1, 1, length, dtype=np.float32) / 0.4) ** 2))
        air = band_noise(rng, length, 100, high_hz / 4, -3) * swell
        place(audio, air + band_noise(rng, length, high_hz / 6, high_hz, -2) * swell**3, start)
    return Rendering(audio, {"kind": kind})
