"""Which classes a bundle says it knows."""

from __future__ import annotations

import pytest

from soundctm_training.config import ConfigError
from soundctm_training.judging_cli import some_of

LABELS = ("rain", "dog", "siren")


def test_dropped_classes_are_not_known() -> None:
    assert some_of(LABELS, ()) == ()
    assert some_of(LABELS, ("dog",)) == ("dog",)


@pytest.mark.parametrize("dropped", [("cat",), ("dog", "cat"), LABELS])
def test_what_cannot_be_dropped_is_told(dropped: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"--without .* give some, not all, of rain, dog, siren"):
        some_of(LABELS, dropped)
