"""TANGO's mixing: levels, mixed waves and their captions."""

from __future__ import annotations

import random
import re

import torch

from parity.golden import Golden, Tolerance
from soundctm_training.data.mixing import mix_batch, mix_pair, peak_level_db

GROUP = "augment"
_SAMPLE_RATE_HZ = 44100


def check(golden: Golden) -> None:
    file = golden.file("augment/cases")
    meta = file.meta
    try:
        rate = int(golden.setting("sampling_rate", meta))
    except KeyError:
        rate = _SAMPLE_RATE_HZ
    waves, captions = file.read("waves"), list(meta["captions"])
    levels = torch.stack([peak_level_db(wave, rate) for wave in waves])
    file.compare(GROUP, "gain_db_max", levels.float(), Tolerance.RELATIVE)
    rng = random.Random(meta["python_random_seed"])
    mixed, joined = mix_batch(waves, captions, file.shape("mixed")[0], rng, rate)
    file.compare(GROUP, "mixed", mixed)
    if joined != meta["mixed_captions"]:
        raise ValueError(f"captions {joined}; the folder has {meta['mixed_captions']}")
    for name in file.names():
        pair = re.fullmatch(r"mix_(\d+)_(\d+)", name)
        if pair:
            file.compare(GROUP, name, mix_pair(waves[int(pair[1])], waves[int(pair[2])], rate))
