"""Published files come from a small hub on this machine: whole, broken off, altered, refused, without a licence."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from typer.testing import CliRunner

from hub_stand_in import COMMIT, PATIENCE_SECONDS, STUDENT, VAE, Z_STATS, Published, serving
from soundctm.bundle import installed_names, open_bundle
from soundctm.errors import (
    FetchDigestError,
    FetchError,
    FetchForbiddenError,
    FetchNotFoundError,
    FetchSpaceError,
    FetchUnreachableError,
)
from soundctm.fetching import cli, transfer
from soundctm.fetching.fetch import Offer, fetch, make_offer
from soundctm.fetching.hub import Hub
from soundctm.fetching.sources import find_source, read_sources, sources_file
from soundctm.licences import NONE_STATED, AcceptedLicences
from soundctm.models_cli import models as app
from soundctm.settings import licences_dir, models_dir

GOLDEN = Path(__file__).parents[1] / "golden" / "dit"
runner = CliRunner()


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """Tiny files of the published format, by repository."""
    folder = tmp_path_factory.mktemp("official")
    clap = {f"text_encoder.model.{k}": t for k, t in load_file(GOLDEN / "text" / "weights.safetensors").items()}
    torch.save(load_file(GOLDEN / "v1" / "student.safetensors") | clap, folder / "ema.pt")
    vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    vocabulary |= json.loads((GOLDEN / "text" / "cases.json").read_text())["meta"]["vocab"]
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    tokenizer.save(str(folder / "tokenizer.json"))
    ckpt = GOLDEN / "vae" / "ckpt"
    weights = {
        STUDENT: (folder / "ema.pt").read_bytes(),
        VAE: (ckpt / "gaussiandac" / "weights.pth").read_bytes(),
        Z_STATS: (ckpt / "z_stats.pth").read_bytes(),
    }
    return {"lab/dit": weights, "lab/words": {"tokenizer.json": (folder / "tokenizer.json").read_bytes()}}


@pytest.fixture
def published(official: dict[str, dict[str, bytes]]) -> Published:
    files = {repository: dict(files) for repository, files in official.items()}
    files["lab/dit"]["LICENSE"] = b"Not for sale.\x1b[2J\n"
    cards = {"lab/dit": {"cardData": {"license": "cc-by-nc-4.0"}}, "lab/words": {"tags": ["license:mit"]}}
    return Published(files, cards)


@pytest.fixture
def endpoint(published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The stand-in runs; the command knows it, and a table that names its files."""
    table = tmp_path / "sources.toml"
    table.write_text(f"""
        repositories."lab/dit" = {{ revision = "main", licence = "" }}
        repositories."lab/words" = {{ revision = "main", licence = "" }}
        [models.minute]
        description = "random weights"
        variant = "v1"
        num_heads = 2
        text_heads = 2
        student = {{ repository = "lab/dit", path = "{STUDENT}" }}
        vae = {{ repository = "lab/dit", path = "{VAE}" }}
        z_stats = {{ repository = "lab/dit", path = "{Z_STATS}" }}
        tokenizer = {{ repository = "lab/words", path = "tokenizer.json" }}
    """)
    monkeypatch.setattr(cli, "sources_file", lambda: table)
    with serving(published) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield url


@pytest.fixture
def offer(endpoint: str) -> Offer:
    return make_offer(find_source("minute", cli.sources_file()), Hub(endpoint, None))


def run(*words: str, answers: str = "") -> Any:
    return runner.invoke(app, ["fetch", "minute", *words], input=answers)


def no_pause(seconds: float) -> None:
    pass


def leftovers() -> list[str]:
    return sorted(str(path.relative_to(models_dir())) for path in models_dir().rglob("*") if path.is_file())


def test_the_licence_is_shown_and_asked_for_and_the_model_is_installed_and_accepted(endpoint: str) -> None:
    done = run(answers="y\n")
    assert done.exit_code == 0, done.stderr
    assert "Licence of lab/dit: cc-by-nc-4.0" in done.stderr and "Licence of lab/words: mit" in done.stderr
    assert "Not for sale." in done.stderr and "\x1b[2J" not in done.stderr
    bundle = open_bundle(models_dir() / "minute")
    bundle.verify()
    assert bundle.spec.licence == "cc-by-nc-4.0" and bundle.spec.restricted
    assert f"{STUDENT} of lab/dit at {COMMIT}" in bundle.spec.provenance
    assert "Not for sale." in (bundle.path / "LICENCE").read_text()
    assert (bundle.digest, "cc-by-nc-4.0") in AcceptedLicences(licences_dir())
    assert leftovers() == sorted(f"minute/{name}" for name in (*bundle.files, "bundle.json"))


def test_a_publisher_who_states_no_licence_is_named_and_the_question_asked(published: Published, endpoint: str) -> None:
    published.cards.pop("lab/dit")
    refused = run(answers="n\n")
    assert refused.exit_code == 2 and "LICENCE_NOT_ACCEPTED" in refused.stderr
    assert "Licence of lab/dit: its publisher states none." in refused.stderr
    assert "Fetch it anyway?" in refused.stderr
    assert run("--accept-licence").exit_code == 0
    assert open_bundle(models_dir() / "minute").spec.licence == NONE_STATED


