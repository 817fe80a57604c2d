"""Metal, springs, blades, blows and fireworks."""

from collections.abc import Mapping

import numpy as np

from soundctm_training.synth.notes import counted, gate, read, ringing, wavetable
from soundctm_training.synth.primitives import (
    Audio,
    Recipe,
    Rendering,
    Rng,
    as_audio,
    band_noise,
    choose,
    decay,
    equalise,
    log_uniform,
    onsets,
    place,
    room,
    scatter,
    sine,
    time_axis,
    to_samples,
    uniform,
)


def _clash(rng: Rng) -> Audio:
    """Two blades: a hard edge, high uneven partials, and a short scrape where they slide off."""
    length = to_samples(0.9)
    ratios = np.cumsum(rng.uniform(0.25, 0.7, 14)) + 0.5
    base_hz = log_uniform(rng, 1500, 2400)
    partials = [(base_hz * ratio, uniform(rng, 0.1, 0.3), uniform(rng, 0.3, 1.0)) for ratio in ratios.tolist()]
    clash = ringing(rng, partials, length) * gate(length, 0.0008, 0.05)
    edge = to_samples(0.03)
    place(clash, 3.5 * band_noise(rng, edge, 2500, 16_000) * decay(edge, 0.006), 0)
    if rng.random() < 0.5:
        scrape = to_samples(uniform(rng, 0.12, 0.25))
        place(clash, 0.8 * band_noise(rng, scrape, 4000, 12_000) * gate(scrape, 0.03, 0.08), to_samples(0.04))
    return clash


def _unsheathe(rng: Rng) -> Audio:
    """A blade drawn from its scabbard: a scrape that climbs and ends in a long high ring."""
    drawn, rung = to_samples(uniform(rng, 0.35, 0.6)), to_samples(1.2)
    climb = np.linspace(0, 1, drawn, dtype=np.float32)
    scrape = band_noise(rng, drawn, 3000, 14_000) * (0.3 + climb)
    for hz in (1800.0, 2900.0):  # the edge's pitch climbs as less and less of the blade is held
        scrape = scrape + 0.8 * sine(hz * (1 + 0.9 * climb) * (1 + 0.02 * band_noise(rng, drawn, 30, 400))) * climb
    audio = np.zeros(drawn + rung, np.float32)
    place(audio, as_audio(scrape * gate(drawn, 0.05, 0.02)), 0)
    partials = [(hz * uniform(rng, 0.95, 1.05), uniform(rng, 0.25, 0.5), 0.6) for hz in (3420, 4700, 5510, 7300, 9100)]
    place(audio, ringing(rng, partials, rung) * gate(rung, 0.004, 0.1), drawn - to_samples(0.02))
    return audio


def sword(rng: Rng, samples: int) -> Rendering:
    kind = choose(rng, ("clash", "clash", "unsheathe"))
    if kind == "clash":
        count, starts = counted(rng, samples, uniform(rng, 0.28, 0.5), 0.4, uniform(rng, 1.1, 1.7))
        takes = [_clash(rng) for _ in range(4)]
    else:
        count, starts = counted(rng, samples, 1.4, 0.8, 1.8, ("one", "two"))
        takes = [_unsheathe(rng)]
    audio = np.zeros(samples, np.float32)
    for start in starts:
        place(audio, choose(rng, takes) * np.float32(uniform(rng, 0.75, 1.0)), start)
    return Rendering(room(rng, audio, uniform(rng, 0.4, 1.2), 0.12), {"kind": kind, "count": count})


def _metal_blow(rng: Rng, kind: str) -> Audio:
    """A hammered body: a pipe's spread-out bending modes, an anvil's high pair, or a sheet's dense rattle."""
    length = to_samples(1.5)
    if kind == "pipe":
        base_hz = log_uniform(rng, 230, 520)
        partials = [(base_hz * r, 0.7 / r**0.4, 1 / r**0.5) for r in (1, 2.76, 5.4, 8.93, 13.34)]
    elif kind == "anvil":
        base_hz = log_uniform(rng, 1300, 2100)
        partials = [(base_hz * r, 0.6 / r**0.5, g) for r, g in ((1, 1.0), (1.48, 0.5), (2.31, 0.7), (3.6, 0.4))]
        partials.append((0.21 * base_hz, 0.04, 1.0))
    else:
        partials = [
            (float(hz), 0.45 * (300 / hz) ** 0.25, uniform(rng, 0.2, 0.6))
            for hz in np.exp(rng.uniform(np.log(110), np.log(5000), 60))
        ]
    blow = ringing(rng, partials, length) * gate(length, 0.0008, 0.1)
    hit = to_samples(0.03)
    place(blow, 1.2 * band_noise(rng, hit, 400, 9000) * decay(hit, 0.005), 0)
    return blow


