"""Drills, saws, hammers and vacuum cleaners."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from soundctm_training.synth.notes import counted, gate, read, ringing, wavetable
from soundctm_training.synth.primitives import (
    SAMPLE_RATE_HZ,
    Audio,
    Recipe,
    Rendering,
    Rng,
    as_audio,
    band_noise,
    choose,
    cycles,
    decay,
    drift,
    equalise,
    place,
    room,
    sine,
    time_axis,
    to_samples,
    uniform,
)


def _bursts(rng: Rng, samples: int, low_seconds: float, high_seconds: float, pause_seconds: float) -> Audio:
    """Where a trigger is held, as 0 or 1, [samples]: held at once, then let go for about `pause_seconds`."""
    held = np.zeros(samples, np.float32)
    position = uniform(rng, 0.0, 0.05)
    while position < samples / SAMPLE_RATE_HZ:
        end = position + uniform(rng, low_seconds, high_seconds)
        held[int(position * SAMPLE_RATE_HZ) : int(end * SAMPLE_RATE_HZ)] = 1.0
        position = end + pause_seconds * uniform(rng, 0.8, 1.25)
    return held


def _follow(target: Audio, rise_seconds: float, fall_seconds: float) -> Audio:
    """A motor's speed after its trigger: exponential approaches to 1 and to 0, [samples]."""
    edges = [0, *(np.flatnonzero(np.diff(target)) + 1).tolist(), len(target)]
    speed, last = np.empty(len(target), np.float32), 0.0
    for first, end in pairwise(edges):
        goal = float(target[first])
        way = decay(end - first + 1, rise_seconds if goal > last else fall_seconds)
        curve = goal + (last - goal) * way
        speed[first:end], last = curve[:-1], float(curve[-1])
    return speed


def drill(rng: Rng, samples: int) -> Rendering:
    """A motor's whine that spins up and down with the trigger; a hammer drill rattles on top of it."""
    kind = choose(rng, ("electric", "hammer"))
    bursts = choose(rng, ("short", "long"))
    low, high = (0.35, 0.6) if bursts == "short" else (1.6, 2.8)
    speed = _follow(_bursts(rng, samples, low, high, 0.5 if bursts == "short" else 0.8), 0.07, 0.16)
    base_hz = uniform(rng, 520, 800) if kind == "electric" else uniform(rng, 330, 430)
    hz = base_hz * (0.12 + 0.88 * speed) * drift(rng, samples, 5, 0.98, 1.02)
    whine = read(wavetable([1.0, 0.6, 0.15, 0.5, 0.1, 0.35, 0.08, 0.12]), hz) + 0.3 * sine(5.4 * hz)
    if kind == "electric":
        audio = (whine + 0.45 * band_noise(rng, samples, 900, 7000, -3)) * speed
    else:  # a cam throws the chuck forward some 20 to 30 times a second
        beat = (cycles(uniform(rng, 20, 28) * speed) % 1.0).astype(np.float32)
        blow = np.exp(-9 * beat)
        knock = band_noise(rng, samples, 120, 9000, -3)
        audio = (0.5 * whine + knock * (0.1 + 2.2 * blow)) * speed
    return Rendering(room(rng, as_audio(audio), uniform(rng, 0.2, 0.8), 0.1), {"kind": kind, "bursts": bursts})


