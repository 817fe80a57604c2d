"""Small things in the hand: keys and coins."""

from collections.abc import Mapping

import numpy as np

from soundctm_training.synth.household import lay_out
from soundctm_training.synth.notes import gate, ringing
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
    log_uniform,
    onsets,
    place,
    room,
    to_samples,
    uniform,
)


def _clink(rng: Rng, base_hz: float, tau_seconds: float) -> Audio:
    """Two keys that touch: a few high uneven partials, soon gone."""
    length = to_samples(0.16)
    ratios = (1.0, uniform(rng, 1.3, 1.5), uniform(rng, 1.9, 2.3), uniform(rng, 2.6, 3.1))
    clink = ringing(rng, [(base_hz * r, tau_seconds / r**0.5, uniform(rng, 0.4, 1.0)) for r in ratios], length)
    place(clink, 0.4 * band_noise(rng, 400, 3000, 15_000) * decay(400, 0.001), 0)
    return clink * gate(length, 0.0004, 0.03)


def _shake(rng: Rng, clinks: list[Audio], seconds: float, count: int) -> Audio:
    """One movement of the bunch: clinks that crowd at its start and thin out."""
    shake = np.zeros(to_samples(seconds + 0.16), np.float32)
    for moment in (rng.random(count) ** 1.6 * seconds).tolist():
        loudness = log_uniform(rng, 0.25, 1.0) * (1 - 0.6 * moment / seconds)
        place(shake, choose(rng, clinks) * np.float32(loudness), moment * SAMPLE_RATE_HZ)
    return shake


def keys(rng: Rng, samples: int) -> Rendering:
    """A bunch jingled to and fro, or thrown down: a knock and a crowd of clinks, then rest."""
    kind = choose(rng, ("jingled", "jingled", "dropped"))
    size = choose(rng, ("few", "bunch"))
    low_hz, high_hz = (3800.0, 6500.0) if size == "few" else (2300.0, 5500.0)
    clinks = [_clink(rng, log_uniform(rng, low_hz, high_hz), uniform(rng, 0.015, 0.04)) for _ in range(10)]
    number = 5 if size == "few" else 14
    if kind == "jingled":
        period_seconds = uniform(rng, 0.26, 0.42)
        takes = [_shake(rng, clinks, 0.75 * period_seconds, number) for _ in range(5)]
        starts = onsets(rng, samples, 0.08, 0.9 * period_seconds, 1.1 * period_seconds)
    else:
        takes = []
        for _ in range(3):
            fall = _shake(rng, clinks, uniform(rng, 0.2, 0.3), 2 * number)
            knock = to_samples(0.1)
            table = ringing(
                rng, [(log_uniform(rng, 150, 320), 0.02, 3.0), (log_uniform(rng, 400, 800), 0.012, 2.0)], knock
            )
            place(fall, table, 0)
            takes.append(fall)
        starts = onsets(rng, samples, 0.1, 1.0, 1.6)
    audio = lay_out(rng, samples, starts, takes)
    return Rendering(room(rng, audio, 0.35, 0.08), {"kind": kind, "size": size})


def _coin(rng: Rng, base_hz: float, surface: str) -> Audio:
    """A disc's first modes, ringing on over a knock of what it falls on."""
    length = to_samples(0.7)
    tau_seconds = 0.16 if surface == "stone" else 0.09
    partials = [(base_hz * r, tau_seconds / r**0.7, g) for r, g in ((1.0, 1.0), (1.73, 0.7), (2.33, 0.5), (3.0, 0.25))]
    coin = ringing(rng, partials, length) * gate(length, 0.0004, 0.05)
    knock = to_samples(0.05)
    if surface == "wood":
        place(coin, ringing(rng, [(260.0, 0.015, 1.6), (610.0, 0.012, 1.2), (1050.0, 0.008, 0.8)], knock), 0)
    place(coin, 0.7 * band_noise(rng, knock, 2500, 14_000) * decay(knock, 0.0015), 0)
    return coin


def _bounces(rng: Rng, coin: Audio) -> Audio:
    """A dropped coin: bounces that come ever sooner and softer, then its rim rattles to rest."""
    fall = np.zeros(to_samples(2.2), np.float32)
    gap_seconds, loudness, moment = uniform(rng, 0.26, 0.36), 1.0, 0.0
    while gap_seconds > 0.022 and moment < 1.7:
        place(fall, coin * np.float32(loudness), moment * SAMPLE_RATE_HZ)
        moment += gap_seconds
        gap_seconds *= 0.72
        loudness *= 0.84
    return fall


def _spin(rng: Rng, coin: Audio) -> Audio:
    """A coin spun on its rim: it wobbles ever faster and ends at once."""
    spin = np.zeros(to_samples(2.2), np.float32)
    seconds = uniform(rng, 1.3, 1.8)
    moment, short = 0.0, as_audio(coin * decay(len(coin), 0.03))
    while moment < seconds:
        left = 1 - moment / seconds
        place(spin, short * np.float32(uniform(rng, 0.5, 0.7) * (0.5 + 0.5 * left)), moment * SAMPLE_RATE_HZ)
        moment += 0.04 + 0.12 * left**1.5
    return spin


def coins(rng: Rng, samples: int) -> Rendering:
    """A coin dropped, a coin spun, or a handful poured out one on another."""
    kind = choose(rng, ("dropped", "dropped", "spun", "poured"))
    surface = choose(rng, ("wood", "stone"))
    if kind == "poured":
        takes = [_coin(rng, log_uniform(rng, 3200, 6500), surface) for _ in range(8)]
        starts = onsets(rng, samples, 0.03, 0.05, 0.19)
    else:
        coin = _coin(rng, log_uniform(rng, 3000, 5200), surface)
        takes = [(_bounces if kind == "dropped" else _spin)(rng, coin)]
        starts = onsets(rng, samples, 0.1, 1.9, 2.2)
    audio = lay_out(rng, samples, starts, takes)
    return Rendering(room(rng, audio, 0.4, 0.08), {"kind": kind, "surface": surface})


RECIPES: Mapping[str, Recipe] = {
    "keys": keys,
    "coins": coins,
}
BEDS: tuple[str, ...] = ()  # those of them that other sounds are laid over
FOREGROUNDS: tuple[str, ...] = ("keys", "coins")  # those that are laid over a bed
