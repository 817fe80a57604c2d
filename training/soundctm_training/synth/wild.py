"""Frogs, owls, seagulls and horses."""

import numpy as np

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
    modes,
    place,
    room,
    sine,
    time_axis,
    to_samples,
    uniform,
)
from soundctm_training.synth.voices import Throat, at_peak_one, contour, crowd, joined, pulses, repeat, sing, swell


def _croak(rng: Rng, seconds: float, rate_hz: tuple[float, float], throat_hz: float, glide: float) -> Audio:
    """A train of separate throat pulses through a resonance that glides by the factor `glide`, at peak 1."""
    samples = to_samples(seconds)
    train = pulses(contour(samples, [(0, rate_hz[0]), (1, rate_hz[1])]) * drift(rng, samples, 20, 0.95, 1.05))
    croak = np.zeros(samples, np.float32)
    share = np.linspace(0, 1, samples, dtype=np.float32)
    for hz, weight in ((throat_hz, 1 - share), (glide * throat_hz, share)):
        sac = [(hz, 7.0, 14.0), (2.3 * hz, 7.0, 9.0), (4.1 * hz, 6.0, 3.0)]
        croak += weight * equalise(train, 0.6 * hz, 5 * hz, sac)
    return at_peak_one(as_audio(croak * swell(samples, 0.02, 0.04)))


def _frog_call(rng: Rng, kind: str, size: float) -> Audio:
    if kind == "bullfrog":
        return _croak(rng, uniform(rng, 0.6, 0.9), (34, 30), 210 / size, 0.85)
    if kind == "croak":
        return _croak(rng, uniform(rng, 0.3, 0.5), (42, 36), 520 / size, 0.9)
    rib = _croak(rng, uniform(rng, 0.1, 0.14), (60, 70), 620 / size, 1.15)
    bit = _croak(rng, uniform(rng, 0.14, 0.2), (75, 80), 780 / size, 1.6)
    return joined(rng, [rib, bit], (0.03, 0.05))


def frog(rng: Rng, samples: int) -> Rendering:
    kind, size = choose(rng, ("ribbit", "ribbit", "croak", "bullfrog", "chorus")), log_uniform(rng, 0.85, 1.2)
    if kind == "chorus":
        voices = ("ribbit", "ribbit", "croak", "bullfrog")
        audio = crowd(rng, samples, lambda: _frog_call(rng, choose(rng, voices), log_uniform(rng, 0.75, 1.3)), 6.0, 10)
    else:
        gap_seconds = {"ribbit": (0.2, 0.6), "croak": (0.2, 0.6), "bullfrog": (0.5, 1.0)}[kind]
        audio = repeat(rng, samples, lambda: _frog_call(rng, kind, size), gap_seconds, 3)
    return Rendering(room(rng, audio, uniform(rng, 0.3, 0.8), 0.12), {"kind": kind})


def _hoo(rng: Rng, pitch_hz: float, seconds: float, tremble: float) -> Audio:
    """One hoot: nearly a pure tone, soft at both ends; `tremble` shakes its loudness and pitch at 12 Hz."""
    samples = to_samples(seconds)
    shake = np.sin(2 * np.pi * uniform(rng, 10, 14) * time_axis(samples))
    pitch = pitch_hz * contour(samples, [(0, 0.93), (0.3, 1.0), (0.75, 1.0), (1, 0.92)]) * (1 + 0.03 * tremble * shake)
    tone = sine(pitch) + 0.12 * sine(2 * pitch) + 0.05 * band_noise(rng, samples, 300, 1200)
    return as_audio(tone * (1 - 0.6 * tremble * (0.5 - 0.5 * shake)) * swell(samples, 0.05, 0.1))


def _screech(rng: Rng) -> Audio:
    """A barn owl's drawn-out hiss of a scream."""
    samples = to_samples(uniform(rng, 0.8, 1.4))
    pitch = uniform(rng, 1500, 2100) * contour(samples, [(0, 0.8), (0.4, 1.15), (1, 0.95)])
    pitch = pitch * (1 + 0.06 * band_noise(rng, samples, 40, 500))
    rasp = drift(rng, samples, 90, 0.25, 1.0)
    return as_audio((sine(pitch) + 0.5 * sine(2 * pitch) + 0.35 * band_noise(rng, samples, 1500, 7000)) * rasp) * swell(
        samples, 0.15, 0.25
    )


def _hooting(rng: Rng, kind: str, pitch_hz: float) -> Audio:
    if kind == "screech":
        return _screech(rng)
    if kind == "wavering":
        parts = [_hoo(rng, pitch_hz, uniform(rng, 0.35, 0.5), 0.0), _hoo(rng, pitch_hz, uniform(rng, 1.2, 1.7), 1.0)]
        return joined(rng, parts, (0.2, 0.35))
    lengths = (0.35, 0.12, 0.42, 0.32, 0.32)  # hoo, h'hoo, hoo, hoo
    return joined(rng, [_hoo(rng, pitch_hz, length * uniform(rng, 0.9, 1.1), 0.0) for length in lengths], (0.1, 0.18))


def owl(rng: Rng, samples: int) -> Rendering:
    kind = choose(rng, ("hooting", "hooting", "wavering", "screech"))
    pitch_hz = log_uniform(rng, 300, 480) if kind == "hooting" else log_uniform(rng, 560, 780)
    audio = repeat(rng, samples, lambda: _hooting(rng, kind, pitch_hz), (0.5, 1.2), 3)
    return Rendering(room(rng, audio, uniform(rng, 0.8, 1.4), 0.14), {"kind": kind})