def chainsaw(rng: Rng, samples: int) -> Rendering:
    """A harsh two-stroke: a stuttering idle, revs that howl up and sag, or a strained cut in chips and rasp."""
    action = choose(rng, ("idling", "revving", "revving", "cutting", "cutting"))
    size = choose(rng, ("small", "big"))
    idle_hz, full_hz = (46.0, 235.0) if size == "small" else (32.0, 165.0)
    if action == "idling":
        speed = np.zeros(samples, np.float32)
    elif action == "revving":
        speed = _follow(_bursts(rng, samples, 0.35, 0.9, 0.55), 0.1, 0.25)
    else:
        load = drift(rng, samples, 2.5, 0.62, 0.95)
        speed = as_audio(load * _follow(_bursts(rng, samples, 2.5, 4.5, 0.5), 0.08, 0.2))
    hz = (idle_hz + (full_hz - idle_hz) * speed) * uniform(rng, 0.93, 1.07) * drift(rng, samples, 12, 0.96, 1.04)
    table = wavetable((rng.uniform(0.5, 1.0, 60) / np.arange(1, 61) ** 0.25).tolist())
    # Every second firing is weaker, which puts a half order under the note.
    half = sine(0.5 * hz)
    motor = read(table, hz) * (1 + 0.35 * half)
    exhaust = equalise(as_audio(np.tanh(2.2 * motor)), 90, 6500, [(1100, 2, 1.5), (2700, 2, 1.5)])
    rasp = band_noise(rng, samples, 1200, 11_000, -1) * (0.5 + 0.5 * half)
    cut = {"idling": 0.05, "revving": 0.25, "cutting": 1.1}[action]
    audio = exhaust * (0.45 + 0.55 * speed) + 0.5 * cut * rasp * (0.15 + speed)
    return Rendering(as_audio(audio), {"action": action, "size": size})


def _stroke(rng: Rng, material: str, seconds: float, forward: bool) -> Audio:
    """One pull or push of the blade: teeth over the material, faster in the middle of the way than at its ends."""
    length = to_samples(seconds)
    way = np.linspace(0, 1, length, dtype=np.float32)
    swing = np.sin(3.14 * way)  # a hair short of pi: never below zero
    teeth_hz = uniform(rng, 60, 85) * (0.35 + 0.65 * swing) * (1.0 if forward else 0.8) * 0.3 / seconds
    bite = 0.35 + 0.65 * np.exp(-4 * (cycles(teeth_hz) % 1.0).astype(np.float32))
    if material == "wood":
        low_hz, high_hz, body = (500.0, 4500.0, 950.0) if forward else (350.0, 2600.0, 650.0)
    else:
        low_hz, high_hz, body = (2200.0, 13_000.0, 3900.0) if forward else (1800.0, 9000.0, 3100.0)
    rasp = equalise(as_audio(band_noise(rng, length, low_hz, high_hz) * bite), 100, 16_000, [(body, 5, 3.0)])
    return as_audio(rasp * swing**0.6 * (1.0 if forward else 0.45) * gate(length, 0.02, 0.02))


def saw(rng: Rng, samples: int) -> Rendering:
    """A hand saw: strong strokes forward and weak ones back, in an even swing."""
    material = choose(rng, ("wood", "wood", "metal"))
    pace = choose(rng, ("slow", "fast"))
    seconds = uniform(rng, 0.42, 0.58) if pace == "slow" else uniform(rng, 0.19, 0.26)
    pushes = [_stroke(rng, material, seconds * uniform(rng, 0.95, 1.05), True) for _ in range(3)]
    pulls = [_stroke(rng, material, seconds * uniform(rng, 0.95, 1.05), False) for _ in range(3)]
    audio = np.zeros(samples, np.float32)
    position, forward = uniform(rng, 0.0, 0.08), True
    while position < samples / SAMPLE_RATE_HZ:
        stroke = choose(rng, pushes if forward else pulls) * np.float32(uniform(rng, 0.8, 1.0))
        place(audio, stroke, position * SAMPLE_RATE_HZ)
        position, forward = position + seconds * 1.08, not forward
    return Rendering(room(rng, audio, uniform(rng, 0.2, 0.6), 0.06), {"material": material, "pace": pace})


