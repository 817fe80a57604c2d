"""Small things in the hand: keys, coins, paper, zippers, scissors."""

from collections.abc import Mapping

import numpy as np

from soundctm_training.synth.household import lay_out
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
    decay,
    equalise,
    log_uniform,
    onsets,
    place,
    room,
    sine,
    to_samples,
    uniform,
)

_TEETH = wavetable([1 / n**0.3 for n in range(1, 40)])


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


def _crumple(rng: Rng, seconds: float) -> Audio:
    """A sheet crushed: cracks of all sizes, dense where the hand closes, over a soft rustle."""
    length = to_samples(seconds)
    swell = gate(length, 0.35 * seconds, 0.5 * seconds)
    crumple = 0.06 * band_noise(rng, length, 1500, 9000) * swell
    cracks = []
    for _ in range(8):
        crack = to_samples(log_uniform(rng, 0.004, 0.016))
        centre_hz = log_uniform(rng, 1200, 5000)
        cracks.append(
            band_noise(rng, crack, 0.7 * centre_hz, 2.2 * centre_hz) * decay(crack, 0.3 * crack / SAMPLE_RATE_HZ)
        )
    for moment in (rng.beta(2.0, 2.6, int(90 * seconds)) * length).tolist():
        place(crumple, choose(rng, cracks) * np.float32(log_uniform(rng, 0.08, 1.3)), moment)
    return as_audio(crumple * gate(length, 0.01, 0.05))


def _page(rng: Rng, seconds: float) -> Audio:
    """A page turned: a swish that brightens as the sheet bends over, and the flap where it lands."""
    length, flap = to_samples(seconds), to_samples(0.12)
    sweep = np.linspace(0, 1, length, dtype=np.float32)
    dull, bright = band_noise(rng, length, 700, 2200), band_noise(rng, length, 2500, 9000)
    swish = (dull * (1 - sweep) + bright * sweep) * np.sin(np.pi * sweep**1.5) ** 2
    page = np.zeros(length + flap, np.float32)
    place(page, as_audio(0.7 * swish), 0)
    landing = band_noise(rng, flap, 250, 4500, -3) * decay(flap, 0.015)
    place(page, 1.5 * landing, 0.93 * length)
    return page


def _tear(rng: Rng, seconds: float) -> Audio:
    """A sheet torn: fibres that give way in a rough, ever brighter rasp, and a last jerk."""
    length = to_samples(seconds)
    sweep = np.linspace(0, 1, length, dtype=np.float32)
    rasp = np.abs(band_noise(rng, length, 20, 90)) ** 1.5
    fibres = band_noise(rng, length, 900, 5000) * (1 - sweep) + 1.2 * band_noise(rng, length, 2500, 13_000) * sweep
    return as_audio(fibres * (0.15 + 0.5 * rasp) * (0.35 + 0.65 * sweep**2) * gate(length, 0.04, 0.012))


def paper(rng: Rng, samples: int) -> Rendering:
    """Sheets crumpled, pages turned, or sheets torn, one after another."""
    kind = choose(rng, ("crumpled", "turned", "torn"))
    pace = choose(rng, ("slow", "quick"))
    low, high = {"crumpled": (0.45, 1.3), "turned": (0.22, 0.5), "torn": (0.3, 0.95)}[kind]
    seconds = low * uniform(rng, 1.0, 1.3) if pace == "quick" else high * uniform(rng, 0.9, 1.1)
    make = {"crumpled": _crumple, "turned": _page, "torn": _tear}[kind]
    takes = [make(rng, seconds * uniform(rng, 0.9, 1.1)) for _ in range(4)]
    rest_seconds = 0.1 if kind == "crumpled" else 0.25 if pace == "quick" else 0.6
    starts = onsets(rng, samples, 0.05, seconds + rest_seconds, seconds + 2 * rest_seconds)
    audio = lay_out(rng, samples, starts, takes)
    return Rendering(room(rng, audio, 0.3, 0.05), {"kind": kind, "pace": pace})


