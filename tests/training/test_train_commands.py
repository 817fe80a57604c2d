"""`soundctm train` from nothing to a bundle that plays, at a minute size, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from soundctm.bundle import open_bundle
from soundctm.engines.torch import load_engine
from soundctm.recipe import make_recipe
from soundctm.render import render
from soundctm_training.cli import app
from soundctm_training.evaluation.prompts import known_labels
from soundctm_training.synth.catalogue import LABELS

DATA = 'mix_share = 0.0\nrecording_share = 0.0\nlabels = ["rain", "dog"]\n[clips]\n16 = 8\n'
CONFIG = """
name = "minute"
[data]
kind = "pools"
path = "pools"
[encode]
frames = [16]
[codec]
channels = 8
slow_dim = 16
slow_blocks = 1
fast_dim = 16
fast_blocks = 1
spread = 0.2
fit_clips = 8
[decoder]
batch = 2
crop_frames = 4
latent_noise = 0.05
learning_rate = 1e-3
windows = [512]
ema = 0.9
[network]
io_channels = 8
embed_dim = 64
depth = 2
num_heads = 2
cond_dim = 384
context_dim = 64
conditioning = "adaptive_norm"
patch_frames = 2
feed_forward_mult = 2
qk_norm = true
pooled_text = true
[text]
drop = 0.1
token_noise = 0.1
sentence_noise = 0.1
token_drop = 0.1
remembered = 2
phrases = 3
[teacher]
learning_rate = 1e-3
warmup_steps = 1
weight_decay = 0.0
level_mean = -0.4
level_std = 1.2
ema = 0.9
lengths = { frames = [16], shares = [1.0], batch_frames = 64, odd_share = 0.0 }
[distillation]
learning_rate = 1e-3
warmup_steps = 1
grid_points = 8
omega_min = 1.0
omega_max = 4.0
target_ema = 0.9
final_ema = 0.9
last_layer = "transformer.project_out.weight"
lengths = { frames = [16], shares = [1.0], batch_frames = 64, odd_share = 0.0 }
[reporting]
report_steps = 1
tensorboard = false
"""


def run(*arguments: object, exit_code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output + str(result.exception)
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every stage run once."""
    folder = tmp_path_factory.mktemp("commands")
    config, data = folder / "minute.toml", folder / "data.toml"
    config.write_text(CONFIG)
    data.write_text(DATA)
    run("synthesise", data, "-o", folder / "pools", "--seed", 5)
    run("codec", config, "--data", folder / "pools", "-o", folder / "codec", "--steps", 2)
    run("encode", config, "--data", folder / "pools", "--codec", folder / "codec", "-o", folder / "latents")
    run("teacher", config, "--latents", folder / "latents", "-o", folder / "teacher", "--steps", 2)
    run("remember", config, "--network", folder / "teacher/teacher.safetensors", "--labels-of", data,
        "-o", folder / "teacher/remembering.safetensors")
    run("distill", config, "--latents", folder / "latents", "--teacher", folder / "teacher/remembering.safetensors",
        "-o", folder / "student", "--steps", 2, "--codec", folder / "codec", "--set", "reporting.sample_seconds=0.0")
    card = folder / "card.md"
    card.write_text("A minute model.")
    run("assemble", config, "--codec", folder / "codec/codec.safetensors", "--labels-of", data, "--card", card,
        "--student", folder / "student/student.safetensors", "--licence", card, "-o", folder / "bundle")
    return folder


def test_the_bundle_renders_a_clip_and_knows_what_it_knows(folder: Path) -> None:
    engine = load_engine(open_bundle(folder / "bundle"))
    recipe = make_recipe(engine.spec, engine.digest, prompt="rain", seed=1, seconds=0.5, steps=2)
    audio = np.asarray(render(engine, recipe))
    assert audio.shape == (1, engine.spec.samples(0.5)) and np.isfinite(audio).all()
    classes = known_labels(open_bundle(folder / "bundle"), LABELS)
    assert classes and engine.spec.network.text_memory == 3 * len(classes) + 1  # three phrases each, and ""
    known, unknown = engine.familiarity("rain falling"), engine.familiarity("quarterly tax return")
    assert known is not None and known.label == "rain" and not known.unfamiliar
    assert unknown is not None and unknown.unfamiliar


def assemble_of_latents(folder: Path, out: Path, *more: object, exit_code: int = 0) -> str:
    parts = {"codec": "codec/codec.safetensors", "student": "teacher/teacher.safetensors", "latents": "latents",
             "card": "card.md", "licence": "card.md"}  # fmt: skip
    options = [part for name, file in parts.items() for part in (f"--{name}", folder / file)]
    return run("assemble", folder / "minute.toml", *options, "-o", out, *more, exit_code=exit_code)


