"""Judging: prompts and seeds stay apart from training, the figures are what they claim, the command runs."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from soundctm_training.evaluate import BundleOptions, ClassifierOptions, evaluate_bundle, make_classifier
from soundctm_training.evaluation.bundle import judge_ratios, seeds_of_prompts
from soundctm_training.evaluation.classifier import (
    ClassifierFileError,
    SoundClassifier,
    load_classifier,
    save_classifier,
)
from soundctm_training.evaluation.classifier_training import (
    LabelledMels,
    TrainingSettings,
    augment,
    held_out_accuracy,
    hits,
    train_classifier,
)
from soundctm_training.evaluation.clips import PoolError, labelled_mels, pool_lengths, pool_mels
from soundctm_training.evaluation.log_mel import BANDS, filterbank, log_mel
from soundctm_training.evaluation.prompts import (
    LeakError,
    PromptError,
    canonical,
    chosen_prompts,
    held_out_prompts,
    remembered_wordings,
    require_fresh_seed,
    require_never_trained_on,
    training_captions,
)
from soundctm_training.evaluation.scores import clustered_rate, embedding, retrieval_hits
from soundctm_training.synth.captions import DRESSES, class_wordings, plain_phrases
from soundctm_training.synth.catalogue import LABELS
from soundctm_training.synth.recordings import recording_groups

SR = 44_100


def _producible() -> set[str]:
    plain = {phrase for label in LABELS for phrase in (*plain_phrases(label), *class_wordings().get(label, ()))}
    plain |= {caption for group in recording_groups() for caption in group.captions}
    return {canonical(text) for phrase in plain for text in (phrase, *(dress.format(phrase) for dress in DRESSES))}


def test_no_held_out_prompt_can_be_produced_by_the_captions_or_is_a_wording_remembered() -> None:
    prompts = held_out_prompts()
    assert set(prompts) == set(LABELS)
    assert all(len(set(texts)) >= 8 for texts in prompts.values())
    require_never_trained_on([text for texts in prompts.values() for text in texts], _producible())


def test_a_leaked_prompt_or_seed_is_refused(tmp_path: Path) -> None:
    row = {"caption": "The sound of heavy RAIN.", "label": "rain", "source": "synth"}
    (tmp_path / "meta_108.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(LeakError, match="heavy rain"):
        require_never_trained_on(["the sound of heavy rain"], training_captions(tmp_path))
    wording = class_wordings()["rain"][0]
    with pytest.raises(LeakError, match=re.escape(wording)):
        require_never_trained_on([wording], remembered_wordings())
    require_fresh_seed(2, [1])
    with pytest.raises(LeakError, match="seed 1"):
        require_fresh_seed(1, [1])


def test_a_tone_lands_in_the_band_of_its_frequency() -> None:
    t = np.arange(SR, dtype=np.float32) / SR
    mel = log_mel(np.sin(2 * np.pi * 1000 * t).astype(np.float32))
    assert mel.shape == (BANDS, SR // 1024 + 1)
    centre_hz = (filterbank() * torch.linspace(0, SR / 2, 1025)).sum(dim=1)
    assert abs(float(centre_hz[int(mel.mean(dim=1).argmax())]) - 1000) < 60  # half a band's width there


def test_augmentation_changes_clips_and_keeps_them_finite() -> None:
    mels = torch.randn(4, BANDS, 20) - 5
    changed = augment(mels, torch.Generator().manual_seed(0))
    assert changed.shape == mels.shape and torch.isfinite(changed).all() and not torch.equal(changed, mels)


def test_the_classifier_learns_to_tell_three_classes_apart_and_survives_the_disk(tmp_path: Path) -> None:
    labels = ("rain", "bell", "gun")
    train, test = (labelled_mels(labels, 8, seed, SR // 2) for seed in (1, 2))
    model = train_classifier(labels, [train], TrainingSettings(epochs=8, batch=8))
    assert hits(model, test).mean() > 0.7  # chance is a third
    save_classifier(model, tmp_path / "classifier.safetensors")
    loaded = load_classifier(tmp_path / "classifier.safetensors")
    audio = np.random.default_rng(0).standard_normal(SR).astype(np.float32)
    assert loaded.labels == labels
    assert np.array_equal(loaded.probabilities(audio), model.probabilities(audio))
    assert loaded.probabilities(audio).sum() == pytest.approx(1.0, abs=1e-5)


def test_pools_on_the_disk_give_the_clips_of_each_class_without_the_mixtures(tmp_path: Path) -> None:
    labels = ["rain", "bell", "rain", "rain+bell", "bell", "rain"]
    audio = (9000 * np.random.default_rng(0).standard_normal((6, 8192))).clip(-32767, 32767).astype(np.int16)
    np.save(tmp_path / "audio_8.npy", audio)
    lines = [json.dumps({"caption": "", "label": label, "source": "synth"}) for label in labels]
    (tmp_path / "meta_8.jsonl").write_text("\n".join(lines) + "\n")
    pool = pool_mels(tmp_path, 8, ("rain", "bell"), 2)
    assert pool_lengths(tmp_path) == [8] and pool.targets.tolist() == [0, 1, 0, 1]  # rows 0, 1, 2, 4
    assert torch.allclose(pool.mels[3].float(), log_mel(audio[4].astype(np.float32) / 32767), atol=0.01)
    with pytest.raises(PoolError, match="no clip of gun"):
        pool_mels(tmp_path, 8, ("rain", "gun"), 2)
    with pytest.raises(PoolError, match="synthesise"):
        pool_lengths(tmp_path / "elsewhere")


def test_the_accuracy_names_its_worst_class_first() -> None:
    model = SoundClassifier(("a", "b"))
    torch.nn.init.zeros_(model.head.weight)
    with torch.no_grad():
        model.head.bias.copy_(torch.tensor([1.0, 0.0]))  # always says a
    found = held_out_accuracy(model, LabelledMels(torch.randn(4, BANDS, 40), torch.tensor([0, 0, 0, 1])))
    assert found["top1"] == 0.75 and list(found["classes"].items()) == [("b", 0.0), ("a", 1.0)]


def test_a_foreign_file_is_no_classifier(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ClassifierFileError, match="no sound classifier"):
        load_classifier(tmp_path / "x.safetensors")


def test_the_level_of_a_clip_does_not_change_the_verdict() -> None:
    model = SoundClassifier(("a", "b"))
    mels = torch.randn(2, BANDS, 40)
    pool = LabelledMels(mels, torch.tensor([0, 1]))
    assert np.array_equal(hits(model, pool), hits(model, LabelledMels(mels + 3, pool.targets)))


def test_a_rate_counts_prompts_not_clips() -> None:
    rate = clustered_rate([[True, True], [False, False], [True, True], [True, True]])
    assert rate.value == 0.75 and rate.trials == 8
    assert rate.standard_error == pytest.approx(0.25)  # std of (1, 0, 1, 1) over sqrt(4)


def test_each_clip_retrieves_its_own_noisier_self_and_strangers_do_not() -> None:
    rng = np.random.default_rng(4)
    clips = [np.repeat(rng.random(20), SR // 10) * rng.standard_normal(2 * SR) for _ in range(6)]
    clean = np.stack([embedding(clip.astype(np.float32)) for clip in clips])
    noisy = np.stack([embedding((clip + 0.02 * rng.standard_normal(2 * SR)).astype(np.float32)) for clip in clips])
    assert retrieval_hits(clean, noisy, centred=True).all() and retrieval_hits(clean, noisy, centred=False).all()
    assert not retrieval_hits(clean, np.roll(noisy, 1, axis=0), centred=True).any()


def test_the_ratios_hold_their_targets_and_an_accuracy_of_zero_gives_none() -> None:
    def table(rate: float, se: float) -> dict[str, object]:
        return {"overall": {"top1": {"rate": rate, "se": se}}}

    real = {"synthesised": table(1.0, 0.0), "through_codec": table(0.8, 0.04)}
    found = judge_ratios(real, {"1": table(0.6, 0.03), "16": table(0.8, 0.0), "4": table(0.4, 0.0)})
    assert found["codec"]["ratio"] == 0.8 and not found["codec"]["reached"]
    assert found["1"]["ratio"] == 0.75 and found["1"]["reached_on_two_cores"] and not found["1"]["reached"]
    assert found["1"]["se"] == pytest.approx(0.75 * np.hypot(0.03 / 0.6, 0.04 / 0.8), abs=1e-4)
    assert found["16"]["reached"] and "target" not in found["4"]
    assert set(judge_ratios({**real, "through_codec": table(0.0, 0.0)}, {"1": table(0.1, 0.1)})) == {"codec"}


def test_prompts_of_every_class_are_chosen_and_a_class_without_is_named() -> None:
    assert {label: len(texts) for label, texts in chosen_prompts(("rain", "bell"), 3).items()} == {"rain": 3, "bell": 3}
    with pytest.raises(PromptError, match="unicorn"):
        chosen_prompts(("rain", "unicorn"), 3)


def test_no_prompt_of_a_class_shares_a_seed_with_another() -> None:
    assert seeds_of_prompts([7, 8], 3) == [[7, 8], [9, 10], [11, 12]]


def test_judging_a_bundle_fills_the_whole_table(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    labels = ("rain", "bell", "gun")
    save_classifier(SoundClassifier(labels), tmp_path / "classifier.safetensors")
    out = tmp_path / "report.json"
    options = BundleOptions(
        str(tiny_bundle_dir), tmp_path / "classifier.safetensors", out, steps=(1, 2), per_class=1, seeds_per_prompt=1,
        real_per_class=1, retrieval_prompts=2, retrieval_seeds=3, seconds=0.5, omega=2.0, sheet=tmp_path / "sheet.png",
    )
    evaluate_bundle(options)
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["omega"] == 2.0 and report["seconds"] == 0.5
    assert report["bundle"] == "tiny" and set(report["jumps"]) == {"1", "2"} and not report["freshness_checked"]
    for table in (*report["jumps"].values(), *report["real"].values()):
        assert set(table["classes"]) == set(labels) and table["overall"]["top1"]["n"] == len(labels)
        assert 0 <= table["overall"]["top1"]["rate"] <= table["overall"]["top5"]["rate"] <= 1
    assert report["real"]["through_codec"]["distances"]["lsd_db"]["mean"] > 0
    assert report["ratios"].keys() <= {"codec", "1", "2"}
    assert report["retrieval"]["centred"]["n"] == 6 and report["retrieval"]["chance"] == pytest.approx(1 / 3, abs=1e-4)
    assert (tmp_path / "sheet.png").stat().st_size > 0


def test_the_classifier_refuses_a_test_seed_that_drew_the_training_clips(tmp_path: Path) -> None:
    with pytest.raises(LeakError, match="seed 5"):
        make_classifier(ClassifierOptions(tmp_path / "c.safetensors", seed=5, test_seed=5))
