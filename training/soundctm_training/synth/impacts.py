"""Steps, glass, keys and hands: sounds made of separate strikes."""

import numpy as np

from soundctm_training.synth.primitives import (
    SAMPLE_RATE_HZ,
    Audio,
    Rendering,
    Rng,
    band_noise,
    choose,
    decay,
    equalise,
    log_uniform,
    modes,
    onsets,
    place,
    room,
    scatter,
    to_samples,
    uniform,
)

# Crumbling grounds: (grain low Hz, grain high Hz, length seconds, grains a step)
_CRUMBLING = {
    "gravel": (900.0, 9000.0, 0.13, 40),
    "snow": (300.0, 3000.0, 0.16, 70),
    "leaves": (2000.0, 14000.0, 0.15, 35),
    "grass": (800.0, 5000.0, 0.12, 90),
}
_STEP_SAMPLES = to_samples(0.22)


def _hard_strike(rng: Rng, material: str) -> Audio:
    if material == "wood":
        frequencies_hz = [log_uniform(rng, 90, 130), log_uniform(rng, 180, 300), log_uniform(rng, 380, 600)]
        strike = modes(rng, frequencies_hz, [0.04, 0.03, 0.015], [1, 0.6, 0.3], _STEP_SAMPLES)
        place(strike, 0.4 * band_noise(rng, 3000, 200, 3000) * decay(3000, 0.006), 0)
    elif material == "concrete":
        strike = band_noise(rng, _STEP_SAMPLES, 300, 6000) * decay(_STEP_SAMPLES, 0.012)
        strike += modes(rng, [log_uniform(rng, 110, 170)], [0.02], [0.5], _STEP_SAMPLES)
    else:
        base_hz = log_uniform(rng, 250, 420)
        ratios, taus = (1, 1.58, 2.24, 2.92, 4.2), [0.12, 0.1, 0.08, 0.06, 0.05]
        strike = modes(rng, [base_hz * ratio for ratio in ratios], taus, [0.6, 0.5, 0.4, 0.3, 0.3], _STEP_SAMPLES)
        strike += 0.4 * band_noise(rng, _STEP_SAMPLES, 1000, 9000) * decay(_STEP_SAMPLES, 0.006)
    return strike


def _crumbling_step(rng: Rng, surface: str) -> Audio:
    low_hz, high_hz, length_seconds, count = _CRUMBLING[surface]
    length = to_samples(length_seconds)
    knots = [0.0, 0.25 * length, float(length)]
    weight = np.interp(np.arange(_STEP_SAMPLES), knots, [0.0, 1.0, 0.0]).astype(np.float32)
    grains = [band_noise(rng, 250, low_hz, high_hz) * decay(250, 0.0015) for _ in range(6)]
    step = np.zeros(_STEP_SAMPLES, np.float32)
    for start in rng.integers(0, length, count).tolist():
        place(step, choose(rng, grains) * np.float32(log_uniform(rng, 0.2, 1.5)) * weight[start], start)
    return step


def footsteps(rng: Rng, samples: int) -> Rendering:
    surface = choose(rng, ("wood", "concrete", "gravel", "snow", "leaves", "metal", "grass"))
    pace = choose(rng, ("slow", "walking", "running"))
    low, high = {"slow": (0.75, 0.95), "walking": (0.48, 0.6), "running": (0.26, 0.33)}[pace]
    period_seconds = uniform(rng, low, high)
    make = _crumbling_step if surface in _CRUMBLING else _hard_strike
    feet = [make(rng, surface) for _ in range(5)]
    audio = np.zeros(samples, np.float32)
    for start in onsets(rng, samples, period_seconds, 0.95 * period_seconds, 1.05 * period_seconds):
        place(audio, choose(rng, feet) * np.float32(uniform(rng, 0.7, 1.0)), start)
    if surface not in _CRUMBLING and rng.random() < 0.5:
        audio = room(rng, audio, 0.6, 0.15)
    return Rendering(audio, {"surface": surface, "pace": pace})


