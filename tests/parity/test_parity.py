"""The official system is reproduced, and the checker that says so cannot be fooled."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from parity.__main__ import main
from parity.golden import Outcome, Tolerance
from parity.run import check_folder

GOLDEN = Path(__file__).parents[1] / "golden" / "dit"
GROUPS = ["text", "vae"] + [
    f"{version}/{group}"
    for version in ("v1", "v2")
    for group in ("student", "teacher", "samplers", "heun", "end_to_end")
]
Tensors = dict[str, torch.Tensor]
Description = dict[str, Any]


@pytest.fixture(scope="session")
def outcome() -> Outcome:
    return check_folder(GOLDEN)


@pytest.mark.parametrize("group", GROUPS)
def test_every_tensor_of_the_group_is_reproduced(group: str, outcome: Outcome) -> None:
    comparisons = [comparison for comparison in outcome.comparisons if comparison.group == group]
    assert comparisons
    off = [comparison for comparison in comparisons if not comparison.ok]
    assert not off


def test_nothing_in_the_folder_is_left_out(outcome: Outcome) -> None:
    assert not outcome.problems
    assert set(outcome.uncovered) == {"augment/cases", "v1/training", "v2/training"}


def test_all_sampler_runs_are_compared_state_by_state(outcome: Outcome) -> None:
    for version in ("v1", "v2"):
        runs = json.loads((GOLDEN / version / "samplers.json").read_text())["meta"]["runs"]
        states = [c for c in outcome.comparisons if c.group == f"{version}/samplers" and "/traj[" in c.tensor]
        assert len(runs) == 63 and len(states) == sum(run["steps"] + 1 for run in runs)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the golden folder with few sampler runs and Heun cases, so that a check takes a second."""
    copy = tmp_path / "golden"
    shutil.copytree(GOLDEN, copy, ignore=shutil.ignore_patterns("training.*", "augment", "v2"))
    config = json.loads((copy / "config.json").read_text())
    del config["settings"]["dit"]["v2"]
    (copy / "config.json").write_text(json.dumps(config))
    _edit(copy, "v1/samplers", lambda tensors, data: _keep(tensors, data["meta"], "runs", slice(3, 60, 19)))
    _edit(copy, "v1/heun", lambda tensors, data: _keep(tensors, data["meta"], "cases", slice(0, 3)))
    return copy


def _edit(folder: Path, name: str, change: Callable[[Tensors, Description], None]) -> None:
    data: Description = json.loads((folder / f"{name}.json").read_text())
    tensors = {key: tensor.clone() for key, tensor in load_file(folder / f"{name}.safetensors").items()}
    change(tensors, data)
    data["tensors"] = {key: [list(tensor.shape), str(tensor.dtype)] for key, tensor in tensors.items()}
    save_file(tensors, folder / f"{name}.safetensors")
    (folder / f"{name}.json").write_text(json.dumps(data))


def _keep(tensors: Tensors, meta: Description, table: str, kept: slice) -> None:
    meta[table] = meta[table][kept]
    names = {case["name"] for case in meta[table]}
    for key in [key for key in tensors if "/" in key and key.split("/")[0] not in names]:
        del tensors[key]


def _rename(tensors: Tensors, cases: list[Description]) -> None:
    for number, case in enumerate(cases):
        old, case["name"] = case["name"], f"case {number}"
        for key in [key for key in tensors if key.startswith(f"{old}/")]:
            tensors[key.replace(old, case["name"], 1)] = tensors.pop(key)


def test_optional_files_and_names_of_cases_do_not_matter(folder: Path) -> None:
    shutil.rmtree(folder / "manifests")
    (folder / "distributions.json").unlink()
    (folder / "claims.json").unlink()
    _edit(folder, "v1/samplers", lambda tensors, data: _rename(tensors, data["meta"]["runs"]))
    _edit(folder, "v1/heun", lambda tensors, data: _rename(tensors, data["meta"]["cases"]))
    assert main([str(folder)]) == 0