def clang(rng: Rng, samples: int) -> Rendering:
    kind = choose(rng, ("pipe", "anvil", "sheet"))
    space = choose(rng, ("dry", "echoing"))
    count, starts = counted(rng, samples, uniform(rng, 0.4, 0.75), 0.4, uniform(rng, 1.4, 2.0))
    blow = _metal_blow(rng, kind)
    audio = np.zeros(samples, np.float32)
    for start in starts:
        place(audio, blow * np.float32(uniform(rng, 0.75, 1.0)), start)
    decay_seconds, mix = (0.3, 0.05) if space == "dry" else (2.8, 0.4)
    return Rendering(room(rng, audio, decay_seconds, mix), {"kind": kind, "space": space, "count": count})


def _burst(rng: Rng, crackling: bool) -> Audio:
    """A shell's bang, and the crackle of its stars."""
    burst = np.zeros(to_samples(2.2), np.float32)
    bang = to_samples(1.2)
    place(burst, 3.0 * band_noise(rng, bang, 35, 4000, -4) * decay(bang, 0.16), 0)
    if crackling:
        stars = np.zeros(to_samples(1.6), np.float32)
        grains = [band_noise(rng, 700, 1500, 14_000) * decay(700, 0.0025) for _ in range(8)]
        scatter(rng, stars, 70, grains, 0.3, 1.2)
        place(burst, stars * decay(len(stars), 0.7), to_samples(0.25))
    return burst


def _rocket(rng: Rng) -> Audio:
    """A whistling climb: a bright tone that first rises, then sinks a little, in a hiss."""
    length = to_samples(uniform(rng, 0.8, 1.2))
    climb = np.linspace(0, 1, length, dtype=np.float32)
    hz = uniform(rng, 1500, 2100) * 2 ** (0.9 * np.sin(1.9 * climb)) * (1 + 0.01 * np.sin(110 * climb))
    tone = sine(hz) + 0.3 * sine(2 * hz) + 0.35 * band_noise(rng, length, 2500, 12_000)
    return as_audio(0.8 * tone * gate(length, 0.08, 0.1) * (1.1 - 0.5 * climb))


def firework(rng: Rng, samples: int) -> Rendering:
    kind = choose(rng, ("whistling", "crackling", "finale"))
    distance = choose(rng, ("close", "distant"))
    audio = np.zeros(samples, np.float32)
    gap_seconds = 0.65 if kind == "finale" else 2.3
    bursts = [_burst(rng, kind != "whistling") for _ in range(3)]
    for start in onsets(rng, samples, 0.05, 0.8 * gap_seconds, gap_seconds):
        bang_at = start
        if kind != "finale" or rng.random() < 0.25:
            rocket = _rocket(rng)
            place(audio, rocket * np.float32(1.0 if kind == "whistling" else 0.5), start)
            bang_at += len(rocket)
        place(audio, choose(rng, bursts) * np.float32(uniform(rng, 0.6, 1.0)), bang_at)
    if distance == "distant":
        audio = equalise(audio, 40, 2800, order=1)
    mix, decay_seconds = (0.15, 1.5) if distance == "close" else (0.3, 2.0)
    return Rendering(room(rng, audio, decay_seconds, mix), {"kind": kind, "distance": distance})


def _spring(rng: Rng, kind: str) -> Audio:
    """One boing: a twanging tone whose pitch swings, faster or slower, while it dies."""
    seconds = {"cartoon": 0.9, "doorstop": 1.1, "jaw_harp": 0.8}[kind]
    length = to_samples(seconds)
    t = time_axis(length)
    if kind == "cartoon":  # one large leap up, then a wide slow wobble
        base_hz = uniform(rng, 150, 260)
        hz = base_hz * (1 + 1.4 * (t / seconds)) * (1 + 0.22 * np.exp(-t / 0.5) * np.sin(2 * np.pi * 9 * t))
        table = wavetable([1.0, 0.6, 0.5, 0.3, 0.2, 0.15])
        return as_audio(read(table, hz) * gate(length, 0.003, 0.2) * decay(length, 0.5))
    if kind == "doorstop":  # the coil slaps to and fro, ever more weakly
        base_hz = uniform(rng, 120, 190)
        swing = np.sin(2 * np.pi * (9 * t + 2.5 * t**2))
        tone = read(
            wavetable([0.7, 0.6, 0.9, 0.7, 1.0, 0.6, 0.8, 0.5, 0.5, 0.3, 0.2, 0.2]), base_hz * (1 + 0.3 * swing)
        )
        return as_audio(tone * (0.45 + 0.55 * swing) * gate(length, 0.002, 0.1) * decay(length, 0.3))
    base_hz = uniform(rng, 75, 115)  # a buzzing reed whose mouth resonance moves
    partials = np.arange(1, 33)
    mouth = [700.0, 1100.0, 1900.0, 1300.0, 800.0]
    shapes = [wavetable((1 / (1 + ((partials * base_hz - hz) / 180) ** 2) + 0.05).tolist()) for hz in mouth]
    place_in = t / seconds * (len(mouth) - 1)
    tone = np.zeros(length, np.float32)
    for index, shape in enumerate(shapes):
        tone += read(shape, np.full(length, base_hz)) * np.clip(1 - np.abs(place_in - index), 0, 1)
    return as_audio(tone * gate(length, 0.002, 0.1) * decay(length, 0.45))


