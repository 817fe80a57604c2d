"""An ablation trains every student once per seed, keeps what is finished, and names what is wrong with its file."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from soundctm_training import ablate
from soundctm_training.ablate import planned_runs, read_ablation, train_students
from soundctm_training.config import ConfigError
from soundctm_training.distill import STUDENT_FILE
from soundctm_training.runs import RunError

CONFIGS = Path(__file__).parents[2] / "training" / "configs"


@pytest.mark.parametrize("name", ["ablations.toml", "ablation_options.toml"])
def test_the_committed_ablations_can_be_read(name: str) -> None:
    ablation = read_ablation(CONFIGS / name)
    runs = list(planned_runs(ablation, Path("out")))
    assert len(runs) == len(ablation.seeds) * len(ablation.student) == len({run.folder for run in runs})
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)  # whole rounds come first
    assert all(run.changes[-1] == f"distillation.seed={run.seed}" for run in runs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base = 'ablation.toml'\nseeds = [1]\n", r"names the students \[\]; give at least one"),
        ("base = 'ablation.toml'\nsedes = [1]\n[[student]]\nname = 'a'\n", "did you mean 'seeds'"),
        ("base = 'ablation.toml'\nseeds = [1]\n" + 2 * "[[student]]\nname = 'a'\n", "a name of its own"),
        (
            "base = 'ablation.toml'\nseeds = [1]\n[[student]]\nname = 'a'\nchange = ['distillation.distanse=l2']\n",
            "did you mean 'distance'",
        ),
        ("base = ", "cannot be read as TOML"),
    ],
)
def test_mistakes_are_named_before_anything_is_trained(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "ablation.toml").write_text((CONFIGS / "ablation.toml").read_text())
    path = tmp_path / "students.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_ablation(path)


def test_finished_students_are_kept_and_a_failure_names_the_student(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ablation = read_ablation(CONFIGS / "ablations.toml")
    started: list[str] = []

    def run(command: list[str], check: bool) -> SimpleNamespace:
        folder = Path(command[command.index("--out") + 1])
        started.append(folder.name)
        failed = len(started) == 3
        if not failed:
            folder.mkdir(parents=True)
            (folder / STUDENT_FILE).touch()
        return SimpleNamespace(returncode=int(failed))

    monkeypatch.setattr(ablate.subprocess, "run", run)
    with pytest.raises(RunError, match=f"student {ablation.student[2].name}_seed1 stopped"):
        train_students(ablation, Path("latents"), Path("teacher"), tmp_path)
    train_students(ablation, Path("latents"), Path("teacher"), tmp_path)
    names = [run.folder.name for run in planned_runs(ablation, tmp_path)]
    assert started == [*names[:3], *names[2:]]
