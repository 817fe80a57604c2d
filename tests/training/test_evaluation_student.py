"""Judging one network: the same trials for everyone, rows for every setting, nothing broken judged in silence."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from small_training import CONFIG
from soundctm.codecs.mel import WhitenedMelCodec
from soundctm.networks.dit import DiT
from soundctm_training.evaluation.bench import Bench, BenchSettings, make_bench
from soundctm_training.evaluation.classifier import SoundClassifier
from soundctm_training.evaluation.judging import (
    EVALUATION_FILE,
    judge_ceiling_into,
    judge_student_run,
    judge_student_runs,
    judge_teacher_run,
)
from soundctm_training.evaluation.metrics import MetricError
from soundctm_training.evaluation.student import gamma_sweep, judge_student, sweep
from soundctm_training.evaluation.takes import Setting, draw, student_sampler, teacher_sampler
from soundctm_training.runs import plain

LABELS = ("rain", "bell", "gun")
PROMPTS = {label: (f"{label} one", f"{label} two") for label in LABELS}
SETTINGS = BenchSettings(seeds_per_prompt=1, seconds=0.3, reference_per_label=2, batch=4)


class Words:
    """A text encoder whose tokens are drawn from the prompt's digest."""

    max_tokens, dim = 3, 16

    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        seeds = [int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4], "big") for prompt in prompts]
        tokens = [np.random.default_rng(seed).standard_normal((3, 16), np.float32) for seed in seeds]
        return torch.from_numpy(np.stack(tokens)), torch.ones(len(prompts), 3, dtype=torch.bool)


@pytest.fixture(scope="module")
def bench() -> Bench:
    torch.manual_seed(0)
    assert CONFIG.codec is not None
    codec = WhitenedMelCodec(**CONFIG.codec.options()).eval().requires_grad_(False)
    for name in ("project", "restore"):
        values = getattr(codec.whitening, name)
        values.copy_(0.01 * torch.randn(values.shape))
    return make_bench(
        PROMPTS, Words(), codec, SoundClassifier(LABELS).eval(), CONFIG.diffusion,
        channels=6, hop_samples=1024, patch_frames=2, settings=SETTINGS,
    )


def network(seed: int = 1) -> DiT:
    """With random output weights: a fresh one gives zeros for every prompt."""
    torch.manual_seed(seed)
    assert CONFIG.network is not None
    made = DiT(CONFIG.network)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return made.eval().requires_grad_(False)


def test_a_bench_holds_every_prompt_with_seeds_of_its_own(bench: Bench) -> None:
    assert len(bench.trials) == 6 and len({trial.seed for trial in bench.trials}) == 6
    assert bench.frames == 14  # 0.3 s are 12.9 frames, and tokens hold two
    assert bench.real.audio.shape == (6, 14 * 1024) and bench.reference.embeddings.shape == (6, 256)
    assert bench.facts()["clips"] == 6 and bench.facts()["labels"] == 3


def test_a_class_the_classifier_never_heard_or_without_prompts_is_refused(bench: Bench) -> None:
    sizes = {"channels": 6, "hop_samples": 1024, "patch_frames": 2}
    with pytest.raises(MetricError, match="knows no piano"):
        make_bench({"piano": ("a", "b")}, Words(), bench.codec, bench.classifier, CONFIG.diffusion, **sizes)
    with pytest.raises(MetricError, match="rain has 1 held-out"):
        make_bench({"rain": ("a",)}, Words(), bench.codec, bench.classifier, CONFIG.diffusion, **sizes)


