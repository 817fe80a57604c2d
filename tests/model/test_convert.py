"""Published files become one bundle; nothing passes silently and no pickle runs anything."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from typer.testing import CliRunner

from soundctm.bundle import open_bundle
from soundctm.checkpoints.convert import Choices, OfficialFiles, convert
from soundctm.checkpoints.official import Variant
from soundctm.checkpoints.pickles import read_pickle
from soundctm.engines.torch import load_engine
from soundctm.errors import CheckpointError, TensorMismatchError
from soundctm.spec import Ranges

GOLDEN = Path(__file__).parents[1] / "golden" / "dit"
RANGES = Ranges(omega_min=2.0, omega_max=5.0, omega_default=3.5)
# as in the published file: everything of CLAP, of which a prompt uses half
UNUSED = {"audio_branch.bn0.weight": torch.ones(4), "text_transform.sequential.0.weight": torch.ones(4, 4),
          "logit_scale_a": torch.tensor(1.0), "audio_projection.0.bias": torch.ones(4)}  # fmt: skip

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def dit() -> Tensors:
    return load_file(GOLDEN / "v1" / "student.safetensors")


@pytest.fixture(scope="module")
def clap() -> Tensors:
    return load_file(GOLDEN / "text" / "weights.safetensors") | UNUSED


@pytest.fixture
def files(tmp_path: Path, dit: Tensors, clap: Tensors) -> OfficialFiles:
    student, clap_file, tokenizer = tmp_path / "ema.pt", tmp_path / "630k.pt", tmp_path / "tokenizer.json"
    _write_student(student, dit, clap)
    position_ids = {"text_branch.embeddings.position_ids": torch.arange(514)[None]}
    state = {f"module.{name}": tensor for name, tensor in (clap | position_ids).items()}
    torch.save({"epoch": 46, "best": np.float64(0.5), "old": np.float32(1), "state_dict": state}, clap_file)
    _tokenizer().save(str(tokenizer))
    ckpt = GOLDEN / "vae" / "ckpt"
    return OfficialFiles(student, ckpt / "gaussiandac" / "weights.pth", ckpt / "z_stats.pth", tokenizer, clap_file)


def choices(**changes: Any) -> Choices:
    return replace(Choices("tiny", RANGES, num_heads=2, text_heads=2, variant=Variant.V1), **changes)


def _write_student(path: Path, dit: Tensors, clap: Tensors) -> None:
    torch.save(dit | {f"text_encoder.model.{name}": tensor for name, tensor in clap.items()}, path)


def _tokenizer() -> Tokenizer:
    vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    vocabulary |= json.loads((GOLDEN / "text" / "cases.json").read_text())["meta"]["vocab"]
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return tokenizer


@pytest.mark.parametrize("variant", list(Variant))
def test_the_bundle_makes_the_official_conditions_and_audio(
    variant: Variant, files: OfficialFiles, tmp_path: Path
) -> None:
    done = convert(files, choices(variant=variant), tmp_path / "bundle")
    engine = load_engine(open_bundle(tmp_path / "bundle"))
    meta = json.loads((GOLDEN / "text" / "cases.json").read_text())["meta"]
    expected = load_file(GOLDEN / "text" / "cases.safetensors")[f"{variant.value}_embedding"]
    found, mask = engine._text.encode(meta["texts"])
    assert mask.all() and mask.shape == (len(meta["texts"]), 1)
    assert (found[:, 0] - expected).abs().max() <= 1e-5
    vae = load_file(GOLDEN / "vae" / "cases.safetensors")
    audio = torch.from_numpy(engine.decode(vae["norm_latent"], [1, 2]))
    assert (audio - vae["denorm_decoded"]).abs().max() <= 1e-5
    assert done.bundle.digest == engine.digest


def test_everything_left_out_is_reported(files: OfficialFiles, tmp_path: Path) -> None:
    done = convert(files, choices(variant=Variant.V2), tmp_path / "bundle")
    reported = " ".join(done.notes)
    for prefix in ("audio_branch.", "text_transform.", "logit_scale_a", "audio_projection.", "text_projection."):
        assert prefix in reported
    assert "'epoch'" in reported
    card = (tmp_path / "bundle" / "MODEL_CARD.md").read_text()
    assert all(note in card for note in done.notes)


def test_the_clap_file_fills_in_for_a_student_without_text(
    files: OfficialFiles, dit: Tensors, tmp_path: Path
) -> None:
    torch.save(dit, files.student)
    convert(files, choices(), tmp_path / "bundle")
    with pytest.raises(CheckpointError, match="--clap"):
        convert(replace(files, clap=None), choices(), tmp_path / "other")


def test_text_encoders_that_differ_are_reported(
    files: OfficialFiles, dit: Tensors, clap: Tensors, tmp_path: Path
) -> None:
    name = "text_branch.pooler.dense.bias"
    _write_student(files.student, dit, clap | {name: clap[name] + 1})
    notes = convert(files, choices(), tmp_path / "bundle").notes
    assert any("1 text tensors differ" in note and name in note for note in notes)


def test_missing_left_over_and_misshapen_tensors_are_named(
    files: OfficialFiles, dit: Tensors, clap: Tensors, tmp_path: Path
) -> None:
    name = "dit.transformer.layers.1.ff.ff.2.bias"
    wrong = {key: tensor for key, tensor in dit.items() if key != name} | {"dit.stranger": torch.ones(1)}
    wrong["dit.postprocess_conv.weight"] = torch.ones(8, 8, 3)
    _write_student(files.student, wrong, clap)
    with pytest.raises(TensorMismatchError) as caught:
        convert(files, choices(), tmp_path / "bundle")
    assert caught.value.missing == ("transformer.layers.1.ff.ff.2.bias",)
    assert caught.value.unexpected == ("stranger",)
    assert caught.value.shapes == ("postprocess_conv.weight [8, 8, 3] instead of [8, 8, 1]",)
    assert not (tmp_path / "bundle").exists()


def test_keys_of_unknown_origin_are_named(files: OfficialFiles, dit: Tensors, clap: Tensors, tmp_path: Path) -> None:
    _write_student(files.student, dit | {"unet.weight": torch.ones(1)}, clap)
    with pytest.raises(CheckpointError, match=r"unet\.weight"):
        convert(files, choices(), tmp_path / "bundle")


def test_unknown_text_tensors_do_not_pass(files: OfficialFiles, dit: Tensors, clap: Tensors, tmp_path: Path) -> None:
    _write_student(files.student, dit, clap | {"text_branch.extra": torch.ones(1)})
    with pytest.raises(TensorMismatchError, match=r"text_branch\.extra"):
        convert(files, choices(), tmp_path / "bundle")


def test_the_variant_follows_the_width_of_the_text_vector(files: OfficialFiles, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"v2 gives 64, v1 gives 64; none was chosen.*--variant"):
        convert(files, choices(variant=None), tmp_path / "bundle")


def test_heads_that_do_not_fit_are_refused(files: OfficialFiles, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="24 heads do not fit"):
        convert(files, choices(num_heads=24), tmp_path / "bundle")


def test_another_encoders_tokenizer_is_refused(files: OfficialFiles, tmp_path: Path) -> None:
    tokenizer = _tokenizer()
    tokenizer.post_processor = TemplateProcessing(single="</s> $A <s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    tokenizer.save(str(files.tokenizer))
    with pytest.raises(CheckpointError, match=r"\[2, 0\]"):
        convert(files, choices(), tmp_path / "bundle")


def test_an_existing_folder_is_not_overwritten(files: OfficialFiles, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="exists"):
        convert(files, choices(), tmp_path)


@pytest.mark.parametrize("name", ["starter", "../elsewhere", ""])
def test_names_that_cannot_be_found_again_are_refused(name: str, files: OfficialFiles, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no name for a bundle"):
        convert(files, choices(name=name), tmp_path / "bundle")


def test_a_failed_write_leaves_nothing(
    files: OfficialFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("soundctm.checkpoints.convert.shutil.copyfile", full_disk)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(CheckpointError, match="No space left"):
        convert(files, choices(), tmp_path / "bundle")
    assert sorted(tmp_path.iterdir()) == before


class _RunsACommand:
    """Unpickled without care, it would create a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_malicious_pickle_is_refused_and_not_run(zipped: bool, tmp_path: Path) -> None:
    evil, mark = tmp_path / "evil.pt", tmp_path / "was_here"
    torch.save({"state_dict": _RunsACommand(mark)}, evil, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"system.*Nothing in it was run"):
        read_pickle(evil)
    assert not mark.exists()