def _zip(rng: Rng, direction: str, seconds: float) -> Audio:
    """A slider over the teeth: a buzz whose rate and brightness climb, or fall, and the stop at the end."""
    length, stop = to_samples(seconds), to_samples(0.05)
    climb = np.linspace(0, 1, length, dtype=np.float32)
    if direction == "down":
        climb = climb[::-1]
    teeth_hz = uniform(rng, 85, 115) * 2 ** (1.9 * climb)
    buzz = read(_TEETH, teeth_hz * (1 + 0.005 * band_noise(rng, length, 20, 200)))
    buzz = as_audio(buzz + 0.15 * band_noise(rng, length, 1500, 12_000) * (0.3 + np.maximum(0, buzz)))
    scraped = np.zeros(length, np.float32)
    for index, centre_hz in enumerate((1300.0, 2300.0, 4000.0, 6500.0)):  # the free band of teeth grows shorter
        weight = np.clip(1 - np.abs(3 * climb - index), 0, 1)
        scraped += equalise(buzz, 0.75 * centre_hz, 1.5 * centre_hz) * weight * np.float32(1 + 0.5 * index)
    done = np.zeros(length + stop, np.float32)
    place(done, as_audio(scraped * gate(length, 0.03, 0.01)), 0)
    place(done, 0.4 * band_noise(rng, stop, 1500, 9000) * decay(stop, 0.004), length)
    return done


def zipper(rng: Rng, samples: int) -> Rendering:
    direction = choose(rng, ("up", "down"))
    pace = choose(rng, ("quick", "slow"))
    seconds = uniform(rng, 0.28, 0.42) if pace == "quick" else uniform(rng, 0.8, 1.2)
    takes = [_zip(rng, direction, seconds * uniform(rng, 0.9, 1.1)) for _ in range(3)]
    starts = onsets(rng, samples, 0.08, 1.25 * seconds + 0.35, 1.25 * seconds + 0.7)
    audio = lay_out(rng, samples, starts, takes)
    return Rendering(room(rng, audio, 0.25, 0.05), {"direction": direction, "pace": pace})


def _snip(rng: Rng, kind: str, seconds: float) -> Audio:
    """Blades that part softly, then slide shut: a bright rising scrape, cut through paper or not, and a clack."""
    parted, shut, clack = to_samples(0.35 * seconds), to_samples(0.4 * seconds), to_samples(0.12)
    snip = np.zeros(parted + shut + clack, np.float32)
    place(snip, 0.22 * band_noise(rng, parted, 4000, 9000) * gate(parted, 0.03, 0.03), 0)
    climb = np.linspace(0, 1, shut, dtype=np.float32)
    scrape = 0.7 * band_noise(rng, shut, 5500, 15_000) * climb
    edge_hz = uniform(rng, 3000, 3800) * (1 + 0.7 * climb)
    scrape = scrape + 0.5 * sine(edge_hz * (1 + 0.02 * band_noise(rng, shut, 30, 400))) * climb
    if kind == "paper":
        crunch = np.abs(band_noise(rng, shut, 30, 160))
        scrape = scrape + 0.9 * band_noise(rng, shut, 900, 4500) * crunch
    place(snip, as_audio(scrape * gate(shut, 0.01, 0.004)), parted)
    base_hz = uniform(rng, 2600, 3600)
    ring = ringing(rng, [(base_hz * r, 0.018 / r**0.5, g) for r, g in ((1.0, 0.9), (1.57, 0.8), (2.4, 0.6))], clack)
    place(ring, 1.6 * band_noise(rng, 900, 2000, 12_000) * decay(900, 0.003), 0)
    place(snip, ring * gate(clack, 0.0004, 0.02), parted + shut)
    return snip


def scissors(rng: Rng, samples: int) -> Rendering:
    kind = choose(rng, ("empty", "paper"))
    pace = choose(rng, ("quick", "slow"))
    seconds = uniform(rng, 0.22, 0.3) if pace == "quick" else uniform(rng, 0.5, 0.65)
    count, starts = counted(rng, samples, seconds, seconds, uniform(rng, 1.2, 1.6))
    takes = [_snip(rng, kind, seconds) for _ in range(3)]
    audio = lay_out(rng, samples, starts, takes)
    return Rendering(room(rng, audio, 0.25, 0.05), {"kind": kind, "pace": pace, "count": count})


RECIPES: Mapping[str, Recipe] = {
    "keys": keys,
    "coins": coins,
    "paper": paper,
    "zipper": zipper,
    "scissors": scissors,
}
BEDS: tuple[str, ...] = ()  # those of them that other sounds are laid over
FOREGROUNDS: tuple[str, ...] = ("keys", "coins", "paper", "zipper", "scissors")  # those that are laid over a bed
