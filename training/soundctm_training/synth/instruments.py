"""Single instruments played by themselves: keys, strings, pipes and tuned metal."""

from collections.abc import Mapping

import numpy as np

from soundctm_training.synth.notes import (
    MAJOR,
    MINOR,
    PENTATONIC,
    degree,
    gate,
    hertz,
    melody,
    read,
    ringing,
    wavetable,
)
from soundctm_training.synth.primitives import (
    SAMPLE_RATE_HZ,
    Audio,
    Recipe,
    Rendering,
    Rng,
    as_audio,
    band_noise,
    choose,
    decay,
    drift,
    equalise,
    log_uniform,
    onsets,
    place,
    room,
    time_axis,
    to_samples,
    uniform,
)

_TRIADS = ((0, 2, 4), (3, 5, 7), (4, 6, 8), (5, 7, 9))  # as steps of the scale


def _piano_note(rng: Rng, note: float, seconds: float) -> Audio:
    """Stiff strings: partials a little sharp of harmonic, a quick fall into a slow one, and the hammer's thud."""
    hz, samples = hertz(note), to_samples(seconds)
    stretch = 0.0004
    tau_seconds = 1.5 * (220 / hz) ** 0.5
    partials = []
    for number in range(1, 13):
        partial_hz = hz * number * np.sqrt(1 + stretch * number**2)
        gain = np.exp(-0.32 * (number - 1)) * uniform(rng, 0.7, 1.2)
        partials.append((partial_hz, tau_seconds / number**0.6, 0.5 * gain))
        partials.append((partial_hz, 0.18 * tau_seconds / number**0.5, 0.8 * gain))
    tone = ringing(rng, partials, samples) * gate(samples, 0.003, 0.06)
    thud = to_samples(0.05)
    place(tone, 0.9 * band_noise(rng, thud, 80, 2500) * decay(thud, 0.008), 0)
    return tone


def piano(rng: Rng, samples: int) -> Rendering:
    style = choose(rng, ("notes", "chords", "melody"))
    pace = choose(rng, ("slow", "fast"))
    register = choose(rng, ("low", "middle", "high"))
    tonic = {"low": 41, "middle": 55, "high": 72}[register] + int(rng.integers(6))
    scale = choose(rng, (MAJOR, MINOR))
    beat = {"notes": 1.1, "chords": 1.2, "melody": 0.42}[style] * (uniform(rng, 1.2, 1.6) if pace == "slow" else 0.65)
    ring_seconds = min(3.0, 3.0 * beat)
    audio = np.zeros(samples, np.float32)
    position, index = uniform(rng, 0, 0.1), 0
    tune = melody(rng, scale, 64)
    while position * SAMPLE_RATE_HZ < samples:
        pitches = [degree(scale, step) for step in choose(rng, _TRIADS)] if style == "chords" else [tune[index % 64]]
        for pitch in pitches:
            note = _piano_note(rng, tonic + pitch, ring_seconds)
            place(audio, note * np.float32(uniform(rng, 0.7, 1.0)), position * SAMPLE_RATE_HZ)
        position += beat * (choose(rng, (1.0, 1.0, 0.5, 2.0)) if style == "melody" else 1.0)
        index += 1
    attributes = {"style": style, "pace": pace, "register": register}
    return Rendering(room(rng, audio, uniform(rng, 0.5, 1.4), 0.12), attributes)


def _string(rng: Rng, hz: float, seconds: float, brightness: float) -> Audio:
    """A plucked string: its partials dip where the plectrum stands, and the high ones die fast."""
    samples, pluck = to_samples(seconds), uniform(rng, 0.12, 0.2)
    tau_seconds = 1.3 * (200 / hz) ** 0.4
    partials = [
        (hz * number, tau_seconds / (1 + 0.25 * number), abs(np.sin(np.pi * number * pluck)) / number**brightness)
        for number in range(1, 31)
    ]
    tone = ringing(rng, partials, samples) * gate(samples, 0.0015, 0.05)
    pick = to_samples(0.01)
    place(tone, 0.25 * band_noise(rng, pick, 1500, 7000) * decay(pick, 0.002), 0)
    return tone


