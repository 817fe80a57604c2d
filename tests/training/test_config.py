"""A configuration's mistakes are named, with the nearest right key."""

from __future__ import annotations

from pathlib import Path

import pytest

from soundctm.spec import Conditioning
from soundctm_training.config import ConfigError, need, read_config
from soundctm_training.runs import Clock

CONFIGS = Path(__file__).parents[2] / "training" / "configs"
STARTER = CONFIGS / "starter.toml"


def changed(tmp_path: Path, old: str, new: str) -> Path:
    text = STARTER.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "changed.toml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


def test_the_shipped_configuration_is_consistent() -> None:
    config = read_config(STARTER)
    assert config.network is not None and config.codec is not None and config.teacher is not None
    assert config.network.io_channels == config.codec.channels
    assert sum(config.teacher.lengths.shares) == pytest.approx(1)
    assert config.network.conditioning is Conditioning.ADAPTIVE_NORM


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("spread =", "sprad =", r"codec: unknown key 'sprad', did you mean 'spread'\?; allowed: channels"),
        ("[teacher]", "[techer]", r"unknown key 'techer', did you mean 'teacher'\?"),
        ("warmup_steps = 100", 'warmup_steps = "100"', r"teacher: warmup_steps is '100', a str; it must be a int"),
        ('"adaptive_norm"', '"adaptive"', r"conditioning is 'adaptive', did you mean 'adaptive_norm'\?; allowed: "),
        ("windows = [512, 2048]", "windows = 512", r"decoder: windows is 512; it is a list"),
        ("spread = 0.2\n", "", r"codec: spread missing"),
        ("pooled_text = true", "text_memory = 9", r"network.text_memory is 9; .* set text\.remembered"),
        ("[codec]", "codec = [", r"cannot be read as TOML"),
    ],
)
def test_mistakes_are_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(changed(tmp_path, old, new))


def test_changes_on_top_of_the_file() -> None:
    changes = ["teacher.learning_rate=2e-3", "budget.teacher.minutes=3", "budget.teacher.clock=cpu"]
    config = read_config(STARTER, changes)
    assert config.teacher is not None and config.teacher.learning_rate == 2e-3
    assert config.budget.teacher is not None and config.budget.teacher.clock is Clock.CPU
    with pytest.raises(ConfigError, match=r"unknown key 'learning_rat', did you mean 'learning_rate'\?"):
        read_config(STARTER, ["teacher.learning_rat=2e-3"])
    with pytest.raises(ConfigError, match=r"write it as table\.key=value"):
        read_config(STARTER, ["teacher"])


def test_a_missing_table_is_named() -> None:
    config = read_config(STARTER)
    with pytest.raises(ConfigError, match=r"'starter' has no \[teacher\], which this stage needs; it has name, "):
        need(None, "teacher", config)


def test_an_absent_file_is_an_error() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(CONFIGS / "absent.toml")