def test_a_cases_own_meta_outranks_the_settings(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["settings"] |= {"sigma_max": 3.0, "nu": 9.0}
    config["train_args_base"]["rho"] = 2
    (folder / "config.json").write_text(json.dumps(config))
    groups = {group for group, _ in _faults(check_folder(folder, ["v1/samplers", "v1/heun"]))}
    assert "v1/samplers" not in groups  # its meta names sigma_max, rho and each run's nu
    assert "v1/heun" in groups  # its meta does not, so the changed settings count


def _faults(outcome: Outcome) -> list[tuple[str, str]]:
    return outcome.problems + [(c.group, c.tensor) for c in outcome.comparisons if not c.ok]


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("text/cases", "v2_embedding"),
        ("text/weights", "text_projection.2.bias"),
        ("vae/cases", "decoded_len1"),
        ("vae/weights_plain", "post_conv.bias"),
        ("v1/student_cases", "int.hidden_1_rows03"),
        ("v1/student_cases", "tok.F_x"),
        ("v1/student", "dit.transformer.layers.1.ff.ff.2.bias"),
        ("v1/teacher_cases", "feature_1"),
        ("v1/samplers", "sigmas_N4"),
        ("v1/samplers_cond", "cond_text"),
        ("v1/heun", "cfg_i0_7_k3/after_step_1"),
        ("v1/end_to_end", "waveform"),
    ],
)
def test_a_changed_value_is_found(name: str, tensor: str, folder: Path) -> None:
    def change(tensors: Tensors, data: Description) -> None:
        tensors[tensor].view(-1)[-2] += 1e-3 * max(1.0, float(tensors[tensor].abs().max()))

    group = name.removesuffix("_cases").removesuffix("_cond") if name.startswith("v1/") else name.split("/")[0]
    assert not _faults(check_folder(folder, [group]))
    _edit(folder, name, change)
    assert group in {faulty for faulty, _ in _faults(check_folder(folder, [group]))}


def test_one_changed_value_in_a_late_state_is_not_hidden_by_a_large_early_one(folder: Path) -> None:
    def change(tensors: Tensors, data: Description) -> None:
        run = data["meta"]["runs"][-1]["name"]
        tensors[f"{run}/traj"][-1, 0, 0, 0] += 5e-4

    _edit(folder, "v1/samplers", change)
    assert [group for group, _ in _faults(check_folder(folder, ["v1/samplers"]))] == ["v1/samplers"]


def test_a_tensor_nobody_uses_is_named_and_fails_the_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _edit(folder, "v1/heun", lambda tensors, data: tensors.update({"stranger": torch.ones(1)}))
    assert main([str(folder)]) == 1
    assert "neither an input nor compared: stranger" in capsys.readouterr().out


def test_an_unknown_file_and_a_missing_group_fail_the_run(folder: Path) -> None:
    save_file({"a": torch.ones(1)}, folder / "v1" / "more.safetensors")
    (folder / "v1" / "heun.safetensors").unlink()
    problems = dict(check_folder(folder).problems)
    assert "no check knows this file" in problems["v1/more"]
    assert "v1/heun" in problems


def test_a_missing_tensor_fails_the_run(folder: Path) -> None:
    _edit(folder, "v1/end_to_end", lambda tensors, data: tensors.__delitem__("waveform"))
    problems = check_folder(folder, ["v1/end_to_end"]).problems
    assert any("waveform" in sentence for _, sentence in problems)


def test_no_folder_is_no_success(tmp_path: Path) -> None:
    assert main([str(tmp_path / "nowhere")]) == 1
    assert main([]) == 2


def test_tolerances_measure_what_they_say() -> None:
    reference = torch.tensor([0.0, 100.0])
    assert Tolerance.PLAIN.error(reference + 0.1, reference) == pytest.approx(1e-3, rel=1e-4)
    assert Tolerance.RELATIVE.error(torch.tensor([0.0, 101.0]), reference) == pytest.approx(1e-2)
    assert Tolerance.RELATIVE.error(torch.tensor([1e-9, 100.0]), reference) == float("inf")
    assert Tolerance.PLAIN.error(reference[:1], reference) == float("inf")
    assert Tolerance.PLAIN.error(torch.tensor([float("nan"), 100.0]), reference) == float("inf")