def guitar(rng: Rng, samples: int) -> Rendering:
    kind = choose(rng, ("acoustic", "acoustic", "electric"))
    style = choose(rng, ("strummed", "picked"))
    root, minor = 40 + int(rng.integers(9)), rng.random() < 0.5
    shape = (0, 7, 12) if kind == "electric" else (0, 7, 12, 15 if minor else 16, 19, 24)
    beat = uniform(rng, 0.55, 1.1) if style == "strummed" else uniform(rng, 0.22, 0.42)
    audio = np.zeros(samples, np.float32)
    position, index = uniform(rng, 0, 0.08), 0
    shift, strings = 0, {}
    while position * SAMPLE_RATE_HZ < samples:
        if index % (2 if style == "strummed" else 6) == 0:
            shift = choose(rng, (0, 0, 3, 5, 7, -2))
            strings = {tone: _string(rng, hertz(root + shift + tone), 1.8, 0.75) for tone in shape}
        if style == "strummed":
            delay = 0.0
            for tone in shape if index % 2 == 0 else shape[::-1]:
                place(audio, strings[tone], (position + delay) * SAMPLE_RATE_HZ)
                delay += uniform(rng, 0.012, 0.028)
        else:
            place(audio, strings[shape[(0, 2, 3, 5, 4, 3)[index % 6] % len(shape)]], position * SAMPLE_RATE_HZ)
        position += beat
        index += 1
    if kind == "electric":  # an overdriven amplifier and its speaker
        audio = equalise(np.tanh(9 * audio / (np.abs(audio).max() + 1e-9)), 90, 4500, [(2200.0, 1.5, 1.5)], order=3)
    else:
        audio = equalise(audio, 70, 9000, [(105.0, 6.0, 1.5), (210.0, 6.0, 1.2)])
    return Rendering(room(rng, as_audio(audio), 0.5, 0.1), {"kind": kind, "style": style})


def flute(rng: Rng, samples: int) -> Rendering:
    style = choose(rng, ("long", "melody", "trill"))
    register = choose(rng, ("low", "high"))
    tonic = {"low": 64, "high": 76}[register] + int(rng.integers(7))
    scale = choose(rng, (MAJOR, PENTATONIC, MINOR))
    beat = {"long": uniform(rng, 1.5, 2.2), "melody": uniform(rng, 0.35, 0.6), "trill": uniform(rng, 1.2, 1.8)}[style]
    table = wavetable((1.0, 0.28, 0.1, 0.03))
    audio = np.zeros(samples, np.float32)
    position = uniform(rng, 0, 0.1)
    for pitch in melody(rng, scale, 64):
        if position * SAMPLE_RATE_HZ >= samples:
            break
        seconds = beat * choose(rng, (1.0, 1.0, 1.5))
        length = to_samples(seconds)
        t = time_axis(length)
        vibrato = 0.007 * np.sin(2 * np.pi * uniform(rng, 4.6, 5.4) * t) * np.minimum(1, t / 0.4)
        if style == "trill":
            vibrato = vibrato + np.where((t * 7.0) % 1 < 0.5, 0, 0.1225)  # to the whole tone above
        hz = hertz(tonic + pitch)
        tone = read(table, hz * (1 + vibrato)) * (1 + 6 * vibrato * (style != "trill"))
        breath = 0.06 * band_noise(rng, length, 0.8 * hz, 9000, -3)
        chiff = 0.25 * band_noise(rng, length, 1.5 * hz, 6 * hz) * decay(length, 0.025)
        place(audio, (tone + breath + chiff) * gate(length, 0.05, 0.07), position * SAMPLE_RATE_HZ)
        position += seconds
    return Rendering(room(rng, audio, uniform(rng, 0.8, 1.8), 0.22), {"style": style, "register": register})


