"""Waves on a shore and running water."""

import numpy as np

from soundctm_training.synth.primitives import (
    Audio,
    Rendering,
    Rng,
    attack_decay,
    band_noise,
    choose,
    drift,
    log_uniform,
    scatter,
    sine,
    time_axis,
    to_samples,
    uniform,
)


def waves(rng: Rng, samples: int) -> Rendering:
    """Swells every 2.5 to 4.5 seconds: the low wash leads, the foam hiss follows its crest."""
    kind = choose(rng, ("calm", "crashing"))
    cycle = 2 * np.pi * time_axis(samples) / uniform(rng, 2.5, 4.5) + uniform(rng, 0, 2 * np.pi)
    sharpness = 1.3 if kind == "calm" else 2.4
    swell = ((0.5 + 0.5 * np.sin(cycle)) ** sharpness).astype(np.float32)
    foam = ((0.5 + 0.5 * np.sin(cycle - 0.5)) ** (2 * sharpness)).astype(np.float32)
    audio = band_noise(rng, samples, 80, 800, -2) * (0.15 + 0.85 * swell)
    audio += band_noise(rng, samples, 800, 9000, -3) * foam * np.float32(0.5 if kind == "calm" else 1.1)
    return Rendering((audio * drift(rng, samples, 6, 0.9, 1.1)).astype(np.float32), {"kind": kind})


def bubble(rng: Rng, frequency_hz: float) -> Audio:
    """One bubble bursting: a short tone that rises as it dies."""
    length = to_samples(uniform(rng, 0.02, 0.09))
    rise = 1 + uniform(rng, 0.2, 1.5) * np.linspace(0, 1, length, dtype=np.float32)
    return sine(frequency_hz * rise) * attack_decay(length, 0.002, length / 44_100 / 4)


def stream(rng: Rng, samples: int) -> Rendering:
    """Running water: hundreds of bubbles over a soft hiss."""
    kind = choose(rng, ("brook", "river", "trickle"))
    hiss_gain, bubbles_hz = {"brook": (0.10, 70.0), "river": (0.28, 110.0), "trickle": (0.05, 30.0)}[kind]
    audio = band_noise(rng, samples, 300, 5000, -4) * np.float32(hiss_gain)
    bubbles = [bubble(rng, log_uniform(rng, 350, 2600)) for _ in range(30)]
    scatter(rng, audio, bubbles_hz, bubbles, 0.06, 0.6)
    return Rendering(audio, {"kind": kind})
