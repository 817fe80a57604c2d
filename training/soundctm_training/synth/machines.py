"""Engines, helicopters, sirens and drones."""

import numpy as np

from soundctm_training.synth.notes import read, wavetable
from soundctm_training.synth.primitives import (
    Audio,
    Rendering,
    Rng,
    as_audio,
    band_noise,
    choose,
    cycles,
    drift,
    equalise,
    log_uniform,
    room,
    sawtooth,
    time_axis,
    uniform,
)

_ENGINE_PARTIALS = 20


def engine(rng: Rng, samples: int) -> Rendering:
    vehicle = choose(rng, ("car", "motorcycle", "truck"))
    mode = choose(rng, ("idling", "accelerating", "running"))
    low, high, cutoff_hz = {"car": (25, 38, 1800.0), "motorcycle": (40, 60, 3500.0), "truck": (14, 22, 1200.0)}[vehicle]
    ramp = np.linspace(0, 1, samples, dtype=np.float32)
    speed = {"idling": 1.0 + 0 * ramp, "accelerating": 1 + 2.6 * ramp**1.3, "running": 2.3 + 0 * ramp}[mode]
    turn = cycles(uniform(rng, low, high) * speed * drift(rng, samples, 7, 0.985, 1.015))
    # One period of the exhaust note is drawn once and read by phase: a table costs far less than 20 sines.
    gains = rng.uniform(0.3, 1, _ENGINE_PARTIALS) / np.arange(1, _ENGINE_PARTIALS + 1) ** 0.7
    spectrum = np.zeros(1025, np.complex64)
    spectrum[1 : _ENGINE_PARTIALS + 1] = gains * np.exp(1j * rng.uniform(0, 2 * np.pi, _ENGINE_PARTIALS))
    period = np.fft.irfft(spectrum, 2048) * 1024
    exhaust = period[((turn / 2) % 1.0 * 2048).astype(np.int32)].astype(np.float32)
    pulse = np.maximum(0, np.sin(2 * np.pi * (turn % 1.0).astype(np.float32))) ** 6
    audio = 0.7 * np.tanh(1.5 * exhaust) + 0.8 * band_noise(rng, samples, 150, 5000, -4) * pulse
    return Rendering(equalise(audio.astype(np.float32), 30, cutoff_hz), {"vehicle": vehicle, "mode": mode})


def helicopter(rng: Rng, samples: int) -> Rendering:
    """Rotor chops at 9 to 15 a second over a turbine whine."""
    kind = choose(rng, ("close", "distant", "passing"))
    rate_hz = uniform(rng, 9, 15)
    t = time_axis(samples)
    chop = np.exp(-7 * ((t * rate_hz + uniform(rng, 0, 1)) % 1)).astype(np.float32)
    audio = band_noise(rng, samples, 40, 2500, -4) * (0.15 + chop)
    audio += 0.8 * np.sin(2 * np.pi * np.float32(6 * rate_hz) * t) * chop
    turbine = sawtooth(np.full(samples, uniform(rng, 500, 900)))
    audio = (audio + 0.12 * turbine * (0.5 + 0.5 * chop)).astype(np.float32)
    if kind == "passing":
        middle = uniform(rng, 0.35, 0.65)
        audio *= 0.15 + np.exp(-(((np.linspace(0, 1, samples, dtype=np.float32) - middle) / 0.25) ** 2))
    if kind == "distant":
        audio = equalise(audio, 30, 450)
    return Rendering(audio, {"kind": kind})


def _siren_pitch_hz(rng: Rng, kind: str, samples: int) -> Audio:
    t = time_axis(samples) + np.float32(uniform(rng, 0, 8))
    if kind == "police":
        rate_hz = uniform(rng, 0.3, 0.5) if rng.random() < 0.6 else uniform(rng, 2.5, 3.5)
        return as_audio(1000 + 420 * np.sin(2 * np.pi * rate_hz * t))
    if kind == "ambulance":
        low_hz = uniform(rng, 400, 480)
        return np.where((t * uniform(rng, 0.8, 1.1)) % 1 < 0.5, low_hz, 1.34 * low_hz).astype(np.float32)
    wail = 0.5 - 0.5 * np.cos(2 * np.pi * t / uniform(rng, 4.0, 6.0))
    return as_audio(280 + 330 * wail**0.7)


def siren(rng: Rng, samples: int) -> Rendering:
    kind = choose(rng, ("police", "ambulance", "air_raid"))
    audio = equalise(sawtooth(_siren_pitch_hz(rng, kind, samples)), 300, 4500, [(1500.0, 2.0, 2.0)])
    return Rendering(room(rng, audio, 1.2, 0.2), {"kind": kind})


def _sustained(rng: Rng, samples: int, root_hz: float, reach: float, brightness: Audio | float) -> Audio:
    """Root, fifth and octave in just tune, so that nothing beats; `brightness` fades in the upper harmonics."""
    dull = wavetable([1 / n**1.6 for n in range(1, 9)])
    bright = wavetable([1 / n**0.7 for n in range(1, 1 + int(reach))])
    chord = np.zeros(samples, np.float32)
    for ratio in (1.0, 1.5, 2.0):
        curve_hz = np.full(samples, root_hz * ratio)
        chord += (1 - brightness) * read(dull, curve_hz) + brightness * read(bright, curve_hz)
    return chord


def drone(rng: Rng, samples: int) -> Rendering:
    """A sustained chord that never pulses; what lies over its low root tells the kinds apart."""
    kind = choose(rng, ("dark", "spaceship", "eerie"))
    motion = choose(rng, ("still", "evolving"))
    brightness: Audio | float = 0.4 if motion == "still" else drift(rng, samples, 0.35, 0.0, 0.9)
    root_hz = {"dark": log_uniform(rng, 52, 75), "spaceship": log_uniform(rng, 70, 105), "eerie": 110.0}[kind]
    audio = _sustained(rng, samples, root_hz, {"dark": 10, "spaceship": 24, "eerie": 6}[kind], brightness)
    if kind == "spaceship":  # the whine and the air of the engine room
        whine = wavetable([1.0, 0.0, 0.4])
        audio = audio + 0.35 * read(whine, np.full(samples, uniform(rng, 700, 1400)))
        audio += 0.3 * band_noise(rng, samples, 150, 3000, -3)
    if kind == "dark":
        audio = audio + 0.2 * band_noise(rng, samples, 60, 300, -3)
    if kind == "eerie":  # glassy tones, close to each other yet a semitone at least apart
        audio = 0.45 * audio
        base_hz = log_uniform(rng, 420, 800)
        for ratio in (1.0, choose(rng, (1.067, 1.125)), 1.6, 2.4):
            audio = audio + 0.45 * read(wavetable([1.0, 0.1]), np.full(samples, base_hz * ratio)) * drift(
                rng, samples, 0.4, 0.4, 1.0
            )
    return Rendering(as_audio(audio), {"kind": kind, "motion": motion})
