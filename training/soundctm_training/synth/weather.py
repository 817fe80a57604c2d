"""Rain, thunder, wind and fire."""

import numpy as np

from soundctm_training.synth.primitives import (
    Rendering,
    Rng,
    attack_decay,
    band_noise,
    choose,
    decay,
    drift,
    equalise,
    log_uniform,
    onsets,
    place,
    room,
    scatter,
    sine,
    uniform,
)


def rain(rng: Rng, samples: int) -> Rendering:
    kind = choose(rng, ("light", "steady", "heavy", "roof"))
    low_hz, hiss_gain, drops_hz = {
        "light": (1500.0, 0.2, 60.0),
        "steady": (700.0, 0.6, 140.0),
        "heavy": (300.0, 1.0, 220.0),
        "roof": (500.0, 0.35, 160.0),
    }[kind]
    audio = band_noise(rng, samples, low_hz, uniform(rng, 9000, 15000), -2) * np.float32(hiss_gain)
    audio *= drift(rng, samples, 1.0, 0.85, 1.15)
    drops = [
        band_noise(rng, 900, log_uniform(rng, 1500, 5000), 15000) * decay(900, uniform(rng, 0.001, 0.004))
        for _ in range(12)
    ]
    scatter(rng, audio, drops_hz, drops, 0.2, 2.2)
    if kind == "roof":
        drum_hz = log_uniform(rng, 300, 600)
        audio = equalise(audio, 100, 7000, [(drum_hz, 3, 4), (2.3 * drum_hz, 3, 2)])
    return Rendering(audio, {"kind": kind})


def thunder(rng: Rng, samples: int) -> Rendering:
    """Claps with long rolling tails, every three to five seconds."""
    kind = choose(rng, ("close", "distant", "rolling"))
    attack_seconds, high_hz = {"close": (0.01, 700.0), "distant": (0.4, 150.0), "rolling": (0.25, 260.0)}[kind]
    audio = np.zeros(samples, np.float32)
    for start in onsets(rng, samples, 0.4, 3.0, 5.0):
        left = samples - start
        envelope = attack_decay(left, attack_seconds, uniform(rng, 1.0, 2.0)) * drift(rng, left, 5.0, 0.25, 1.25)
        place(audio, band_noise(rng, left, 30, high_hz, -5) * envelope, start)
        if kind == "close":
            crack = band_noise(rng, 26000, 250, 7000, -1) * attack_decay(26000, 0.001, 0.14)
            place(audio, 0.8 * crack * drift(rng, 26000, 50, 0.1, 1.3), start)
    audio += 0.03 * band_noise(rng, samples, 30, 200, -4)
    return Rendering(room(rng, audio, 1.6, 0.35), {"kind": kind})


def wind(rng: Rng, samples: int) -> Rendering:
    kind = choose(rng, ("gentle", "strong", "howling"))
    gust = drift(rng, samples, 0.9, 0.2, 1.0)
    if kind == "howling":
        audio = 0.5 * band_noise(rng, samples, 80, 900, -4) * gust
        for _ in range(3):
            whistle_hz = log_uniform(rng, 350, 900) * drift(rng, samples, 1.2, 0.85, 1.15)
            flutter = 0.4 + 0.6 * np.abs(band_noise(rng, samples, 1, 25))
            audio += 0.7 * sine(whistle_hz) * flutter * drift(rng, samples, 0.8) ** 2
    else:
        body = band_noise(rng, samples, 60, 400, -4)
        hiss = band_noise(rng, samples, 200, 1800, -4)
        audio = (body * (1 - 0.5 * gust) + hiss * gust**2 * (1.5 if kind == "strong" else 0.4)) * gust
    return Rendering(audio.astype(np.float32), {"kind": kind})


def fire(rng: Rng, samples: int) -> Rendering:
    """Crackle over a low flicker; the pops are sharp and irregular."""
    kind = choose(rng, ("small", "crackling", "roaring"))
    roar_gain, pops_hz = {"small": (0.10, 9.0), "crackling": (0.12, 24.0), "roaring": (0.45, 25.0)}[kind]
    audio = band_noise(rng, samples, 40, 500, -3) * drift(rng, samples, 4, 0.6, 1.2) * np.float32(roar_gain)
    pops = [
        band_noise(rng, 1500, log_uniform(rng, 800, 4000), 14000) * decay(1500, log_uniform(rng, 0.0008, 0.008))
        for _ in range(14)
    ]
    scatter(rng, audio, pops_hz, pops, 0.15, 2.5)
    return Rendering(audio, {"kind": kind})