def test_a_bundle_of_data_of_ones_own_knows_its_captions_and_claims_nothing_of_ours(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "own"
    assemble_of_latents(folder, out, "--set", "text.remembered=0", "--set", "licence=LicenseRef-mine")
    bundle = open_bundle(out)
    assert bundle.spec.licence == "LicenseRef-mine" and bundle.spec.restricted
    assert not (out / "recordings_attribution.csv").exists() and bundle.spec.network.text_memory == 0
    captions = [text for text in json.loads((folder / "latents/texts.json").read_text()) if text]
    found = load_engine(bundle).familiarity(captions[0])
    assert found is not None and found.label == captions[0] and not found.unfamiliar


def test_a_network_that_remembers_is_trained_on_as_it_is(folder: Path, tmp_path: Path) -> None:
    remembering = folder / "teacher/remembering.safetensors"
    run("teacher", folder / "minute.toml", "--latents", folder / "latents", "-o", tmp_path, "--start", remembering,
        "--steps", 1, "--codec", folder / "codec", "--set", "reporting.sample_seconds=0.0")  # fmt: skip
    first, later = load_file(remembering), load_file(tmp_path / "teacher.safetensors")
    assert first.keys() == later.keys()
    for name in first:
        kept = name in ("text_memory", "text_phrases") or name.startswith("to_pooled_embed")
        assert torch.equal(first[name], later[name]) or not kept, name
    assert not torch.equal(first["transformer.project_in.weight"], later["transformer.project_in.weight"])


def test_weights_between_two_networks(folder: Path, tmp_path: Path) -> None:
    files = [folder / "teacher/remembering.safetensors", folder / "bundle/network.safetensors"]  # the latter in halves
    run("average", folder / "minute.toml", *files, "--share", 0.25, "-o", tmp_path / "between.safetensors")
    one, other, found = map(load_file, (*files, tmp_path / "between.safetensors"))
    for name, value in found.items():
        torch.testing.assert_close(value, 0.75 * one[name] + 0.25 * other[name].float())


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("average {config} {remembering} {remembering} --share 1.5", "--share is 1.5; give a share from 0"),
        ("average {config} {remembering} {teacher}", "remembers 0 texts and the network it is to go with 7"),
        (
            "distill {config} --latents {latents} --teacher {remembering} --start {teacher} --steps 1",
            "remembers 0 texts and the network it is to go with 7",
        ),
        ("remember {config} --network {teacher} --set text.remembered=0", "text.remembered is 0; say how many"),
        ("remember {config} --network {teacher} --set text.phrases=-1", "text.phrases is -1; say by how many"),
    ],
)
def test_memories_that_do_not_fit_are_refused(command: str, said: str, folder: Path, tmp_path: Path) -> None:
    files = {"config": folder / "minute.toml", "latents": folder / "latents"}
    files |= {name: folder / f"teacher/{name}.safetensors" for name in ("teacher", "remembering")}
    arguments = [word.format_map(files) for word in command.split()]
    assert said in " ".join(run(*arguments, "-o", tmp_path / "out", exit_code=1).split())
    assert not list(tmp_path.iterdir())


def test_data_of_ones_own_has_no_classes(folder: Path, tmp_path: Path) -> None:
    for more, problem in (
        ([], "remembers nothing; give it a memory (`soundctm train remember`), or --set text.remembered=0"),
        (["--labels-of", folder / "data.toml"], "leave --labels-of and --without out"),
    ):
        printed = " ".join(assemble_of_latents(folder, tmp_path / "none", *more, exit_code=1).split())
        assert problem in printed
    assert not list(tmp_path.iterdir())


def test_a_run_holds_its_metrics_samples_and_configuration(folder: Path) -> None:
    student = folder / "student"
    rows = [json.loads(line) for line in (student / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2] and {"consistency", "denoising", "weight"} <= rows[0].keys()
    assert json.loads((student / "config.json").read_text())["distillation"]["grid_points"] == 8
    assert (student / "samples" / "step_0000001.png").is_file()
    assert len(list((student / "samples").glob("step_0000001_4_jumps_*.wav"))) == 4


@pytest.mark.parametrize("stage", ["codec", "encode", "teacher", "distill"])
def test_a_dry_run_says_what_it_would_do_and_does_nothing(stage: str, folder: Path, tmp_path: Path) -> None:
    options = {
        "codec": ["--data", folder / "pools", "--steps", 2],
        "encode": ["--data", folder / "pools", "--codec", folder / "codec"],
        "teacher": ["--latents", folder / "latents", "--steps", 2],
        "distill": [
            "--latents", folder / "latents", "--teacher", folder / "teacher/teacher.safetensors", "--steps", 2
        ],
    }[stage]
    out = tmp_path / "out"
    printed = json.loads(run(stage, folder / "minute.toml", *options, "-o", out, "--dry-run"))
    assert printed["config"]["name"] == "minute" and printed["plan"]
    assert not out.exists()


def test_a_student_is_distilled_on_from_an_earlier_one(folder: Path, tmp_path: Path) -> None:
    teacher, earlier = folder / "teacher/remembering.safetensors", folder / "student/student.safetensors"
    run("distill", folder / "minute.toml", "--latents", folder / "latents", "--teacher", teacher, "-o", tmp_path / "on",
        "--steps", 1, "--start", earlier, "--start-teacher", teacher)
    assert (tmp_path / "on/student.safetensors").is_file()


def test_misfits_are_one_sentence_and_exit_code_1(folder: Path, tmp_path: Path) -> None:
    config, latents = folder / "minute.toml", folder / "latents"
    to = ["-o", tmp_path / "out", "--steps", 2]
    other_shape = ["--set", "network.embed_dim=32", "--set", "network.context_dim=32"]
    teacher = folder / "teacher/teacher.safetensors"
    said = run("distill", config, "--latents", latents, "--teacher", teacher, *to, *other_shape, exit_code=1)
    assert "teacher.safetensors is not a network of this configuration's [network]" in said
    alone = ["--start-teacher", teacher]
    said = run("distill", config, "--latents", latents, "--teacher", teacher, *to, *alone, exit_code=1)
    assert "give --start too" in said
    said = run("teacher", config, "--latents", latents, *to, "--set", "network.io_channels=9", exit_code=1)
    assert "8 channels" in said and "network.io_channels is 9" in said
    said = run("teacher", config, "--latents", latents, *to, "--set", "network.cond_dim=128", exit_code=1)
    assert "width 384" in said and "network.cond_dim is 128" in said
    said = run("teacher", config, "--latents", tmp_path, *to, exit_code=1)
    assert "manifest.json" in said
    said = run("teacher", config, "--latents", latents, "-o", tmp_path / "out", exit_code=1)
    assert "no budget for teacher" in said
