"""Cats, cows, sheep, roosters and wolves."""

import numpy as np

from soundctm_training.synth.primitives import (
    SAMPLE_RATE_HZ,
    Audio,
    Rendering,
    Rng,
    as_audio,
    band_noise,
    choose,
    drift,
    equalise,
    log_uniform,
    room,
    time_axis,
    to_samples,
    uniform,
)
from soundctm_training.synth.voices import (
    Throat,
    at_peak_one,
    contour,
    crowd,
    heard_from,
    joined,
    pulses,
    repeat,
    sing,
    swell,
)


def _meow(rng: Rng, kind: str) -> Audio:
    pitch_hz, seconds, rough = {
        "meow": (uniform(rng, 480, 680), uniform(rng, 0.55, 0.95), 0.1),
        "kitten": (uniform(rng, 850, 1250), uniform(rng, 0.25, 0.45), 0.0),
        "yowl": (uniform(rng, 380, 560), uniform(rng, 1.4, 2.2), 0.45),
    }[kind]
    size = 1.3 if kind == "kitten" else uniform(rng, 0.9, 1.1)
    samples = to_samples(seconds)
    rise = uniform(rng, 1.25, 1.5)
    pitch = contour(samples, [(0, 0.8), (0.3, rise), (0.6, rise * 0.95), (1, uniform(rng, 0.75, 0.95))])
    if kind == "yowl":
        pitch = pitch * drift(rng, samples, 3, 0.8, 1.2)
    closed = [(500 * size, 2.0, 6.0)]
    open_e = [(1100 * size, 3.0, 9.0), (2500 * size, 4.0, 10.0), (4200 * size, 5.0, 4.0)]
    open_a = [(1200 * size, 3.0, 12.0), (1900 * size, 4.0, 6.0), (4000 * size, 5.0, 3.0)]
    round_o = [(700 * size, 3.0, 9.0), (1150 * size, 4.0, 5.0)]
    call = sing(rng, pitch_hz * pitch, [closed, open_e, open_a, round_o], Throat(0.012, rough, 0.06, 300, 9000))
    loudness = contour(samples, [(0, 0.25), (0.25, 0.9), (0.5, 1.0), (1, 0.3)])
    return as_audio(call * loudness * swell(samples, 0.04, 0.12))


def _purr(rng: Rng, samples: int) -> Audio:
    """The laryngeal flutter of about 26 Hz, stronger while breathing out than in."""
    breath_seconds = uniform(rng, 0.9, 1.4)
    breath = (time_axis(samples) + np.float32(uniform(rng, 0, 2 * breath_seconds))) / breath_seconds
    out = (breath.astype(np.int32) % 2).astype(np.float32)
    loudness = np.abs(np.sin(np.pi * breath)) ** 0.35 * (0.55 + 0.45 * out)
    rate_hz = uniform(rng, 23, 29) * (0.93 + 0.1 * out) * drift(rng, samples, 8, 0.96, 1.04)
    flutter = equalise(pulses(as_audio(rate_hz)), 40, 1600, [(uniform(rng, 140, 220), 2.0, 8.0), (520.0, 3.0, 3.0)], 1)
    gate = np.abs(np.sin(np.pi * np.cumsum(rate_hz) / SAMPLE_RATE_HZ)) ** 3
    rumble = band_noise(rng, samples, 80, 2500, -5) * as_audio(gate)
    return as_audio((at_peak_one(flutter) + 0.16 * rumble) * loudness)


def cat(rng: Rng, samples: int) -> Rendering:
    kind = choose(rng, ("meow", "meow", "kitten", "yowl", "purr"))
    if kind == "purr":
        return Rendering(_purr(rng, samples), {"kind": kind})
    gap_seconds = {"meow": (0.4, 1.2), "kitten": (0.2, 0.7), "yowl": (0.3, 0.8)}[kind]
    audio = repeat(rng, samples, lambda: _meow(rng, kind), gap_seconds, 4)
    return Rendering(room(rng, audio, uniform(rng, 0.3, 0.6), 0.1), {"kind": kind})