def _pane(rng: Rng, tau_seconds: float) -> Audio:
    base_hz = log_uniform(rng, 1800, 6000)
    frequencies_hz = [base_hz * ratio for ratio in (1, 1.62, 2.31, 3.2, 4.1)]
    taus = [tau_seconds * share for share in (1, 0.8, 0.6, 0.4, 0.3)]
    return modes(rng, frequencies_hz, taus, [1, 0.6, 0.5, 0.3, 0.2], to_samples(6 * tau_seconds))


def _shatter(rng: Rng, audio: Audio, start: int) -> None:
    place(audio, 2 * band_noise(rng, 9000, 1500, 16000) * decay(9000, 0.03), start)
    shards = [_pane(rng, log_uniform(rng, 0.01, 0.06)) for _ in range(20)]
    for _ in range(60):
        delay = rng.exponential(0.25) * SAMPLE_RATE_HZ
        place(audio, choose(rng, shards) * np.float32(log_uniform(rng, 0.1, 0.7)), start + delay)


def glass(rng: Rng, samples: int) -> Rendering:
    kind = choose(rng, ("breaking", "breaking", "clinking"))
    audio = np.zeros(samples, np.float32)
    if kind == "breaking":
        for start in onsets(rng, samples, 0.3, 1.8, 3.0):
            _shatter(rng, audio, start)
    else:
        glasses = [_pane(rng, uniform(rng, 0.15, 0.4)) for _ in range(3)]
        for start in onsets(rng, samples, 0.2, 0.3, 0.9):
            place(audio, choose(rng, glasses) * np.float32(uniform(rng, 0.7, 1.0)), start)
    return Rendering(room(rng, audio, 0.6, 0.12), {"kind": kind})


def _key(rng: Rng, kind: str) -> Audio:
    low, high = {"mechanical": (900, 2000), "typewriter": (1500, 2800), "laptop": (500, 1000)}[kind]
    pitch_hz, length = log_uniform(rng, low, high), 4000
    body = modes(rng, [pitch_hz, 1.9 * pitch_hz, 3.1 * pitch_hz], [0.006, 0.004, 0.003], [0.5, 0.5, 0.4], length)
    click = band_noise(rng, length, pitch_hz, 11000) * decay(length, 0.003 if kind == "typewriter" else 0.0015)
    return body + click * np.float32(0.4 if kind == "laptop" else 1.0)


def typing(rng: Rng, samples: int) -> Rendering:
    """Bursts of six to ten keystrokes a second with short pauses between words."""
    kind = choose(rng, ("mechanical", "typewriter", "laptop"))
    keys = [_key(rng, kind) for _ in range(6)]
    space = equalise(_key(rng, kind), 100, 3000)
    audio = np.zeros(samples, np.float32)
    position = uniform(rng, 0.0, 0.1)
    while position * SAMPLE_RATE_HZ < samples:
        word_ends = rng.random() < 0.18
        struck = space if word_ends else choose(rng, keys)
        place(audio, struck * np.float32(uniform(rng, 0.5, 1.0)), position * SAMPLE_RATE_HZ)
        position += uniform(rng, 0.16, 0.34) if word_ends else uniform(rng, 0.06, 0.16)
    return Rendering(room(rng, audio, 0.25, 0.08), {"kind": kind})


def applause(rng: Rng, samples: int) -> Rendering:
    kind = choose(rng, ("few", "small", "large", "large"))
    claps_hz, wash_gain = {"few": (16.0, 0.0), "small": (55.0, 0.05), "large": (170.0, 0.12)}[kind]
    claps = [
        band_noise(rng, 1800, log_uniform(rng, 500, 1100), log_uniform(rng, 2500, 6000))
        * decay(1800, log_uniform(rng, 0.004, 0.009))
        for _ in range(16)
    ]
    audio = np.float32(wash_gain) * band_noise(rng, samples, 500, 6000, -2)
    scatter(rng, audio, claps_hz, claps, 0.2, 1.0)
    return Rendering(room(rng, audio, 1.1, 0.25), {"kind": kind})
