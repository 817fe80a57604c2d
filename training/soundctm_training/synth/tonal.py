"""Bells and drums."""

import numpy as np

from soundctm_training.synth.notes import counted, gate, ringing
from soundctm_training.synth.primitives import (
    SAMPLE_RATE_HZ,
    Audio,
    Rendering,
    Rng,
    band_noise,
    choose,
    decay,
    log_uniform,
    modes,
    place,
    room,
    sine,
    time_axis,
    to_samples,
    uniform,
)

# The partials of a tuned bell over its prime (hum, prime, tierce, quint, nominal, ...): (ratio, gain, decay).
_BELL_PARTIALS = (
    *((0.5, 0.35, 0.9), (1.0, 1.0, 1.0), (1.19, 0.7, 0.75), (1.5, 0.3, 0.5)),
    *((2.0, 0.9, 0.6), (3.0, 0.45, 0.35), (4.17, 0.3, 0.2), (5.43, 0.15, 0.12)),
)


def bell(rng: Rng, samples: int) -> Rendering:
    """One bell struck at even times: few strong partials, the higher the sooner gone, after a hard clapper."""
    kind = choose(rng, ("church", "church", "small", "hand"))
    low_hz, high_hz, tau_seconds, gap_low, gap_high = {
        "church": (210.0, 440.0, 1.3, 1.3, 1.9),
        "small": (1500.0, 2800.0, 0.7, 0.5, 0.9),
        "hand": (650.0, 1150.0, 0.8, 0.38, 0.6),
    }[kind]
    prime_hz = log_uniform(rng, low_hz, high_hz)
    count, starts = counted(rng, samples, uniform(rng, gap_low, gap_high), 0.3, 1.5)
    length = min(samples, to_samples(4 * tau_seconds))
    partials = [(prime_hz * ratio, tau_seconds * tau, gain) for ratio, gain, tau in _BELL_PARTIALS]
    toll = ringing(rng, partials, length) * gate(length, 0.001, 0.2 * tau_seconds)
    place(toll, 0.6 * band_noise(rng, 1500, 2 * prime_hz, 9 * prime_hz) * decay(1500, 0.005), 0)
    audio = np.zeros(samples, np.float32)
    for start in starts:
        place(audio, toll * np.float32(uniform(rng, 0.9, 1.0)), start)
    return Rendering(room(rng, audio, uniform(rng, 0.6, 1.2), 0.1), {"kind": kind, "count": count})


def _kick(rng: Rng) -> Audio:
    length = 16000
    drop = uniform(rng, 42, 58) + uniform(rng, 90, 250) * np.exp(-time_axis(length) / 0.025)
    kick = sine(drop) * decay(length, uniform(rng, 0.09, 0.2))
    place(kick, 0.25 * band_noise(rng, 400, 1000, 9000) * decay(400, 0.002), 0)
    return kick


def _snare(rng: Rng) -> Audio:
    length = 12000
    skin = modes(rng, [log_uniform(rng, 170, 220), log_uniform(rng, 300, 360)], [0.06, 0.05], [1, 0.5], length)
    return 0.6 * skin + 0.6 * band_noise(rng, length, 900, 12000) * decay(length, uniform(rng, 0.05, 0.1))


def _hat(rng: Rng) -> Audio:
    return 0.5 * band_noise(rng, 4000, 6500, 17000, order=4) * decay(4000, 0.018)


def drums(rng: Rng, samples: int) -> Rendering:
    """A drum kit: kick and snare in one of three bar patterns of eighths, with a hat on each."""
    pace = choose(rng, ("slow", "fast"))
    eighth_seconds = 30 / (uniform(rng, 78, 98) if pace == "slow" else uniform(rng, 120, 150))
    kicks, snares = choose(rng, (((0, 5), (2, 6)), ((0, 4), (2, 6)), ((0, 3, 4), (2, 6, 7))))
    kick, snare, hat = _kick(rng), _snare(rng), _hat(rng)
    audio = np.zeros(samples, np.float32)
    for index in range(int(samples / SAMPLE_RATE_HZ / eighth_seconds) + 1):
        start = index * eighth_seconds * SAMPLE_RATE_HZ
        place(audio, hat * np.float32(0.7 if index % 2 else 1.0), start)
        if index % 8 in kicks:
            place(audio, kick, start)
        if index % 8 in snares:
            place(audio, snare, start)
    return Rendering(room(rng, audio, 0.4, 0.08), {"pace": pace})