def test_takes_depend_on_the_trial_and_not_on_the_batch(bench: Bench) -> None:
    sampler = student_sampler(network(), bench)
    for setting in (Setting(2, nu=2.0), Setting(3, gamma=0.5)):
        alone, together = sampler(range(3, 4), setting), sampler(range(2, 6), setting)
        assert torch.allclose(alone[0], together[1], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(together[0], together[1], atol=1e-3)


def test_guidance_and_stochasticity_change_the_takes_and_one_jump_knows_no_gamma(bench: Bench) -> None:
    sampler, rows = student_sampler(network(), bench), range(6)
    plain_take = sampler(rows, Setting(4))
    assert not torch.allclose(plain_take, sampler(rows, Setting(4, nu=3.0)), atol=1e-5)
    assert not torch.allclose(plain_take, sampler(rows, Setting(4, gamma=1.0)), atol=1e-3)
    assert torch.equal(sampler(rows, Setting(1)), sampler(rows, Setting(1, gamma=1.0)))


def test_a_student_is_judged_at_every_number_of_jumps_and_setting(bench: Bench) -> None:
    more = [*sweep((1.0, 3.0), (1.0, 2.0), steps=(1,)), *gamma_sweep(3.0, steps=2)]
    table = judge_student(network(), bench, 3.0, jumps=(1, 2), more=more)
    assert json.loads(json.dumps(table))["kind"] == "student"
    settings = [(row["steps"], row["omega"], row["nu"], row["gamma"]) for row in table["rows"]]
    assert len(set(settings)) == len(settings) == 2 + 3 + 3  # the sweeps' own plain rows are not made twice
    preview, later = table["rows"][:2]
    assert preview["preservation"] is None and later["preservation"]["lsd_db"]["mean"] > 0
    for row in table["rows"]:
        assert 0 <= row["top1"]["rate"] <= row["top5"]["rate"] == 1.0  # three classes
        assert row["frechet"] > 0 and row["kl"]["mean"] > 0 and row["top1"]["n"] == 6
    assert table["unrelated"]["lsd_db"]["mean"] > 0


def test_judging_again_gives_the_same_figures(bench: Bench) -> None:
    once, again = (judge_student(network(), bench, 3.0, jumps=(1, 2), gamma=1.0)["rows"] for _ in range(2))
    assert once == again


def test_broken_weights_are_refused(bench: Bench) -> None:
    broken = network()
    next(broken.transformer.project_out.parameters()).fill_(float("nan"))
    with pytest.raises(MetricError, match="NaN"):
        draw(student_sampler(broken, bench), bench, Setting(1))


def test_the_teacher_s_steps_approach_its_ode(bench: Bench) -> None:
    """Twice the steps, and the solution moves less: Heun converges."""
    sampler, rows = teacher_sampler(network(), bench), range(2)
    takes = [sampler(rows, Setting(steps, omega=1.5)) for steps in (8, 16, 32, 64)]
    moves = [float((a - b).norm()) for a, b in itertools.pairwise(takes)]
    assert moves[2] < moves[1] < moves[0]


def test_run_folders_get_their_evaluation(bench: Bench, tmp_path: Path) -> None:
    for name, folder in (("student", tmp_path / "s"), ("teacher", tmp_path / "t")):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(plain(CONFIG)))
        save_file(network().state_dict(), folder / f"{name}.safetensors")
    judge_student_run(tmp_path / "s", bench, jumps=(1,))
    judge_teacher_run(tmp_path / "t", bench, steps=(2,))
    judge_ceiling_into(tmp_path / "c", bench)
    student, teacher, ceiling = (json.loads((tmp_path / name / EVALUATION_FILE).read_text()) for name in "stc")
    assert student["rows"][0]["omega"] == CONFIG.omega_default == teacher["rows"][0]["omega"]
    assert student["bench"] == teacher["bench"] == ceiling["bench"]
    assert ceiling["reconstructed"]["preservation"]["mstft"]["mean"] > 0 and ceiling["real"]["top1"]["n"] == 6


def test_a_baseline_is_sampled_with_gamma_one_and_what_is_judged_stays(bench: Bench, tmp_path: Path) -> None:
    config = plain(CONFIG)
    config["distillation"]["method"] = "cd"
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        save_file(network().state_dict(), folder / "student.safetensors")
    judge_student_run(folders[0], bench)
    before = (folders[0] / EVALUATION_FILE).read_text()
    assert json.loads(before)["gamma"] == 1.0
    judge_student_runs(folders, bench)
    assert (folders[0] / EVALUATION_FILE).read_text() == before and (folders[1] / EVALUATION_FILE).is_file()
    judge_student_runs(folders, bench, swept=folders[:1], more=[Setting(1, 3.0, nu=2.0)])
    assert len(json.loads((folders[0] / EVALUATION_FILE).read_text())["rows"]) == 6