def test_truncated_and_absent_files_are_named(files: OfficialFiles, tmp_path: Path) -> None:
    files.student.write_bytes(files.student.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"ema\.pt"):
        read_pickle(files.student)
    (tmp_path / "empty.pt").touch()
    with pytest.raises(CheckpointError, match=r"empty\.pt"):
        read_pickle(tmp_path / "empty.pt")
    with pytest.raises(CheckpointError, match=r"nowhere\.pt is not a file"):
        read_pickle(tmp_path / "nowhere.pt")


def test_the_command_reports_and_fails_with_a_reason(files: OfficialFiles, tmp_path: Path) -> None:
    import typer

    from soundctm.checkpoints.cli import convert as command

    app = typer.Typer()
    app.command()(command)
    arguments = ["tiny", "--student", files.student, "--vae", files.vae, "--z-stats", files.z_stats]
    arguments += ["--tokenizer", files.tokenizer, "--heads", 2, "--text-heads", 2, "--out", tmp_path / "bundle"]
    words = [str(argument) for argument in arguments]
    failed = CliRunner().invoke(app, words)
    assert failed.exit_code == 2 and "CHECKPOINT_UNUSABLE" in failed.stderr
    done = CliRunner().invoke(app, [*words, "--variant", "v1"])
    assert done.exit_code == 0 and "audio_branch." in done.stdout
    open_bundle(tmp_path / "bundle").verify()
