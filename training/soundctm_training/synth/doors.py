"""Knocks on doors, and doors themselves: handle, hinge, leaf and latch."""

import numpy as np

from soundctm_training.synth.notes import gate
from soundctm_training.synth.primitives import (
    SAMPLE_RATE_HZ,
    Audio,
    Rendering,
    Rng,
    as_audio,
    band_noise,
    choose,
    cycles,
    decay,
    drift,
    equalise,
    log_uniform,
    modes,
    onsets,
    place,
    room,
    to_samples,
    uniform,
)
from soundctm_training.synth.voices import at_peak_one, contour

_KNOCKS = {"two": 2, "three": 3, "four": 4, "several": 6}


def _rap(rng: Rng, material: str, force: str) -> Audio:
    """One knock: the panel's hollow 150 to 600 Hz, or a plate's long ring, under a knuckle's tap or a fist's thud."""
    length = to_samples(0.35)
    if material == "wood":
        base_hz = uniform(rng, 150, 185) if force == "pounding" else uniform(rng, 200, 260)
        ratios, taus, gains = (1, 1.48, 2.1, 2.75), [0.05, 0.042, 0.03, 0.02], [1.0, 0.9, 0.6, 0.4]
    else:
        base_hz = uniform(rng, 280, 420)
        ratios, taus, gains = (1, 1.7, 2.6, 4.1), [0.13, 0.11, 0.09, 0.06], [0.8, 0.8, 0.6, 0.5]
    rap = modes(rng, [base_hz * ratio for ratio in ratios], taus, gains, length) * gate(length, 0.001, 0.05)
    tap = to_samples(0.02)
    if force == "pounding":
        place(rap, 1.2 * band_noise(rng, tap, 80, 700) * decay(tap, 0.008), 0)
    else:
        place(rap, 0.9 * band_noise(rng, tap, 900, 4500) * decay(tap, 0.003), 0)
    return rap


def knock(rng: Rng, samples: int) -> Rendering:
    """Groups of two to six quick knocks, a second or so of quiet between them."""
    material, force = choose(rng, ("wood", "wood", "wood", "metal")), choose(rng, ("polite", "pounding"))
    gap_seconds = uniform(rng, 0.12, 0.17) if force == "polite" else uniform(rng, 0.17, 0.22)
    seconds = samples / SAMPLE_RATE_HZ
    count = choose(rng, [name for name, knocks in _KNOCKS.items() if (knocks + 1) * gap_seconds <= seconds] or ["two"])
    rap = _rap(rng, material, force)
    audio = np.zeros(samples, np.float32)
    group_seconds = _KNOCKS[count] * gap_seconds
    for group in onsets(rng, samples, 0.12, group_seconds + 0.7, group_seconds + 1.2):
        for index in range(_KNOCKS[count]):
            at = group + index * gap_seconds * SAMPLE_RATE_HZ * uniform(rng, 0.97, 1.03)
            place(audio, rap * np.float32(uniform(rng, 0.8, 1.0)), at)
    audio = room(rng, audio, uniform(rng, 0.25, 0.5), 0.1)
    return Rendering(audio, {"material": material, "force": force, "count": count})


def _click(rng: Rng, pitch_hz: float) -> Audio:
    """A latch's tongue: a bright tick with a small metallic ring."""
    length = to_samples(0.06)
    ring = modes(rng, [pitch_hz, 1.63 * pitch_hz, 2.4 * pitch_hz], [0.008, 0.006, 0.004], [1.0, 0.8, 0.5], length)
    return ring + band_noise(rng, length, 2000, 9000) * decay(length, 0.002)


def _slam(rng: Rng) -> Audio:
    """The leaf meets its frame: a short wooden thud, the latch snapping in, and a rattle that dies at once."""
    length = to_samples(0.9)
    base_hz = uniform(rng, 75, 105)
    frequencies_hz = [base_hz * ratio for ratio in (1, 1.9, 2.8, 4.3, 6.1)]
    slam = modes(rng, frequencies_hz, [0.07, 0.06, 0.05, 0.03, 0.02], [1.2, 1.2, 0.9, 0.6, 0.4], length)
    thud = to_samples(0.08)
    place(slam, 1.2 * band_noise(rng, thud, 150, 2200, -3) * decay(thud, 0.012), 0)
    click = _click(rng, uniform(rng, 2000, 2900))
    for delay_seconds, gain in ((0.0, 1.0), (uniform(rng, 0.07, 0.1), 1.6), (uniform(rng, 0.16, 0.22), 0.8)):
        place(slam, np.float32(gain) * click, to_samples(delay_seconds))
    return slam


def _handle(rng: Rng) -> Audio:
    """A handle pressed down: two clicks, the second duller."""
    handle = np.zeros(to_samples(0.3), np.float32)
    place(handle, 0.5 * _click(rng, uniform(rng, 2600, 3400)), 0)
    place(handle, 0.5 * _click(rng, uniform(rng, 1500, 2100)), to_samples(uniform(rng, 0.09, 0.16)))
    return handle


def _creak(rng: Rng, seconds: float) -> Audio:
    """Stick and slip of a dry hinge: a squeal that climbs and wavers, then groans back, at peak 1."""
    samples = to_samples(seconds)
    low_hz, high_hz = log_uniform(rng, 70, 130), log_uniform(rng, 240, 420)
    rate_hz = contour(samples, [(0, low_hz), (uniform(rng, 0.35, 0.75), high_hz), (1, 1.2 * low_hz)])
    rate_hz = rate_hz * drift(rng, samples, 9, 0.88, 1.12)
    slips = ((cycles(rate_hz) % 1.0) < 0.06).astype(np.float32) * drift(rng, samples, 14, 0.35, 1.0)
    hinge = [(log_uniform(rng, 650, 950), 6.0, 8.0), (log_uniform(rng, 1400, 2000), 6.0, 9.0)]
    creak = equalise(slips, 300, 5500, [*hinge, (log_uniform(rng, 2600, 3400), 7.0, 7.0)])
    return at_peak_one(as_audio(creak * gate(samples, 0.03, 0.06)))


def door(rng: Rng, samples: int) -> Rendering:
    """Movements of a door, one after another: it is opened or shut, with a creak of the hinge, or both."""
    kind = choose(rng, ("slam", "slam", "creak", "creak_slam", "creak_slam"))
    longest_seconds = min(1.5, 0.45 * samples / SAMPLE_RATE_HZ)
    audio = np.zeros(samples, np.float32)
    slam = at_peak_one(_slam(rng))
    position = uniform(rng, 0.0, min(0.1, 0.1 * longest_seconds)) * SAMPLE_RATE_HZ
    while position < samples:
        if kind == "slam":
            if samples > 2 * SAMPLE_RATE_HZ and rng.random() < 0.6:
                place(audio, _handle(rng), position)
                position += to_samples(uniform(rng, 0.35, 0.5))
        else:
            if kind == "creak":
                place(audio, _handle(rng), position)
            creak = _creak(rng, uniform(rng, 0.7, 1.0) * longest_seconds)
            place(audio, np.float32(0.7) * creak, position)
            position += len(creak)
        if kind != "creak":
            place(audio, slam * np.float32(uniform(rng, 0.85, 1.0)), position)
        position += SAMPLE_RATE_HZ * (uniform(rng, 0.3, 0.6) if kind == "creak" else uniform(rng, 0.9, 1.5))
    return Rendering(room(rng, audio, uniform(rng, 0.3, 0.6), 0.1), {"kind": kind})