@pytest.mark.parametrize("answers", ["n\n", "", "\n"], ids=["no", "silence", "enter"])
def test_without_a_yes_no_file_is_fetched(published: Published, endpoint: str, answers: str) -> None:
    refused = run(answers=answers)
    assert refused.exit_code == 2 and "LICENCE_NOT_ACCEPTED" in refused.stderr
    assert not published.ranges_asked(STUDENT) and not models_dir().exists()


def test_a_broken_transfer_goes_on_where_it_was(published: Published, endpoint: str, offer: Offer) -> None:
    size = len(published.files["lab/dit"][STUDENT])
    published.cut[STUDENT] = [1000, 500]
    counts: list[int] = []
    bundle = fetch(offer, Hub(endpoint, None), models_dir(), counts.append)
    bundle.verify()
    assert published.ranges_asked(STUDENT)[::2] == [None, "bytes=1000-", "bytes=1500-"]  # each is redirected once
    assert sum(counts) == offer.size_bytes > size


def test_a_transfer_that_brings_nothing_ends_and_the_next_call_goes_on(
    published: Published, endpoint: str, offer: Offer
) -> None:
    wanted, folder = offer.files["student"], models_dir() / "downloads"
    published.cut[STUDENT] = [1000, 0, 0, 0, 0, 0]
    pauses: list[float] = []
    with pytest.raises(FetchError, match=r"broke off at 1000 of \d+ bytes, 5 times"):
        transfer.fetch_file(Hub(endpoint, None), wanted, folder, pause=pauses.append)
    assert pauses == [1.0, 2.0, 4.0, 8.0]
    published.requests.clear()
    path = transfer.fetch_file(Hub(endpoint, None), wanted, folder, pause=no_pause)
    assert published.ranges_asked(STUDENT)[0] == "bytes=1000-"
    assert path.read_bytes() == published.files["lab/dit"][STUDENT]


def test_a_hub_that_cannot_resume_starts_over(published: Published, endpoint: str, offer: Offer) -> None:
    published.ranges, published.cut[STUDENT] = False, [1000]
    counts: list[int] = []
    path = transfer.fetch_file(
        Hub(endpoint, None), offer.files["student"], models_dir(), counts.append, pause=no_pause
    )
    assert path.read_bytes() == published.files["lab/dit"][STUDENT]
    assert sum(counts) == path.stat().st_size


@pytest.mark.parametrize("path", [STUDENT, "tokenizer.json"], ids=["sha256", "git object"])
def test_a_file_of_another_digest_is_removed_and_nothing_installed(
    published: Published, endpoint: str, path: str
) -> None:
    whole = published.files["lab/words" if path.endswith("json") else "lab/dit"][path]
    published.altered[path] = b"evil" + whole[4:]
    failed = run("--accept-licence")
    assert failed.exit_code == 2 and "FETCH_DIGEST_MISMATCH" in failed.stderr and path in failed.stderr
    assert installed_names() == ["starter"]
    assert not [name for name in leftovers() if Path(path).name in name]
    published.altered.clear()
    assert run("--accept-licence").exit_code == 0


def test_longer_answers_are_cut_at_the_size_the_hub_names(published: Published, endpoint: str, offer: Offer) -> None:
    whole = published.files["lab/dit"][Z_STATS]
    published.altered[Z_STATS] = whole + b"more" * 1000
    path = transfer.fetch_file(Hub(endpoint, None), offer.files["z_stats"], models_dir())
    assert path.read_bytes() == whole


def test_a_pinned_digest_outranks_the_hubs(endpoint: str) -> None:
    source = find_source("minute", cli.sources_file())
    pinned = {**source.files, "vae": replace(source.files["vae"], sha256="0" * 64)}
    with pytest.raises(FetchDigestError, match="was changed by its publisher"):
        make_offer(replace(source, files=pinned), Hub(endpoint, None))


def test_a_disk_without_room_is_told_before_anything_is_fetched(
    published: Published, endpoint: str, offer: Offer
) -> None:
    published.requests.clear()
    with pytest.raises(FetchSpaceError, match=r"needs 0\.\d GB of disk.*has 0\.0 GB free"):
        fetch(offer, Hub(endpoint, None), models_dir(), free_bytes=lambda folder: 1000)
    assert not published.requests


def test_a_disk_that_fills_up_keeps_what_is_there(
    published: Published, endpoint: str, offer: Offer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, mode: str) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        with pytest.raises(FetchSpaceError, match="is full"):
            transfer.fetch_file(Hub(endpoint, None), offer.files["student"], models_dir())
    transfer.fetch_file(Hub(endpoint, None), offer.files["student"], models_dir())


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [(401, FetchForbiddenError, "HF_TOKEN"), (403, FetchForbiddenError, "HF_TOKEN"),
     (404, FetchNotFoundError, "soundctm models convert"), (503, FetchUnreachableError, "HTTP 503")],
)  # fmt: skip
def test_refusals_say_what_to_do(
    published: Published, endpoint: str, status: int, kind: type[FetchError], says: str
) -> None:
    published.status["/api/models/lab/dit/revision/main"] = status
    with pytest.raises(kind, match=says):
        make_offer(find_source("minute", cli.sources_file()), Hub(endpoint, None))
    failed = run()
    assert failed.exit_code == 2 and kind.reason in failed.stderr


