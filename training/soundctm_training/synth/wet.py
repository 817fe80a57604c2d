"""Bubbles, dripping taps and splashes."""

from collections.abc import Mapping

import numpy as np

from soundctm_training.synth.notes import counted, gate
from soundctm_training.synth.primitives import (
    SAMPLE_RATE_HZ,
    Audio,
    Recipe,
    Rendering,
    Rng,
    as_audio,
    attack_decay,
    band_noise,
    choose,
    decay,
    equalise,
    log_uniform,
    modes,
    place,
    room,
    scatter,
    sine,
    to_samples,
    uniform,
)


def _bloop(rng: Rng, pitch_hz: float, seconds: float, rise: float) -> Audio:
    """A bubble leaving the water: a round tone that climbs by the factor 1 + `rise` as it dies, at peak about 1."""
    length = to_samples(seconds)
    climb = np.linspace(0, 1, length, dtype=np.float32)
    return as_audio(
        sine(pitch_hz * (1 + rise * climb**2)) * attack_decay(length, 0.004, 0.4 * seconds) * gate(length, 0.002, 0.02)
    )


def bubbles(rng: Rng, samples: int) -> Rendering:
    """Round rising tones without any hiss: single large ones, a steady string of small ones, or a rolling boil."""
    kind = choose(rng, ("large", "aquarium", "boiling"))
    audio = np.zeros(samples, np.float32)
    if kind == "boiling":
        pot = [
            _bloop(rng, log_uniform(rng, 220, 900), uniform(rng, 0.03, 0.08), uniform(rng, 0.4, 1.0)) for _ in range(24)
        ]
        scatter(rng, audio, 38.0, pot, 0.15, 1.0)
        audio += np.float32(0.06) * band_noise(rng, samples, 90, 500, -2)
        return Rendering(audio, {"kind": kind})
    if kind == "large":
        (low_hz, high_hz), seconds, gaps = (130.0, 330.0), (0.12, 0.24), (0.16, 0.5)
    else:
        (low_hz, high_hz), seconds, gaps = (480.0, 900.0), (0.05, 0.09), (0.07, 0.15)
    takes = [
        _bloop(rng, log_uniform(rng, low_hz, high_hz), uniform(rng, *seconds), uniform(rng, 0.6, 1.3)) for _ in range(8)
    ]
    position = uniform(rng, 0.0, 0.06)
    while position * SAMPLE_RATE_HZ < samples:
        place(audio, choose(rng, takes) * np.float32(uniform(rng, 0.5, 1.0)), position * SAMPLE_RATE_HZ)
        position += uniform(rng, *gaps)
    return Rendering(room(rng, audio, 0.25, 0.06), {"kind": kind})


def _drop(rng: Rng, place_name: str, pitch_hz: float) -> Audio:
    """One drop: the tick of its landing, then the plink of the bubble it drags under, or the sink's ring."""
    drop = np.zeros(to_samples(0.25), np.float32)
    tick = to_samples(0.012)
    place(drop, 0.5 * band_noise(rng, tick, 2500, 12_000) * decay(tick, 0.002), 0)
    if place_name == "sink":
        ratios = (1.0, 1.71, 2.63, 3.9)
        ring = modes(
            rng, [0.9 * pitch_hz * r for r in ratios], [0.03, 0.025, 0.02, 0.01], [0.8, 0.7, 0.5, 0.4], len(drop)
        )
        place(drop, ring * gate(len(ring), 0.001, 0.05), 0)
    else:
        place(drop, _bloop(rng, pitch_hz, uniform(rng, 0.07, 0.11), uniform(rng, 0.3, 0.6)), to_samples(0.018))
    return drop


def drip(rng: Rng, samples: int) -> Rendering:
    """Single drops, evenly spaced: into standing water, onto a metal sink, or in an echoing cave."""
    kind, pace = choose(rng, ("water", "sink", "cave")), choose(rng, ("slow", "steady", "fast"))
    low, high = {"slow": (1.1, 1.5), "steady": (0.55, 0.8), "fast": (0.22, 0.32)}[pace]
    period_seconds, pitch_hz = uniform(rng, low, high), log_uniform(rng, 900, 1700)
    drops = [_drop(rng, kind, pitch_hz * uniform(rng, 0.94, 1.06)) for _ in range(4)]
    audio = np.zeros(samples, np.float32)
    position = uniform(rng, 0.0, 0.1)
    while position * SAMPLE_RATE_HZ < samples:
        place(audio, choose(rng, drops) * np.float32(uniform(rng, 0.8, 1.0)), position * SAMPLE_RATE_HZ)
        position += period_seconds * uniform(rng, 0.97, 1.03)
    audio = room(rng, audio, 1.6, 0.16) if kind == "cave" else room(rng, audio, 0.3, 0.08)
    return Rendering(audio, {"kind": kind, "pace": pace})


def _splash(rng: Rng, size: str) -> Audio:
    """A body breaks the surface: a slap, a sheet of water thrown up, the hollow gulp, and drops raining back."""
    big = size == "big"
    splash = np.zeros(to_samples(1.5 if big else 0.7), np.float32)
    sheet = to_samples(0.9 if big else 0.3)
    thrown = band_noise(rng, sheet, 500 if big else 1000, 7000, -2) * attack_decay(sheet, 0.012, 0.17 if big else 0.05)
    place(splash, as_audio(1.3 * thrown * gate(sheet, 0.002, 0.1)), 0)
    if big:
        slap = to_samples(0.2)
        place(splash, 1.2 * band_noise(rng, slap, 80, 900, -2) * decay(slap, 0.05), 0)
    gulp = _bloop(rng, uniform(rng, 90, 140) if big else uniform(rng, 260, 480), 0.3 if big else 0.13, 1.2)
    place(splash, np.float32(1.4) * gulp, to_samples(0.1 if big else 0.03))
    rain = np.zeros(to_samples(1.1 if big else 0.5), np.float32)
    drops = [_bloop(rng, log_uniform(rng, 900, 4000), uniform(rng, 0.012, 0.03), 0.6) for _ in range(12)]
    scatter(rng, rain, 70.0 if big else 30.0, drops, 0.08, 0.5)
    place(splash, rain * decay(len(rain), 0.4 if big else 0.18), to_samples(0.2 if big else 0.08))
    return splash


def splash(rng: Rng, samples: int) -> Rendering:
    size, space = choose(rng, ("big", "small")), choose(rng, ("outdoors", "indoors"))
    gap_seconds = uniform(rng, 1.0, 1.3) if size == "big" else uniform(rng, 0.5, 0.75)
    count, starts = counted(rng, samples, gap_seconds, 0.5, uniform(rng, 1.6, 2.1))
    takes = [_splash(rng, size) for _ in range(3)]
    audio = np.zeros(samples, np.float32)
    for start in starts:
        place(audio, choose(rng, takes) * np.float32(uniform(rng, 0.8, 1.0)), start)
    audio = room(rng, audio, uniform(rng, 1.6, 2.4), 0.3) if space == "indoors" else equalise(audio, 60, 9000)
    return Rendering(audio, {"size": size, "space": space, "count": count})


RECIPES: Mapping[str, Recipe] = {"bubbles": bubbles, "drip": drip, "splash": splash}
BEDS: tuple[str, ...] = ("bubbles",)  # those of them that other sounds are laid over
FOREGROUNDS: tuple[str, ...] = ("drip", "splash")  # those that are laid over a bed
