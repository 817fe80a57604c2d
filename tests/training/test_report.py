"""The report says what the run folders say: means over seeds, paired differences, verdicts by the stated rule."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from soundctm_training.evaluation.findings import Difference, Expected, Verdict, compare, difference, verdict
from soundctm_training.evaluation.groups import at, cell, group
from soundctm_training.evaluation.report import HTML_FILE, MARKDOWN_FILE, write_report
from soundctm_training.evaluation.results import FRECHET, TOP1, ReportError, read_results
from soundctm_training.evaluation.variants import Variant, variants_of

BENCH = {"clips": 8, "seconds": 2.5, "distinct_prompts": 4, "labels": 2, "digest": "abc"}
JUMPS = (1, 2, 4, 8, 16)


def mean(value: float) -> dict[str, float]:
    return {"mean": value, "se": 0.1, "n": 8}


def distances(value: float) -> dict[str, Any]:
    return {name: mean(value) for name in ("embedding", "course", "lsd_db")}


def row(
    steps: int, frechet: float, top1: float = 0.5, *, gamma: float = 0.0, nu: float = 1.0, kept: float = 0.2
) -> dict[str, Any]:
    return {
        "steps": steps, "omega": 3.0, "nu": nu, "gamma": gamma, "frechet": frechet,
        "top1": {"rate": top1, "se": 0.05, "n": 8}, "top5": {"rate": 0.9, "se": 0.02, "n": 8},
        "kl": mean(1.0),
        "preservation": None if steps == 1 and nu == 1.0 else distances(kept),
    }


def student(folder: Path, rows: Sequence[Any], seed: int = 0, gamma: float = 0.0, **distillation: Any) -> Path:
    """A judged run folder."""
    folder.mkdir()
    table = {"kind": "student", "bench": BENCH, "cpu_seconds": 3.0, "omega": 3.0, "gamma": gamma, "rows": rows,
             "unrelated": distances(0.7)}
    (folder / "evaluation.json").write_text(json.dumps(table))
    config = {"name": "x", "distillation": {"target_ema": 0.9, **distillation, "seed": seed}}
    (folder / "config.json").write_text(json.dumps(config))
    metrics = [{"step": step, "seconds": step, "cpu_seconds": 1.2 * step, "loss": 1 / step} for step in (50, 100)]
    (folder / "metrics.jsonl").write_text("\n".join(json.dumps(line) for line in metrics) + "\n")
    return folder


def falling(shift: float) -> list[Any]:
    """Fréchet distances that fall by 2 with every doubling of the jumps."""
    return [row(count, 30 - 2 * index + shift, 0.5 + 0.05 * index) for index, count in enumerate(JUMPS)]


def test_two_runs_give_their_means_budgets_and_orderings(tmp_path: Path) -> None:
    folders = [student(tmp_path / f"run{seed}", falling(shift), seed) for seed, shift in ((0, 0.0), (1, 1.0))]
    page = write_report(folders, tmp_path / "out").read_text(encoding="utf-8")
    text = (tmp_path / "out" / MARKDOWN_FILE).read_text(encoding="utf-8")
    assert "| 1 | 30.5 ± 0.5 | 1 ± 0 | 0.5 ± 0 | 0.9 ± 0 |" in text  # mean of 30 and 31; std 0.71 over sqrt(2)
    assert "| 16 | 22.5 ± 0.5 |" in text
    assert "| run1 | ctm, teacher at s | 1 | 100 | 2.0 | 3 |" in text  # 120 CPU-seconds
    assert "| 16 jumps better than 1 | Fréchet ↓ | 84.1 → 72.2 (FD openl3) | -8 ± 0 (2 pairs) | reproduced |" in text
    assert "| 4 jumps worse than 2 | Fréchet ↓ | 83.1 > 80.0 | -2 ± 0 (2 pairs) | not reproduced |" in text
    assert "30.5 ± 0.5" in page and page.count("data:image/png;base64,") == 2
    for name in ("jumps.png", "curves.png"):
        assert f"]({name})" in text and (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")
    assert "http" not in page  # nothing is fetched from elsewhere


def test_every_table_is_filled_from_students_of_every_kind(tmp_path: Path) -> None:
    sweep = [row(count, 20.0, 0.6, nu=2.0) for count in (1, 16)]
    gammas = [row(16, 25.0, gamma=gamma, kept=0.2 + gamma) for gamma in (0.2, 0.5, 1.0)]
    lcd = [row(count, 29.0, gamma=1.0, kept=0.6) for count in JUMPS]
    folders = []
    for seed in (0, 1):
        folders += [
            student(tmp_path / f"ours{seed}", [*falling(seed), *sweep, *gammas], seed),
            student(tmp_path / f"l2{seed}", falling(seed + 5), seed, distance="l2"),
            student(tmp_path / f"bare{seed}", [row(count, 30 + count) for count in JUMPS], seed, denoising_weight=0.0),
            student(tmp_path / f"lcd{seed}", lcd, seed, gamma=1.0, method="lcd"),
            student(tmp_path / f"slow{seed}", falling(seed), seed, target_ema=0.5),
        ]
    write_report(folders, tmp_path / "out")
    text = (tmp_path / "out" / MARKDOWN_FILE).read_text(encoding="utf-8")
    for line in (
        "| ctm, teacher at s better than ctm, l2 at s at 16 | Fréchet ↓ | 1.37 < 1.62 (UNet); 65.6 < 69.2 (DiT) "
        "| -5 ± 0 (2 pairs) | reproduced |",
        "| with DSM better at 16: ctm, teacher at s | Fréchet ↓ | 65.6 < 108.7 | -23.5 ± 0.5 (2 pairs) | reproduced |",
        "| without DSM 16 jumps worse than 1: ctm, teacher at s, no DSM | Fréchet ↓ | 108.7 > 77.9 | +15 ± 0 (2 pairs) "
        "| reproduced |",
        "| gamma 0 keeps more than gamma 0.5 | embedding ↓ | 3.34 < 5.21 | -0.5 ± 0 (2 pairs) | reproduced |",
        "| 16 jumps, omega 3: nu 2 better than 1 | Fréchet ↓ | better for every omega (Fig. 12) | -2.5 ± 0.5 (2 pairs) "
        "| reproduced |",
        "| ctm keeps more of its 1-jump take than lcd at 16 | embedding ↓ | Figures 3 and 6 | -0.4 ± 0 (2 pairs) "
        "| reproduced |",
    ):
        assert line in text
    assert "ctm, teacher at s, target_ema=0.5" in text
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {
        "jumps.png", "guidance.png", "gamma.png", "curves.png"}


def test_a_folder_that_was_not_judged_is_named(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    with pytest.raises(ReportError, match=r"bare holds no evaluation\.json; judge it first"):
        write_report([tmp_path / "bare"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ReportError, match="no run folders"):
        write_report([], tmp_path / "out")


def test_folders_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    first, twin = (student(tmp_path / name, falling(0)) for name in ("first", "twin"))
    with pytest.raises(ReportError, match="both 'ctm, teacher at s' of seed 0"):
        read_results([first, twin])
    table = json.loads((twin / "evaluation.json").read_text())
    (twin / "evaluation.json").write_text(json.dumps({**table, "bench": {**BENCH, "digest": "other"}}))
    with pytest.raises(ReportError, match="different prompts, seeds or lengths"):
        read_results([first, twin])
    (twin / "evaluation.json").write_text("[]")
    with pytest.raises(ReportError, match="no evaluation of ours"):
        read_results([twin])


def test_a_single_student_shows_its_error_over_prompts_and_decides_nothing(tmp_path: Path) -> None:
    results = read_results([student(tmp_path / "one", falling(0))])
    assert cell(results, at(1), TOP1) == "0.5 ± 0.05 p" and cell(results, at(1), FRECHET) == "30"
    assert cell(results, at(3), TOP1) == "n/a"
    assert compare("x", FRECHET, [1.0], [2.0], Expected.BETTER, "").verdict is Verdict.UNDECIDED


def test_the_rule_of_two_standard_errors() -> None:
    assert difference([1.0, 2.0, None], [0.0, 0.0, 5.0]) == Difference(1.5, pytest.approx(0.5), 2)
    assert math.isnan(difference([None], [1.0]).mean)
    clear, dim = Difference(-1.0, 0.4, 3), Difference(-1.0, 0.6, 3)
    assert verdict(clear, FRECHET, Expected.BETTER) is Verdict.REPRODUCED
    assert verdict(clear, FRECHET, Expected.WORSE) is Verdict.NOT_REPRODUCED
    assert verdict(clear, TOP1, Expected.BETTER) is Verdict.NOT_REPRODUCED
    assert verdict(clear, FRECHET, Expected.EQUAL) is Verdict.NOT_REPRODUCED
    assert verdict(dim, FRECHET, Expected.BETTER) is Verdict.WITHIN_ERROR
    assert verdict(dim, FRECHET, Expected.EQUAL) is Verdict.REPRODUCED


def test_variants_are_named_by_what_the_paper_varies_and_by_what_is_unusual() -> None:
    def config(**distillation: Any) -> dict[str, Any]:
        return {"distillation": {"grid_points": 17, "seed": 1, "lcd": {"skip_steps": 5}, **distillation}}

    found = variants_of([
        config(), config(seed=2), config(distance="l2", match_point="zero"), config(denoising_weight=0.0),
        config(method="cd", grid_points=9), config(latent_weight=1.0, grid_points=5),
    ])
    assert found[0] == found[1] == Variant("ctm", "teacher", "s")
    assert str(found[2]) == "ctm, l2 at 0" and str(found[3]) == "ctm, teacher at s, no DSM"
    assert str(found[4]) == "cd"
    assert str(found[5]) == "ctm, teacher and output l2 at s, grid_points=5"


def test_the_reference_is_the_paper_s_student(tmp_path: Path) -> None:
    folders = [
        student(tmp_path / "zero", falling(0), match_point="zero"),
        student(tmp_path / "s", falling(0)),
        student(tmp_path / "l2", falling(0), distance="l2"),
    ]
    assert group(read_results(folders)).reference == Variant("ctm", "teacher", "s")
    assert group(read_results(folders[2:])).reference is None
    write_report(folders[2:], tmp_path / "out")
    assert (tmp_path / "out" / HTML_FILE).is_file()
