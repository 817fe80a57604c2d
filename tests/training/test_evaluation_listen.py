"""The listening sheet: every clip is on the disk, on the page and on the contact sheet."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import soundfile

from soundctm_training.evaluation.classifier import SoundClassifier, save_classifier
from soundctm_training.evaluation.listen import ListenOptions, chosen_lines, write_listening_sheet
from soundctm_training.evaluation.prompts import held_out_prompts


def test_every_clip_is_written_and_named_on_the_page(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    save_classifier(SoundClassifier(("rain", "bell", "gun")), tmp_path / "classifier.safetensors")
    page = write_listening_sheet(
        ListenOptions(str(tiny_bundle_dir), tmp_path / "sheet", prompts=4, jumps=(1, 2), seconds=0.5,
                      classifier=tmp_path / "classifier.safetensors")
    )
    text = page.read_text(encoding="utf-8")
    files = re.findall(r'src="([^"]+)"', text)
    assert len(files) == len(set(files)) == 4 * 3 * 2
    assert all((page.parent / name).stat().st_size > 0 for name in files)
    audio, rate_hz = soundfile.read(page.parent / next(name for name in files if name.endswith("_2_jumps.wav")))
    assert rate_hz == 44_100 and audio.shape == (22_050,)
    assert text.count("heard as ") == 12 and text.count("synthesised; heard") == 4
    assert (page.parent / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_prompts_go_round_the_classes_and_few_are_spread_over_them() -> None:
    lines = chosen_lines(("rain", "bell", "gun"), 4, 10)
    assert [line.label for line in lines] == ["rain", "bell", "gun", "rain"]
    assert [line.seed for line in lines] == [10, 11, 12, 13]
    assert lines[0].prompt == held_out_prompts()["rain"][0] and lines[3].prompt == held_out_prompts()["rain"][1]
    labels = tuple(held_out_prompts())
    few = [line.label for line in chosen_lines(labels, 10, 0)]
    assert len(set(few)) == 10 and labels.index(few[-1]) > len(labels) * 0.8


def test_files_are_named_by_words_alone() -> None:
    line = chosen_lines(("rain",), 1, 0)[0]
    assert re.fullmatch(r"rain(_[a-z0-9]+)+", line.stem)


def test_a_missing_bundle_is_an_error(tmp_path: Path) -> None:
    from soundctm.errors import BundleNotFoundError

    with pytest.raises(BundleNotFoundError):
        write_listening_sheet(ListenOptions(str(tmp_path / "none"), tmp_path / "sheet"))