def organ(rng: Rng, samples: int) -> Rendering:
    """Ranks of pipes on every key of held chords, all at full level until the keys are let go."""
    kind = choose(rng, ("church", "church", "electric"))
    style = choose(rng, ("chords", "bass", "melody"))
    tonic = {"chords": 50, "bass": 38, "melody": 62}[style] + int(rng.integers(8))
    ranks = {
        "church": ((0.5, 0.5), (1, 1.0), (2, 0.7), (3, 0.35), (4, 0.5), (6, 0.25), (8, 0.3), (12, 0.12), (16, 0.12)),
        "electric": ((0.5, 0.8), (1.5, 0.6), (1, 1.0), (2, 0.25)),
    }[kind]
    scale = choose(rng, (MAJOR, MINOR))
    beat = {"chords": uniform(rng, 1.2, 2.2), "bass": uniform(rng, 1.4, 2.4), "melody": uniform(rng, 0.5, 0.8)}[style]
    audio = np.zeros(samples, np.float32)
    position, tune = -uniform(rng, 0, 0.3), melody(rng, scale, 64, 5)
    for index in range(64):
        if position * SAMPLE_RATE_HZ >= samples:
            break
        pitches = [degree(scale, step) for step in choose(rng, _TRIADS)] if style == "chords" else [tune[index]]
        length = to_samples(beat * 0.97)
        partials = [(hertz(tonic + pitch) * rank, 1e6, gain) for pitch in pitches for rank, gain in ranks]
        place(audio, ringing(rng, partials, length) * gate(length, 0.02, 0.04), position * SAMPLE_RATE_HZ)
        position += beat
    if kind == "electric":  # the rotating speaker
        audio *= 1 + 0.35 * np.sin(2 * np.pi * uniform(rng, 5.8, 6.8) * time_axis(samples))
        return Rendering(room(rng, audio, 0.5, 0.1), {"kind": kind, "style": style})
    return Rendering(room(rng, audio, uniform(rng, 2.0, 3.0), 0.3), {"kind": kind, "style": style})


def strings(rng: Rng, samples: int) -> Rendering:
    """Bowed strings: slow attacks, vibrato, a rich harmonic spectrum; a section plays three parts."""
    kind = choose(rng, ("violin", "cello", "section"))
    style = choose(rng, ("sustained", "swelling", "short"))
    tonic = {"violin": 67, "cello": 40, "section": 52}[kind] + int(rng.integers(8))
    scale = choose(rng, (MINOR, MAJOR))
    beat = {"sustained": uniform(rng, 1.6, 2.4), "swelling": uniform(rng, 2.0, 2.4), "short": uniform(rng, 0.35, 0.5)}[
        style
    ]
    gains = [1 / n**0.9 for n in range(1, 25)]
    attack, release = {"sustained": (0.18, 0.2), "swelling": (0.9, 0.7), "short": (0.03, 0.12)}[style]
    audio = np.zeros(samples, np.float32)
    position, table = -0.5 * attack, wavetable(gains)
    for pitch in melody(rng, scale, 64, 5):
        if position * SAMPLE_RATE_HZ >= samples:
            break
        length = to_samples(beat * (1.08 if style != "short" else 0.8))
        t = time_axis(length)
        for interval in (0, 7, 12) if kind == "section" else (0,):
            swing = 0.006 * np.sin(2 * np.pi * (uniform(rng, 5.0, 6.0) * t + uniform(rng, 0, 1)))
            tone = read(table, hertz(tonic + pitch + interval + uniform(rng, -0.05, 0.05)) * (1 + swing))
            place(audio, tone * gate(length, attack, release), position * SAMPLE_RATE_HZ)
        position += beat
    body = [(300.0, 2.0, 1.0), (900.0, 2.0, 0.8), (2600.0, 1.5, 1.2)]
    audio = equalise(audio, {"violin": 180.0, "cello": 60.0, "section": 90.0}[kind], 7000, body)
    audio += 0.03 * band_noise(rng, samples, 1500, 7000) * np.abs(audio)
    return Rendering(room(rng, as_audio(audio), 1.6, 0.2), {"kind": kind, "style": style})


def gong(rng: Rng, samples: int) -> Rendering:
    """A broad disc: dense low partials at once, then a shimmer that blooms and dies slowly."""
    size = choose(rng, ("big", "small"))
    touch = choose(rng, ("soft", "hard"))
    base_hz = log_uniform(rng, 62, 105) if size == "big" else log_uniform(rng, 200, 330)
    tau_seconds = 1.7 if size == "big" else 0.8
    length = min(samples, to_samples(4.5 if size == "big" else 2.5))
    ratios = (1, 1.52, 1.97, 2.44, 2.9, 3.62, 4.2, 5.1, 6.3, 7.7)
    low = [(base_hz * r * uniform(rng, 0.98, 1.02), tau_seconds / r**0.35, 1 / r**0.5) for r in ratios]
    high = [
        (base_hz * r, tau_seconds / r**0.45, uniform(rng, 0.05, 0.2))
        for r in np.exp(rng.uniform(1.6, 4.1, 80)).tolist()
    ]
    bloom = 1 - np.exp(-time_axis(length) / {"soft": 0.35, "hard": 0.12}[touch])
    shimmer = ringing(rng, high, length) * bloom.astype(np.float32) * (0.6 if touch == "soft" else 1.3)
    hit = ringing(rng, low, length) * gate(length, 0.012, 0.2) + shimmer
    audio = np.zeros(samples, np.float32)
    gap = uniform(rng, 2.0, 2.6) if size == "big" else uniform(rng, 1.0, 1.8)
    for start in onsets(rng, samples, 0.1, gap, gap * 1.05):
        place(audio, hit * np.float32(uniform(rng, 0.85, 1.0)), start)
    return Rendering(room(rng, audio, 1.8, 0.15), {"size": size, "touch": touch})


