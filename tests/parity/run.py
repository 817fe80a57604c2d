"""All checks of a folder, each on its own: one that cannot run is a problem and does not hide the others."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import torch

from parity import augment, draws, heun, networks, samplers, text, training, vae
from parity.golden import Golden, Outcome
from soundctm.errors import SoundCTMError

_WHOLE: dict[str, Callable[[Golden], None]] = {
    text.GROUP: text.check,
    vae.GROUP: vae.check,
    augment.GROUP: augment.check,
    draws.GROUP: draws.check,
}
_PER_VERSION: dict[str, Callable[[Golden, str], None]] = {
    "student": networks.check_student,
    "teacher": networks.check_teacher,
    "samplers": samplers.check_samplers,
    "heun": heun.check,
    "end_to_end": samplers.check_end_to_end,
    "training": training.check,
}
# how broken or absent data shows itself in the checks
_FAULTS = (SoundCTMError, KeyError, IndexError, ValueError, TypeError, OSError, RuntimeError)


def check_folder(folder: Path, only: Collection[str] | None = None) -> Outcome:
    """Never raises for what the folder holds: everything off is in the outcome.

    `only` names the groups to check (None: all of them); tensors that nobody used are then not looked for.
    """
    outcome = Outcome()
    try:
        golden = Golden(folder, outcome)
    except (OSError, ValueError) as error:
        outcome.problems.append(("config", f"{folder} is no golden folder: {error}"))
        return outcome
    checks = {group: partial(check, golden) for group, check in _WHOLE.items()}
    versions = golden.versions()
    if not versions:
        outcome.problems.append(("config", "the folder names no version and holds no student"))
    for version in versions:
        for name, check_version in _PER_VERSION.items():
            checks[f"{version}/{name}"] = partial(check_version, golden, version)
    for group, check in checks.items():
        if only is None or group in only:
            _run(outcome, group, check)
    if only is None:
        golden.close()
    return outcome


def _run(outcome: Outcome, group: str, check: Callable[[], None]) -> None:
    try:
        with torch.no_grad():  # training turns gradients on again
            check()
    except _FAULTS as error:
        outcome.problems.append((group, f"cannot be checked: {type(error).__name__}: {error}"))
