"""A bundle that says what it was trained on tells prompts it knows from prompts it does not."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from soundctm.bundle import FAMILIAR_FILE, Bundle, open_bundle, write_manifest
from soundctm.engines.torch import load_engine
from soundctm.errors import BundleError, DigestMismatchError
from soundctm.familiarity import FamiliarTable, read_familiar_table, write_familiar_table
from soundctm.text.loading import load_text_encoder
from soundctm.text.pooling import sentence_embedding
from tiny import TINY_SPEC, write_familiar_texts

KNOWN = {"rain on a tin roof": "rain", "dog barks": "dog"}


@pytest.fixture
def bundle(tiny_bundle_dir: Path, tmp_path: Path) -> Bundle:
    return write_familiar_texts(open_bundle(Path(shutil.copytree(tiny_bundle_dir, tmp_path / "tiny"))), KNOWN, 0.999)


def test_a_known_prompt_is_familiar_and_names_its_label(bundle: Bundle) -> None:
    engine = load_engine(bundle)
    for prompt, label in KNOWN.items():
        known = engine.familiarity(prompt)
        assert known is not None and not known.unfamiliar
        assert (known.label, known.similarity) == (label, pytest.approx(1.0, abs=1e-3))  # stored in half precision


def test_an_unknown_prompt_is_told_with_the_nearest_label(bundle: Bundle) -> None:
    engine, encoder = load_engine(bundle), load_text_encoder(bundle)
    found = engine.familiarity("thunder")
    assert found is not None and found.unfamiliar and found.threshold == 0.999
    asked, *texts = (sentence_embedding(*encoder.encode([text])) for text in ("thunder", *KNOWN))
    near = {label: float((asked * text).sum()) for text, label in zip(texts, KNOWN.values(), strict=True)}
    assert found.label == max(near, key=near.__getitem__)
    assert found.similarity == pytest.approx(max(near.values()), abs=1e-3)


def test_what_lies_nearer_to_a_thing_it_does_not_make_is_unfamiliar() -> None:
    rain, door, between = np.eye(3, dtype=np.float32)[0], np.eye(3, dtype=np.float32)[1], np.float32([0.6, 0.8, 0])
    table = FamiliarTable(np.stack([rain, door]), ("rain", "door"), 0.5, frozenset({"door"}))
    assert table.known == {"rain"}
    found = table.nearest(between)
    assert (found.label, found.similarity, found.threshold) == ("rain", pytest.approx(0.6), pytest.approx(0.8))
    assert found.unfamiliar
    assert not table.nearest(between[[1, 0, 2]]).unfamiliar


def test_what_it_does_not_make_is_kept_in_the_bundle(bundle: Bundle) -> None:
    embeddings = np.eye(TINY_SPEC.text.dim, dtype=np.float32)[:2]
    table = FamiliarTable(embeddings, ("rain", "door"), 0.5, frozenset({"door"}))
    write_familiar_table(table, bundle.path / FAMILIAR_FILE)
    read = read_familiar_table(write_manifest(bundle.path, bundle.spec))
    assert read is not None and read.unlike == {"door"} and read.known == {"rain"}
    write_familiar_table(replace(table, unlike=frozenset({"door", "rain"})), bundle.path / FAMILIAR_FILE)
    with pytest.raises(BundleError, match="a thing it makes"):
        read_familiar_table(write_manifest(bundle.path, bundle.spec))


def test_prompts_become_unit_vectors_whoever_is_asked_beside_them(bundle: Bundle, tiny_bundle_dir: Path) -> None:
    prompts = ["rain on a tin roof", "thunder", "rain on a tin roof"]
    vectors = load_engine(bundle).embed(prompts)
    assert vectors.shape == (3, TINY_SPEC.text.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert vectors[0] @ vectors[1] < 0.999
    np.testing.assert_array_equal(load_engine(open_bundle(tiny_bundle_dir)).embed(["thunder"])[0], vectors[1])


def test_the_text_encoder_runs_once_for_clip_and_familiarity(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load_engine(bundle)
    encoded: list[str] = []
    encode = engine._text.encode

    def counted(prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        encoded.extend(prompts)
        return encode(prompts)

    monkeypatch.setattr(engine._text, "encode", counted)
    engine.encode_text(["thunder"])
    engine.familiarity("thunder")
    engine.embed(["thunder"])
    assert encoded == ["thunder"]


def test_a_bundle_without_the_table_has_no_opinion(tiny_bundle_dir: Path) -> None:
    bundle = open_bundle(tiny_bundle_dir)
    assert FAMILIAR_FILE not in bundle.files
    assert load_engine(bundle).familiarity("quarterly earnings") is None


def test_padding_is_no_part_of_a_sentence() -> None:
    tokens = torch.tensor([[[3.0, 0.0], [1.0, 4.0], [9.0, 9.0]]])
    embedding = sentence_embedding(tokens, torch.tensor([[True, True, False]]))
    torch.testing.assert_close(embedding, torch.tensor([[1.0, 1.0]]) / 2**0.5)


def test_the_table_is_under_the_manifest(bundle: Bundle) -> None:
    path = bundle.path / FAMILIAR_FILE
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(DigestMismatchError, match=FAMILIAR_FILE):
        load_engine(bundle)


@pytest.mark.parametrize(
    ("labels", "threshold", "message"),
    [(("rain",), 0.5, "1 labels"), (("rain", "dog"), float("nan"), "no cosine"), (("rain", "dog"), 7.0, "no cosine")],
)
def test_a_table_that_cannot_be_is_refused(
    bundle: Bundle, labels: tuple[str, ...], threshold: float, message: str
) -> None:
    embeddings = np.ones((2, TINY_SPEC.text.dim), np.float32)
    write_familiar_table(FamiliarTable(embeddings, labels, threshold), bundle.path / FAMILIAR_FILE)
    with pytest.raises(BundleError, match=message):
        read_familiar_table(write_manifest(bundle.path, bundle.spec))


def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    table = FamiliarTable(np.eye(3, dtype=np.float32), ("rain", "door", "dog"), 0.5, frozenset({"door", "dog"}))
    for copy in range(8):
        write_familiar_table(table, tmp_path / str(copy))
    assert len({(tmp_path / str(copy)).read_bytes() for copy in range(8)}) == 1


@pytest.mark.parametrize("damage", ["no safetensors", "no labels", "labels of another kind"])
def test_a_file_that_is_no_table_is_named(bundle: Bundle, damage: str) -> None:
    path = bundle.path / FAMILIAR_FILE
    if damage == "no labels":
        save_file({"embeddings": np.ones((1, TINY_SPEC.text.dim), np.float16)}, path)
    elif damage == "labels of another kind":
        save_file({"embeddings": np.ones((1, TINY_SPEC.text.dim), np.float16)}, path, {"table": "[1]"})
    else:
        path.write_bytes(b"not a tensor in sight")
    with pytest.raises(BundleError, match=FAMILIAR_FILE):
        read_familiar_table(write_manifest(bundle.path, bundle.spec))