def _gull_note(rng: Rng, pitch_hz: float, seconds: float) -> Audio:
    """A harsh nasal yelp: up fast, then a long fall."""
    samples = to_samples(seconds)
    bend = [(0.0, 0.75), (0.15, 1.3), (0.35, 1.15), (1.0, 0.62)]
    beak = [(1700.0, 3.0, 8.0), (2900.0, 4.0, 10.0), (4600.0, 5.0, 5.0)]
    call = sing(rng, pitch_hz * contour(samples, bend), [beak], Throat(0.015, 0.2, 0.04, 500, 9000))
    return as_audio(call * swell(samples, 0.02, 0.35 * seconds))


def _gull_call(rng: Rng, kind: str) -> Audio:
    pitch_hz = log_uniform(rng, 750, 1050)
    if kind == "crying":
        return _gull_note(rng, pitch_hz, uniform(rng, 0.55, 0.95))
    lengths = (0.5, 0.28, 0.22, 0.2, 0.19, 0.18, 0.17)[: int(rng.integers(5, 8))]
    notes = [_gull_note(rng, pitch_hz * uniform(rng, 0.97, 1.03), length) for length in lengths]
    return joined(rng, notes, (0.03, 0.07))


def seagull(rng: Rng, samples: int) -> Rendering:
    kind = choose(rng, ("crying", "laughing", "flock"))
    if kind == "flock":
        kinds = ("crying", "crying", "laughing")
        audio = crowd(rng, samples, lambda: _gull_call(rng, choose(rng, kinds)), 2.2, 4)
    else:
        audio = repeat(rng, samples, lambda: _gull_call(rng, kind), (0.25, 0.9), 2)
    return Rendering(room(rng, audio, uniform(rng, 0.8, 1.6), 0.15), {"kind": kind})


# Where the feet fall in one stride, in shares of it, and the stride's length in seconds.
_GAITS = {
    "walking": ((0.0, 0.25, 0.5, 0.75), (1.05, 1.3)),
    "trotting": ((0.0, 0.5), (0.58, 0.7)),
    "galloping": ((0.0, 0.2, 0.4), (0.5, 0.62)),
}


def _clop(rng: Rng, ground: str, pitch_hz: float) -> Audio:
    """A hoof: on stone a hollow ring of two tones, on turf a thud and torn grass."""
    length = to_samples(0.16)
    if ground == "stone":
        clop = modes(rng, [pitch_hz, 1.52 * pitch_hz, 2.7 * pitch_hz], [0.022, 0.014, 0.006], [1.0, 0.8, 0.4], length)
        return clop + 0.5 * band_noise(rng, length, 2000, 8000) * decay(length, 0.003)
    thud = modes(rng, [0.12 * pitch_hz, 0.21 * pitch_hz], [0.03, 0.025], [1.0, 0.8], length)
    return thud + 0.5 * band_noise(rng, length, 200, 2200) * decay(length, 0.018)


def _hooves(rng: Rng, samples: int, gait: str) -> Audio:
    falls, stride = _GAITS[gait]
    stride_seconds = uniform(rng, *stride)
    ground, base_hz = choose(rng, ("stone", "stone", "turf")), log_uniform(rng, 620, 950)
    feet = [_clop(rng, ground, base_hz * share) for share in (1.0, 1.12, 0.9, 1.05)]
    audio = np.zeros(samples, np.float32)
    position = uniform(rng, 0.0, 0.05)
    while position * SAMPLE_RATE_HZ < samples:
        for foot, share in enumerate(falls):
            at = position + stride_seconds * share * uniform(rng, 0.97, 1.03)
            place(audio, feet[foot] * np.float32(uniform(rng, 0.7, 1.0)), at * SAMPLE_RATE_HZ)
        position += stride_seconds * uniform(rng, 0.98, 1.02)
    return audio


def _neigh(rng: Rng) -> Audio:
    """A scream that shakes at about 12 Hz on its way down, and ends in a flutter of the lips."""
    samples = to_samples(uniform(rng, 1.2, 1.7))
    shake = np.sin(2 * np.pi * uniform(rng, 10, 14) * time_axis(samples))
    pitch = uniform(rng, 850, 1150) * contour(samples, [(0, 0.6), (0.12, 1.1), (0.45, 0.95), (1, 0.4)])
    bright = [(1500.0, 3.0, 9.0), (2600.0, 4.0, 8.0), (4000.0, 5.0, 4.0)]
    dark = [(900.0, 3.0, 9.0), (1800.0, 4.0, 5.0)]
    call = sing(rng, as_audio(pitch * (1 + 0.1 * shake)), [bright, bright, dark], Throat(0.015, 0.3, 0.08, 300, 8000))
    call = call * (0.6 + 0.4 * shake) * swell(samples, 0.05, 0.3)
    lips = to_samples(uniform(rng, 0.4, 0.6))
    flutter = 0.5 + 0.5 * np.sin(2 * np.pi * uniform(rng, 20, 26) * time_axis(lips))
    snort = 0.35 * band_noise(rng, lips, 150, 3500, -4) * as_audio(flutter**3) * swell(lips, 0.03, 0.25)
    return joined(rng, [as_audio(call), as_audio(snort)], (0.0, 0.1))


def horse(rng: Rng, samples: int) -> Rendering:
    kind = choose(rng, ("walking", "trotting", "galloping", "galloping", "neighing"))
    if kind == "neighing":
        audio = repeat(rng, samples, lambda: _neigh(rng), (0.4, 1.0), 2)
    else:
        audio = _hooves(rng, samples, kind)
    return Rendering(room(rng, audio, uniform(rng, 0.3, 0.7), 0.1), {"kind": kind})