def test_a_file_that_is_gone_is_named(published: Published, endpoint: str) -> None:
    del published.files["lab/dit"][VAE]
    failed = run()
    assert failed.exit_code == 2 and "FETCH_NOT_FOUND" in failed.stderr and VAE in failed.stderr


def test_nobody_there_is_told(endpoint: str) -> None:
    with pytest.raises(FetchUnreachableError, match="cannot be reached"):
        Hub("http://127.0.0.1:9", None).record("lab/dit", "main")


@pytest.mark.parametrize(
    "damage",
    [lambda record: record.update(sha="../../etc"), lambda record: record.update(siblings=None),
     lambda record: record["siblings"][0]["lfs"].update(sha256="../../../evil"),
     lambda record: record["siblings"][0]["lfs"].update(size=-1), lambda record: record.pop("sha")],
)  # fmt: skip
def test_a_record_that_is_none_is_refused(
    published: Published, endpoint: str, damage: Callable[[dict[str, Any]], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = published.record("lab/dit")
    damage(record)
    monkeypatch.setattr(published, "record", lambda repository: record)
    with pytest.raises(FetchError, match="something else than the record of lab/dit"):
        Hub(endpoint, None).record("lab/dit", "main")


def test_a_file_without_any_hash_is_not_fetched(
    published: Published, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = published.record("lab/words")
    del record["siblings"][0]["blobId"]
    of_dit = published.record("lab/dit")
    monkeypatch.setattr(published, "record", lambda repository: record if repository == "lab/words" else of_dit)
    failed = run()
    assert failed.exit_code == 2 and "cannot be verified" in failed.stderr


def test_the_token_goes_to_the_hub_and_to_no_other_host(published: Published, endpoint: str) -> None:
    hub = Hub(endpoint, "secret")
    hub.open_file("lab/words", COMMIT, "tokenizer.json").close()
    assert [token for _, _, token in published.requests] == ["Bearer secret", "Bearer secret"]
    storage = Published(published.files)
    with serving(storage) as published.files_at:
        hub.open_file("lab/words", COMMIT, "tokenizer.json").close()
    assert published.requests[-1][2] == "Bearer secret"
    assert [token for _, _, token in storage.requests] == [None]


@pytest.mark.parametrize("address", ["http://hub.example", "ftp://hub.example", "file:///etc", "hub.example"])
def test_only_https_or_this_machine_is_a_hub(address: str) -> None:
    with pytest.raises(FetchError, match="allowed: https"):
        Hub(address, None)


def test_an_installed_model_is_not_overwritten(endpoint: str) -> None:
    (models_dir() / "minute").mkdir(parents=True)
    failed = run("--accept-licence")
    assert failed.exit_code == 2 and "soundctm models remove minute" in failed.stderr


def test_unknown_names_are_told_the_known_ones() -> None:
    failed = runner.invoke(app, ["fetch", "nothing"])
    assert failed.exit_code == 2 and "known: soundctm-v1, soundctm-v2" in " ".join(failed.stderr.split())


def test_the_packages_table_names_every_file_the_converter_needs() -> None:
    for source in read_sources(sources_file()).values():
        assert source.files.keys() == {"student", "vae", "z_stats", "tokenizer"}
        assert source.variant in ("v1", "v2")


def test_ctrl_c_keeps_what_is_there_and_the_next_call_goes_on(
    published: Published, endpoint: str, tmp_path: Path
) -> None:
    published.held_at = 2000
    command = (
        "import signal, sys; from pathlib import Path;"
        "from soundctm.fetching import cli; from soundctm.models_cli import models;"
        # a shell that starts the tests in the background has them ignore Ctrl-C
        "signal.signal(signal.SIGINT, signal.default_int_handler);"
        f"cli.sources_file = lambda: Path({str(tmp_path / 'sources.toml')!r});"
        "sys.argv = ['models', 'fetch', 'minute', '--accept-licence']; models()"
    )
    process = subprocess.Popen([sys.executable, "-c", command], env=dict(os.environ), stderr=subprocess.PIPE)
    assert published.holding.wait(PATIENCE_SECONDS)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130 and b"goes on from there" in told
    partial = next(models_dir().rglob("*.partial"))
    kept = partial.stat().st_size
    assert partial.read_bytes() == published.files["lab/dit"][STUDENT][:kept]
    published.go_on.set()
    published.requests.clear()
    assert run("--accept-licence").exit_code == 0
    assert published.ranges_asked(STUDENT)[0] == (f"bytes={kept}-" if kept else None)
    shutil.rmtree(models_dir())