def _tube(rng: Rng, material: str, hz: float) -> Audio:
    """One struck wind chime: a free bar of metal or glass, or a dull bamboo tube."""
    tau_seconds = {"metal": 1.4, "glass": 0.22, "bamboo": 0.05}[material]
    length = to_samples(min(2.5, 5 * tau_seconds + 0.05))
    partials = [(hz, tau_seconds, 1.0), (2.76 * hz, 0.5 * tau_seconds, 0.5), (5.4 * hz, 0.2 * tau_seconds, 0.2)]
    tone = ringing(rng, partials, length) * gate(length, 0.001, 0.02)
    if material == "bamboo":
        place(tone, 0.5 * band_noise(rng, 1200, hz, 4 * hz) * decay(1200, 0.006), 0)
    return tone


def chimes(rng: Rng, samples: int) -> Rendering:
    """Wind chimes: a few fixed tubes struck at random, in gusts."""
    material = choose(rng, ("metal", "metal", "glass", "bamboo"))
    density = choose(rng, ("sparse", "busy"))
    low_hz = {"metal": 900.0, "glass": 2600.0, "bamboo": 420.0}[material] * uniform(rng, 0.8, 1.3)
    tubes = [_tube(rng, material, low_hz * 2 ** (degree(PENTATONIC, step) / 12)) for step in range(7)]
    gap = (0.3, 0.9) if density == "sparse" else (0.05, 0.25)
    gusts = drift(rng, samples, 0.5, 0.6, 1.0)
    audio = np.zeros(samples, np.float32)
    for start in onsets(rng, samples, 0.1, *gap):
        place(audio, choose(rng, tubes) * np.float32(uniform(rng, 0.4, 1.0) * gusts[start]), start)
    return Rendering(room(rng, audio, 0.8, 0.1), {"material": material, "density": density})


def music_box(rng: Rng, samples: int) -> Rendering:
    """Plucked steel tines playing a waltz, high over a quiet ticking mechanism."""
    pace = choose(rng, ("slow", "lively"))
    mood = choose(rng, ("happy", "sad"))
    scale = MAJOR if mood == "happy" else MINOR
    tonic, beat = 84 + int(rng.integers(7)), uniform(rng, 0.42, 0.6) if pace == "slow" else uniform(rng, 0.2, 0.28)
    tines: dict[int, Audio] = {}
    audio = np.zeros(samples, np.float32)
    tune = melody(rng, scale, 64, 8)
    for index in range(int(samples / SAMPLE_RATE_HZ / beat) + 1):
        waltz = degree(scale, (0, 2, 4)[index % 3]) - 12
        for pitch, gain in ((tune[index % 64], 1.0), (waltz, 0.55)):
            if pitch not in tines:
                hz, length = hertz(tonic + pitch), to_samples(1.6)
                partials = [(hz, 0.7, 1.0), (2 * hz, 0.3, 0.18), (6.27 * hz, 0.035, 0.35), (3 * hz, 0.1, 0.1)]
                tines[pitch] = ringing(rng, partials, length) * gate(length, 0.001, 0.05)
            place(audio, tines[pitch] * np.float32(gain), (index * beat + 0.02) * SAMPLE_RATE_HZ)
    tick = 0.05 * band_noise(rng, 900, 2500, 9000) * decay(900, 0.003)
    for start in onsets(rng, samples, 0.05, 0.5 * beat, 0.5 * beat):
        place(audio, tick, start)
    return Rendering(room(rng, audio, 0.5, 0.1), {"pace": pace, "mood": mood})


RECIPES: Mapping[str, Recipe] = {
    "piano": piano,
    "guitar": guitar,
    "flute": flute,
    "organ": organ,
    "strings": strings,
    "gong": gong,
    "chimes": chimes,
    "music_box": music_box,
}
BEDS: tuple[str, ...] = ("organ", "strings")  # those of them that other sounds are laid over
FOREGROUNDS: tuple[str, ...] = ("piano", "guitar", "flute", "gong", "chimes")  # those that are laid over a bed