def _moo(rng: Rng, kind: str, size: float) -> Audio:
    calf = kind == "calf"
    seconds = uniform(rng, 0.7, 1.2) if calf else uniform(rng, 1.2, 2.2)
    samples = to_samples(seconds)
    pitch_hz = (uniform(rng, 210, 300) if calf else uniform(rng, 95, 150)) / size
    pitch = contour(samples, [(0, 0.85), (0.25, 1.05), (0.7, 1.15), (1, 0.8)])
    hum = [(230 / size, 3.0, 10.0), (900 / size, 4.0, 2.0)]
    moo = [(330 / size, 4.0, 14.0), (720 / size, 5.0, 8.0), (2300 / size, 6.0, 3.0)]
    ooh = [(480 / size, 4.0, 12.0), (900 / size, 5.0, 9.0), (2500 / size, 6.0, 5.0)]
    call = sing(rng, pitch_hz * pitch, [hum, moo, ooh, ooh], Throat(0.012, uniform(rng, 0.1, 0.3), 0.03, 70, 3500))
    loudness = contour(samples, [(0, 0.4), (0.35, 0.9), (0.75, 1.0), (1, 0.3)])
    return as_audio(call * loudness * swell(samples, 0.09, 0.2))


def cow(rng: Rng, samples: int) -> Rendering:
    kind, distance = choose(rng, ("cow", "cow", "calf", "herd")), choose(rng, ("near", "near", "distant"))
    if kind == "herd":
        audio = crowd(rng, samples, lambda: _moo(rng, "cow", log_uniform(rng, 0.75, 1.2)), 1.3, 6)
    else:
        size = log_uniform(rng, 0.85, 1.15)
        audio = repeat(rng, samples, lambda: _moo(rng, kind, size), (0.4, 1.3), 3)
    return Rendering(heard_from(rng, audio, distance), {"kind": kind, "distance": distance})


def _bleat(rng: Rng, kind: str, size: float) -> Audio:
    lamb = kind == "lamb"
    samples = to_samples(uniform(rng, 0.45, 0.8) if lamb else uniform(rng, 0.7, 1.3))
    pitch_hz = (uniform(rng, 420, 600) if lamb else uniform(rng, 190, 300)) / size
    tremor_hz = uniform(rng, 8, 12)
    tremor = np.sin(2 * np.pi * tremor_hz * time_axis(samples) * drift(rng, samples, 4, 0.98, 1.02))
    pitch = contour(samples, [(0, 0.9), (0.2, 1.08), (1, 0.9)]) * (1 + 0.05 * tremor)
    scale = (1.25 if lamb else 1.0) / size
    mouth = [(650 * scale, 4.0, 8.0), (1500 * scale, 5.0, 10.0), (2700 * scale, 5.0, 9.0), (3800 * scale, 6.0, 4.0)]
    closed = [(350 * scale, 3.0, 8.0), (1100 * scale, 5.0, 3.0)]
    throat = Throat(0.015, 0.15, 0.08, 180, 7000)
    call = sing(rng, as_audio(pitch_hz * pitch), [closed, mouth, mouth, mouth, mouth], throat)
    return as_audio(call * (0.62 + 0.38 * tremor) * swell(samples, 0.05, 0.25))


def sheep(rng: Rng, samples: int) -> Rendering:
    kind, distance = choose(rng, ("sheep", "sheep", "lamb", "flock")), choose(rng, ("near", "near", "distant"))
    if kind == "flock":
        voices = ("sheep", "sheep", "lamb")
        audio = crowd(rng, samples, lambda: _bleat(rng, choose(rng, voices), log_uniform(rng, 0.85, 1.2)), 2.4, 7)
    else:
        size = log_uniform(rng, 0.88, 1.14)
        audio = repeat(rng, samples, lambda: _bleat(rng, kind, size), (0.3, 1.2), 4)
    return Rendering(heard_from(rng, audio, distance), {"kind": kind, "distance": distance})


