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
from parity.updates import nearest_stored

GOLDEN = Path(__file__).parents[1] / "golden" / "dit"
GROUPS = ["text", "vae", "augment", "draws"] + [
    f"{version}/{group}"
    for version in ("v1", "v2")
    for group in ("student", "teacher", "samplers", "heun", "end_to_end", "training")
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
    assert {comparison.group for comparison in outcome.comparisons} == set(GROUPS)


def test_every_number_of_a_training_case_is_compared(outcome: Outcome) -> None:
    numbers = {
        "grad_norms", "total_grad_norm", "L_ctm_mean", "lambda_times_dsm_mean", "L_dsm_mean_unweighted",
        "adaptive_weight", "total_loss",
    }  # fmt: skip
    for version in ("v1", "v2"):
        compared = {c.tensor.split(":", 1)[1] for c in outcome.comparisons if c.group == f"{version}/training"}
        for case in json.loads((GOLDEN / version / "training.json").read_text())["meta"]["cases"]:
            name = f"{case['tag']}/{case['variant']}"
            assert {f"{name}/{number}" for number in numbers - {"grad_norms"}} <= compared
            assert {f"{name}/grad_norms.{parameter}" for parameter in case["grad_norms"]} <= compared
            assert numbers == {key for key in case if key in numbers or isinstance(case[key], float)} - {
                "w_min", "w_max", "denoising_weight",
            }  # fmt: skip


def test_all_sampler_runs_are_compared_state_by_state(outcome: Outcome) -> None:
    for version in ("v1", "v2"):
        runs = json.loads((GOLDEN / version / "samplers.json").read_text())["meta"]["runs"]
        states = [c for c in outcome.comparisons if c.group == f"{version}/samplers" and "/traj[" in c.tensor]
        assert len(runs) == 63 and len(states) == sum(run["steps"] + 1 for run in runs)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the golden folder with few sampler runs, Heun and training cases, so that a check takes a second."""
    copy = tmp_path / "golden"
    shutil.copytree(GOLDEN, copy, ignore=shutil.ignore_patterns("v2"))
    config = json.loads((copy / "config.json").read_text())
    del config["settings"]["dit"]["v2"]
    (copy / "config.json").write_text(json.dumps(config))
    _edit(copy, "v1/samplers", lambda tensors, data: _keep(tensors, data["meta"], "runs", slice(3, 60, 19)))
    _edit(copy, "v1/heun", lambda tensors, data: _keep(tensors, data["meta"], "cases", slice(0, 3)))
    _edit(copy, "v1/training", lambda tensors, data: _keep_first_training_case(tensors, data["meta"]))
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


def _keep_first_training_case(tensors: Tensors, meta: Description) -> None:
    for case in meta["cases"][1:]:
        names = [f"{case['tag']}/{case['variant']}/"] + ([f"{case['tag']}/"] if case["tag"] != "A" else [])
        for key in [key for key in tensors if key.startswith(tuple(names))]:
            del tensors[key]
    del meta["cases"][1:]


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
        ("v1/training", "A/x_start"),
        ("v1/training", "A/dsm_g_theta"),
        ("augment/cases", "mixed"),
    ],
)
def test_a_changed_value_is_found(name: str, tensor: str, folder: Path) -> None:
    def change(tensors: Tensors, data: Description) -> None:
        tensors[tensor].view(-1)[-2] += 1e-3 * max(1.0, float(tensors[tensor].abs().max()))

    group = name.removesuffix("_cases").removesuffix("_cond") if name.startswith("v1/") else name.split("/")[0]
    assert not _faults(check_folder(folder, [group]))
    _edit(folder, name, change)
    assert group in {faulty for faulty, _ in _faults(check_folder(folder, [group]))}


@pytest.mark.parametrize(
    "tensor",
    [
        "A/feature_zs/grad.transformer.layers.0.pre_norm.gamma",
        "A/feature_zs/adaptive_grad_dsm",
        "A/feature_zs/lambda",
        "A/feature_zs/L_ctm",
        "optbig/student_after.to_timestep_embed.0.bias",
        "optbig/target_after.postprocess_conv.weight",
        "radam/p_after",
    ],
)
def test_a_trained_value_that_is_off_by_half_a_percent_is_found(tensor: str, folder: Path) -> None:
    """Gradients and changes are small: nothing but their own size may be their measure."""

    def change(tensors: Tensors, data: Description) -> None:
        values = tensors[tensor]
        start = torch.zeros_like(values)
        if "after" in tensor:
            start = tensors["radam/p0"] if "radam" in tensor else _before(folder, tensor, data["meta"])
        values += 5e-3 * (values - start)

    _edit(folder, "v1/training", change)
    faults = check_folder(folder, ["v1/training"])
    assert tensor in {name.split(":", 1)[1].split("[")[0] for _, name in _faults(faults)}


def _before(folder: Path, tensor: str, meta: Description) -> torch.Tensor:
    kind, name = tensor.split("/")[1].split(".", 1)
    networks = {n: load_file(folder / "v1" / f"{n}.safetensors")[f"dit.{name}"] for n in ("student", "teacher")}
    if kind == "student_after":
        return networks["student"]
    mix: dict[str, float] = meta["target_mix"]
    return mix["student"] * networks["student"] + mix["teacher"] * networks["teacher"]


@pytest.mark.parametrize(
    ("group", "name", "path", "value"),
    [
        ("v1/training", "v1/training", ("cases", 0, "L_ctm_mean"), 0.0273),
        ("v1/training", "v1/training", ("cases", 0, "adaptive_weight"), 0.0165),
        ("v1/training", "v1/training", ("cases", 0, "total_grad_norm"), 0.3752),
        ("v1/training", "v1/training", ("cases", 0, "grad_norms", "transformer.layers.0.cross_attn.to_q.weight"), 1e-6),
        ("v1/training", "v1/training", ("cases", 0, "last_layer_is_postprocess_conv"), None),
        ("v1/training", "v1/training", ("cases", 0, "args", "loss_type"), "l2"),
        ("v1/training", "v1/training", ("cases", 0, "args", "match_point"), "z0"),
        ("v1/training", "v1/training", ("cases", 0, "args", "loss_type"), "something new"),
        ("v1/training", "v1/training", ("cases", 0, "a_result"), 1.0),
        ("v1/training", "v1/training", ("cases", 0, "w_max"), 6.0),
        ("v1/training", "v1/training", ("optbig", "student_sum_after"), 285.73),
        ("v1/training", "v1/training", ("optbig", "ema_rate"), 0.901),
        ("v1/training", "v1/training", ("opt", "target_sum_after"), 457.05),
        ("augment", "augment/cases", ("mixed_captions", 0), "Dog barks and Rain falls"),
        ("augment", "augment/cases", ("python_random_seed",), 1),
    ],
)
def test_a_changed_number_or_option_is_found(
    group: str, name: str, path: tuple[str | int, ...], value: object, folder: Path
) -> None:
    def change(tensors: Tensors, data: Description) -> None:
        at: Any = data["meta"]
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value

    _edit(folder, name, change)
    assert group in {faulty for faulty, _ in _faults(check_folder(folder, [group]))}


def test_a_draw_of_another_law_is_found(folder: Path) -> None:
    data = json.loads((folder / "distributions.json").read_text())
    data["reference_draws"][1]["indices_s"][3] -= 1
    (folder / "distributions.json").write_text(json.dumps(data))
    assert [name for _, name in _faults(check_folder(folder, ["draws"]))] == ["distributions:draw 1 indices_s"]


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
    small = 1e-9 * reference
    assert Tolerance.TRAINED.error(1.002 * small, small) == pytest.approx(2e-3, rel=1e-3)
    assert Tolerance.TRAINED.error(torch.tensor([5e-8, 0.0]), 0 * reference) == 0.0
    assert Tolerance.TRAINED.error(torch.tensor([2e-7, 0.0]), 0 * reference) == float("inf")
    assert Tolerance.TRAINED.error(torch.tensor([float("nan"), 0.0]), 0 * reference) == float("inf")


def test_a_stored_update_hides_its_rounding_and_no_more() -> None:
    """One half of a spacing at 1.0, 2^-23, in the student; and nothing that does not move at all passes."""
    stored, spacing = torch.tensor([1.0 + 2**-23]), 2.0**-23
    found = stored.double() + spacing * torch.tensor([0.4], dtype=torch.float64)
    assert torch.equal(nearest_stored(found, stored, 1), stored.double())
    unmoved = nearest_stored(torch.tensor([1.0]), stored, 1)
    assert Tolerance.TRAINED.error(unmoved - 1.0, stored.double() - 1.0) == pytest.approx(0.5)