def boing(rng: Rng, samples: int) -> Rendering:
    kind = choose(rng, ("cartoon", "cartoon", "doorstop", "jaw_harp"))
    count, starts = counted(rng, samples, uniform(rng, 0.75, 0.95), 0.6, uniform(rng, 1.5, 2.0))
    spring = _spring(rng, kind)
    audio = np.zeros(samples, np.float32)
    for start in starts:
        place(audio, spring * np.float32(uniform(rng, 0.8, 1.0)), start)
    return Rendering(room(rng, audio, 0.3, 0.06), {"kind": kind, "count": count})


def _blow(rng: Rng, weight: str) -> Audio:
    """A fist's landing: a falling thud, a slap of skin or cloth, and the swing just before it."""
    blow = np.zeros(to_samples(0.45), np.float32)
    swing, thud, slap = to_samples(0.11), to_samples(0.3), to_samples(0.12)
    rise = np.linspace(0, 1, swing, dtype=np.float32) ** 2
    place(blow, 0.12 * band_noise(rng, swing, 400, 2500) * rise, 0)
    depth_hz = uniform(rng, 48, 65) if weight == "heavy" else uniform(rng, 85, 120)
    fall = sine(depth_hz * (1 + 1.6 * np.exp(-time_axis(thud) / 0.02)))
    place(blow, (1.3 if weight == "heavy" else 0.7) * fall * decay(thud, 0.07), swing)
    crunch = band_noise(rng, slap, 250, 1800 if weight == "heavy" else 4200, -3)
    place(blow, (0.8 if weight == "heavy" else 1.0) * crunch * decay(slap, 0.022), swing)
    return blow


def punch(rng: Rng, samples: int) -> Rendering:
    weight = choose(rng, ("heavy", "light"))
    gap_seconds = uniform(rng, 0.32, 0.5) if weight == "heavy" else uniform(rng, 0.24, 0.34)
    count, starts = counted(rng, samples, gap_seconds, 0.4, uniform(rng, 1.0, 1.5))
    takes = [_blow(rng, weight) for _ in range(4)]
    audio = np.zeros(samples, np.float32)
    for start in starts:
        place(audio, choose(rng, takes) * np.float32(uniform(rng, 0.8, 1.0)), start)
    return Rendering(room(rng, audio, 0.25, 0.06), {"weight": weight, "count": count})


def whip(rng: Rng, samples: int) -> Rendering:
    """A swish that climbs, then a crack of a few milliseconds, and its echo where there are walls."""
    space = choose(rng, ("dry", "echoing"))
    swing = choose(rng, ("quick", "slow"))
    rise_seconds = uniform(rng, 0.14, 0.2) if swing == "quick" else uniform(rng, 0.35, 0.5)
    count, starts = counted(rng, samples, rise_seconds + 0.4, rise_seconds + 0.2, uniform(rng, 1.3, 1.8))
    length, snap = to_samples(rise_seconds), to_samples(0.12)
    climb = np.linspace(0, 1, length, dtype=np.float32)
    swish = 0.22 * sine(700 * 4**climb * (1 + 0.25 * band_noise(rng, length, 20, 500))) * climb**1.5
    crack = np.zeros(length + snap, np.float32)
    place(crack, as_audio(swish * gate(length, 0.03, 0.004)), 0)
    place(crack, 4.0 * band_noise(rng, snap, 1200, 16_000) * decay(snap, 0.009), length)
    place(crack, 0.8 * band_noise(rng, snap, 600, 6000) * decay(snap, 0.04), length)
    audio = np.zeros(samples, np.float32)
    for start in starts:
        place(audio, crack * np.float32(uniform(rng, 0.8, 1.0)), start)
    if space == "echoing":
        echo = equalise(audio, 300, 4000)
        for delay_seconds, gain in ((0.17, 0.35), (0.31, 0.22), (0.46, 0.12)):
            place(audio, np.float32(gain) * echo, to_samples(delay_seconds))
    mix = 0.05 if space == "dry" else 0.25
    attributes = {"space": space, "swing": swing, "count": count}
    return Rendering(room(rng, audio, 0.2 if space == "dry" else 1.6, mix), attributes)


RECIPES: Mapping[str, Recipe] = {
    "sword": sword,
    "clang": clang,
    "firework": firework,
    "boing": boing,
    "punch": punch,
    "whip": whip,
}
BEDS: tuple[str, ...] = ()  # those of them that other sounds are laid over
FOREGROUNDS: tuple[str, ...] = ("sword", "clang", "firework", "punch", "whip")  # those that are laid over a bed