def _crow_note(rng: Rng, pitch_hz: float, seconds: float, bend: list[tuple[float, float]], size: float) -> Audio:
    samples = to_samples(seconds)
    beak = [(1100 * size, 3.0, 9.0), (2100 * size, 4.0, 8.0), (3400 * size, 5.0, 4.0)]
    call = sing(rng, pitch_hz * contour(samples, bend), [beak], Throat(0.01, 0.25, 0.05, 350, 8000))
    return as_audio(call * swell(samples, 0.02, min(0.06, 0.3 * seconds)))


def _cock_a_doodle_doo(rng: Rng, pitch_hz: float, size: float) -> Audio:
    """Two short notes, a higher one, and the long one that rises and then falls away."""
    long_seconds = uniform(rng, 0.8, 1.2)
    notes: list[tuple[float, float, list[tuple[float, float]]]] = [
        (0.85, uniform(rng, 0.13, 0.19), [(0, 0.85), (0.5, 1.0), (1, 0.95)]),
        (0.95, uniform(rng, 0.1, 0.14), [(0, 0.95), (1, 1.0)]),
        (1.2, uniform(rng, 0.2, 0.3), [(0, 0.9), (0.4, 1.05), (1, 0.95)]),
        (1.15, long_seconds, [(0, 0.95), (0.15, 1.08), (0.5, 1.0), (0.8, 0.85), (1, 0.55)]),
    ]
    parts = [_crow_note(rng, pitch_hz * step, seconds, bend, size) for step, seconds, bend in notes]
    return joined(rng, parts, (0.03, 0.07))


def _cluck(rng: Rng) -> Audio:
    seconds = uniform(rng, 0.05, 0.09)
    return _crow_note(rng, uniform(rng, 330, 520), seconds, [(0, 1.1), (1, 0.75)], 0.85)


def rooster(rng: Rng, samples: int) -> Rendering:
    distance, company = choose(rng, ("near", "distant")), choose(rng, ("alone", "hens"))
    pitch_hz, size = log_uniform(rng, 520, 800), uniform(rng, 0.9, 1.1)
    audio = repeat(rng, samples, lambda: _cock_a_doodle_doo(rng, pitch_hz, size), (0.5, 1.3), 3)
    if company == "hens":
        audio += np.float32(0.4) * crowd(rng, samples, lambda: _cluck(rng), 5.0, 10)
    return Rendering(heard_from(rng, audio, distance), {"distance": distance, "company": company})


def _howl(rng: Rng, pitch_hz: float) -> Audio:
    samples = to_samples(uniform(rng, 2.2, 4.2))
    top = uniform(rng, 1.5, 1.9)
    bend = [(0, 0.75), (0.14, top), (0.2, top * 0.97), (0.7, top * uniform(rng, 0.82, 0.95)), (1, 0.8)]
    vibrato = 1 + 0.008 * np.sin(2 * np.pi * uniform(rng, 4, 6) * time_axis(samples))
    pitch = as_audio(pitch_hz * contour(samples, bend) * vibrato * drift(rng, samples, 2, 0.985, 1.015))
    mouth = [(650.0, 2.0, 14.0), (1300.0, 4.0, 4.0)]
    call = sing(
        rng, pitch, [[(450.0, 2.0, 10.0)], mouth, mouth, [(500.0, 2.0, 10.0)]], Throat(0.004, 0.0, 0.02, 150, 1500)
    )
    return as_audio(call * swell(samples, 0.18, 0.9))


def wolf(rng: Rng, samples: int) -> Rendering:
    """Howls that leap up, hold and sink; a pack answers itself."""
    kind, distance = choose(rng, ("one", "pack")), choose(rng, ("near", "distant"))
    if kind == "pack":
        audio = crowd(rng, samples, lambda: _howl(rng, log_uniform(rng, 260, 480)), 1.1, 5)
    else:
        pitch_hz = log_uniform(rng, 270, 420)
        audio = repeat(rng, samples, lambda: _howl(rng, pitch_hz), (0.2, 1.0), 3)
    audio = room(rng, audio, uniform(rng, 1.5, 2.5), 0.3)
    return Rendering(heard_from(rng, audio, distance), {"kind": kind, "distance": distance})
