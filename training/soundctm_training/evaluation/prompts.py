"""The held-out prompts, and the guards that keep evaluation apart from training."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from soundctm.bundle import Bundle
from soundctm.errors import SoundCTMError
from soundctm.familiarity import read_familiar_table
from soundctm_training.synth.captions import class_wordings
from soundctm_training.tables import read_tables


class LeakError(SoundCTMError):
    """Something meant for judging was found in training."""


@cache
def held_out_prompts() -> Mapping[str, tuple[str, ...]]:
    """Prompts by class label, in wordings the caption table cannot produce."""
    return {
        label: tuple(prompts) for file in read_tables(__package__, "held_out") for label, prompts in file.items()
    }


class PromptError(SoundCTMError):
    """A class that is to be judged has no held-out prompts."""

    reason = "EVALUATION_PROMPTS"


def chosen_prompts(labels: Sequence[str], per_class: int) -> dict[str, tuple[str, ...]]:
    """The first `per_class` held-out prompts of every label, in order. Raises PromptError naming labels without any."""
    held_out = held_out_prompts()
    absent = [label for label in labels if not held_out.get(label)]
    if absent:
        raise PromptError(f"no held-out prompts for {', '.join(absent)}; write some in evaluation/held_out/")
    return {label: held_out[label][:per_class] for label in labels}


def known_labels(bundle: Bundle, labels: Sequence[str]) -> tuple[str, ...]:
    """Those of `labels` that a bundle says it makes; all of them where it does not say."""
    familiar = read_familiar_table(bundle)
    return tuple(label for label in labels if familiar is None or label in familiar.known)


def canonical(text: str) -> str:
    """What is left of a caption when casing, punctuation and spacing are taken away."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def training_captions(data_folder: Path) -> set[str]:
    """Every caption of the training pools in a folder, canonical."""
    return {
        canonical(json.loads(line)["caption"])
        for path in sorted(data_folder.glob("meta_*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    }


def remembered_wordings() -> set[str]:
    """Every other wording that `train remember` may have given a network, canonical."""
    return {canonical(wording) for wordings in class_wordings().values() for wording in wordings}


def require_never_trained_on(prompts: Iterable[str], captions: set[str]) -> None:
    """Raises LeakError where a prompt equals a training caption but for casing and punctuation."""
    leaked = [prompt for prompt in prompts if canonical(prompt) in captions]
    if leaked:
        raise LeakError(f"{len(leaked)} held-out prompts are training captions, such as {leaked[0]!r}; reword them")


def require_fresh_seed(seed: int, trained_seeds: Iterable[int]) -> None:
    """Raises LeakError where clips drawn from `seed` may have been trained on."""
    if seed in set(trained_seeds):
        raise LeakError(f"seed {seed} drew the training pools; evaluate with another one")