def _nail_blow(rng: Rng, kind: str, depth: float) -> Audio:
    """A hammer's blow: on a nail that sounds higher the deeper it sits, on bare wood, or a sledge on stone."""
    length = to_samples(0.4)
    blow = np.zeros(length, np.float32)
    click = to_samples(0.02)
    if kind == "nail":
        base_hz = 2300 * (1 + 0.5 * depth)
        ring = [(base_hz * r, 0.05 / r**0.3, g) for r, g in ((1, 1.0), (1.63, 0.7), (2.4, 0.5), (3.3, 0.3))]
        wood = [(330.0, 0.03, 1.0), (610.0, 0.02, 0.7)]
        partials, edge = ring + wood, (1500.0, 14_000.0, 1.8)
    elif kind == "mallet":
        partials = [(190.0, 0.045, 1.6), (430.0, 0.03, 1.0), (890.0, 0.018, 0.5)]
        edge = (300.0, 2200.0, 1.0)
    else:
        partials = [(62.0, 0.09, 2.0), (118.0, 0.06, 1.2), (1450.0, 0.1, 0.35), (2140.0, 0.08, 0.25)]
        edge = (200.0, 9000.0, 2.4)
        crumble = 0.5 * band_noise(rng, length, 600, 6000) * decay(length, 0.09)
        blow += as_audio(crumble * np.abs(band_noise(rng, length, 20, 120)))
    partials = [(hz * uniform(rng, 0.99, 1.01), tau, gain) for hz, tau, gain in partials]
    blow += ringing(rng, partials, length) * gate(length, 0.0006, 0.05)
    place(blow, edge[2] * band_noise(rng, click, edge[0], edge[1]) * decay(click, 0.003), 0)
    return blow


def hammer(rng: Rng, samples: int) -> Rendering:
    kind = choose(rng, ("nail", "nail", "mallet", "sledge"))
    pace = choose(rng, ("slow", "fast"))
    gap_seconds = uniform(rng, 0.62, 0.85) if pace == "slow" else uniform(rng, 0.3, 0.4)
    count, starts = counted(rng, samples, gap_seconds, 0.25, 1.5, ("many", "many", "three"))
    blows_a_nail = 3 if count == "three" else int(rng.integers(5, 8))
    takes = [_nail_blow(rng, kind, index / blows_a_nail) for index in range(blows_a_nail)]
    tune = np.float32(uniform(rng, 0.85, 1.18))
    audio = np.zeros(samples, np.float32)
    for index, start in enumerate(starts):
        take = takes[index % blows_a_nail]
        where = np.arange(int(len(take) / tune) - 1, dtype=np.float32) * tune  # a smaller or larger hammer
        tuned = np.interp(where, np.arange(len(take)), take).astype(np.float32)
        place(audio, tuned * np.float32(uniform(rng, 0.8, 1.0)), start)
    return Rendering(room(rng, audio, uniform(rng, 0.3, 1.2), 0.1), {"kind": kind, "pace": pace, "count": count})


def vacuum(rng: Rng, samples: int) -> Rendering:
    """A fan's steady whine in a wide rush of air; moved to and fro, or switched on and off."""
    kind = choose(rng, ("household", "handheld"))
    action = choose(rng, ("steady", "moving", "switching"))
    speed = np.ones(samples, np.float32)
    if action == "switching":
        speed = _follow(_bursts(rng, samples, 1.8, 3.0, 1.1), 0.22, 0.5)
    fan_hz = uniform(rng, 210, 290) if kind == "household" else uniform(rng, 480, 620)
    hz = fan_hz * (0.1 + 0.9 * speed) * drift(rng, samples, 2, 0.995, 1.005)
    tones = read(wavetable([1.0, 0.5, 0.6, 0.25, 0.3, 0.1, 0.7, 0.1, 0.1, 0.3]), hz)
    air = band_noise(rng, samples, 250, 9000, -2.5)
    audio = tones + 1.2 * air
    if action == "moving":  # nozzle strokes over the carpet open and close the rush
        stroke = 0.5 - 0.5 * np.cos(2 * np.pi * time_axis(samples) * uniform(rng, 0.55, 0.9))
        audio = tones + 0.6 * air + 1.5 * stroke * band_noise(rng, samples, 1800, 9000)
    return Rendering(as_audio(audio * speed), {"kind": kind, "action": action})


RECIPES: Mapping[str, Recipe] = {
    "drill": drill,
    "chainsaw": chainsaw,
    "saw": saw,
    "hammer": hammer,
    "vacuum": vacuum,
}
BEDS: tuple[str, ...] = ("vacuum",)  # those of them that other sounds are laid over
FOREGROUNDS: tuple[str, ...] = ("saw", "hammer")  # those that are laid over a bed
