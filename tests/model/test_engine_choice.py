"""Which engine is chosen, and what is said of it: rules over a table."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from soundctm.bundle import Bundle, open_bundle
from soundctm.engines.choosing import Able, EngineKind, Unable, Wanted, choices, explained
from soundctm.engines.protocol import Engine
from soundctm.engines.registry import ENGINES, numbers_in
from soundctm.errors import DigestMismatchError, EngineUnavailableError
from soundctm.exports import EXPORTS, exported_folders


@pytest.fixture
def bundle(tiniest_bundle_dir: Path) -> Bundle:
    return open_bundle(tiniest_bundle_dir)


def row(name: str, speed: float | None = 1.0, snr_db: float = math.inf, problem: str = "") -> EngineKind:
    def judge(bundle: Bundle, wanted: Wanted) -> Able | Unable:
        return Unable(problem) if problem else Able(f"{name} at work", bundle, speed, snr_db)

    def load(bundle: Bundle, wanted: Wanted) -> Engine:
        raise NotImplementedError("nothing is loaded to choose")

    return EngineKind(name, "", judge, load, Bundle.verify, lambda bundle: 0)


TABLE = (
    row("plain"),
    row("quick", 3.0, 41),
    row("rough", 9.0, 39.9),
    row("untimed", None),
    row("absent", 99.0, problem="it is not installed"),
    row("exact", 2.0),
)


def test_auto_takes_the_fastest_that_keeps_40_db_and_then_the_next(bundle: Bundle) -> None:
    assert [choice.kind.name for choice in choices(bundle, Wanted(), TABLE)] == ["quick", "exact", "plain"]
    assert choices(bundle, Wanted(), TABLE)[0].reason == "quick at work; the fastest that keeps 40 dB"


def test_of_equally_fast_ones_the_tables_first_is_taken(bundle: Bundle) -> None:
    assert choices(bundle, Wanted(), (row("one"), row("two")))[0].kind.name == "one"


@pytest.mark.parametrize("name", ["plain", "rough", "untimed"])
def test_a_name_takes_that_engine_whatever_its_error(bundle: Bundle, name: str) -> None:
    (choice,) = choices(bundle, Wanted(name), TABLE)
    assert (choice.kind.name, choice.reason) == (name, f"{name} at work; asked for by name")


def test_who_asks_for_what_cannot_run_is_told_why(bundle: Bundle) -> None:
    with pytest.raises(EngineUnavailableError, match="'absent' cannot run the model 'tiny': it is not installed"):
        choices(bundle, Wanted("absent"), TABLE)
    with pytest.raises(EngineUnavailableError, match="engine is 'warp'; allowed: auto, plain, quick, rough, "):
        choices(bundle, Wanted("warp"), TABLE)
    with pytest.raises(EngineUnavailableError, match=r"no engine can run .* on cpu: it is not installed"):
        choices(bundle, Wanted(), TABLE[4:5])


def test_every_engine_is_accounted_for_in_words(bundle: Bundle) -> None:
    assert explained(bundle, Wanted(), TABLE).split("; ") == [
        "quick (quick at work", "the fastest that keeps 40 dB)",
        "not rough: rough at work: less than 40 dB, so only when it is asked for by name",
        "not untimed: untimed at work: nobody has timed it, so only when it is asked for by name",
        "not absent: it is not installed",
        "not exact: exact at work: slower",
        "not plain: plain at work: slower",
    ]  # fmt: skip


def chosen(bundle: Bundle, wanted: Wanted = Wanted()) -> tuple[str, Path]:  # noqa: B008 (frozen)
    choice = choices(bundle, wanted, ENGINES)[0]
    return choice.kind.name, choice.able.bundle.path


def installed(exported: Path, name: str, change: Callable[[dict[str, Any]], object] = lambda data: None) -> Path:
    """A copy in the models folder, its list of graphs changed."""
    folder = shutil.copytree(exported, Path(os.environ["SOUNDCTM_MODELS"]) / name)
    data = json.loads((folder / EXPORTS).read_text())
    change(data)
    (folder / EXPORTS).write_text(json.dumps(data))
    return folder


def told(precision: str, snr_db: int) -> Callable[[dict[str, Any]], None]:
    """As an export in another precision would say of its jump."""

    def change(data: dict[str, Any]) -> None:
        record = next(record for record in data["graphs"] if record["role"] == "jump")
        record.update(precision=precision, snr_db=snr_db)

    return change


def test_a_bundle_without_graphs_runs_on_pytorch(bundle: Bundle) -> None:
    assert chosen(bundle) == ("torch", bundle.path)
    said = explained(bundle, Wanted(), ENGINES)
    assert "not onnx: no graphs of it are installed; make them: `soundctm export onnx tiny -o " in said
    assert "not onnx-cuda: it computes on cuda, `device` is cpu" in said


def test_graphs_are_found_beside_the_bundle_and_in_installed_exports_of_it(
    bundle: Bundle, exported_tiny_dir: Path
) -> None:
    assert chosen(open_bundle(exported_tiny_dir)) == ("onnx", exported_tiny_dir)
    folder = installed(exported_tiny_dir, "elsewhere")
    assert chosen(bundle) == ("onnx", folder)
    assert chosen(bundle, Wanted("torch")) == ("torch", bundle.path)


def test_of_several_exports_the_fastest_that_keeps_40_db_is_taken(bundle: Bundle, exported_tiny_dir: Path) -> None:
    installed(exported_tiny_dir, "a-rough", told("int8", 33))
    plain = installed(exported_tiny_dir, "b-plain")
    assert chosen(bundle) == ("onnx", plain)
    quick = installed(exported_tiny_dir, "c-quick", told("int8", 44))
    assert chosen(bundle) == ("onnx", quick)


def test_rough_graphs_are_taken_when_they_are_asked_for(bundle: Bundle, exported_tiny_dir: Path) -> None:
    rough = installed(exported_tiny_dir, "rough", told("int8", 33))
    assert chosen(bundle) == ("torch", bundle.path)
    assert chosen(bundle, Wanted("onnx")) == ("onnx", rough)


def test_a_bundles_own_bad_list_is_told_and_anothers_is_not_its_matter(bundle: Bundle, exported_tiny_dir: Path) -> None:
    broken = open_bundle(installed(exported_tiny_dir, "broken", lambda data: data.update(format=9)))
    assert exported_folders(bundle) == []
    assert "not onnx: " in explained(broken, Wanted(), ENGINES)
    assert "has format 9" in explained(broken, Wanted(), ENGINES)
    with pytest.raises(EngineUnavailableError, match="has format 9"):
        choices(broken, Wanted("onnx"), ENGINES)


def test_graphs_for_a_device_that_this_runtime_lacks(bundle: Bundle, exported_tiny_dir: Path) -> None:
    installed(exported_tiny_dir, "graphs")
    on_cuda = Wanted("onnx-cuda", device="cuda:1")
    with pytest.raises(EngineUnavailableError, match=r"this ONNX Runtime has: .*CPUExecutionProvider"):
        choices(bundle, on_cuda, ENGINES)
    allowed = choices(bundle, Wanted("onnx-cuda", "cuda:1", allow_cpu=True), ENGINES)[0]
    assert "on the CPU as allowed" in allowed.reason
    with pytest.raises(EngineUnavailableError, match="it computes on cpu, `device` is cuda:1"):
        choices(bundle, Wanted("onnx", "cuda:1"), ENGINES)


def test_what_an_engine_will_take_and_whether_its_files_are_whole(bundle: Bundle, exported_tiny_dir: Path) -> None:
    folder = installed(exported_tiny_dir, "graphs")
    onnx, torch = (choices(bundle, Wanted(name), ENGINES)[0] for name in ("onnx", "torch"))
    sizes = {path.name: path.stat().st_size for path in folder.glob("*.onnx*")}
    assert onnx.expected_bytes() == sum(sizes.values()) - sizes["preview.onnx"]
    assert torch.expected_bytes() == 4 * numbers_in(bundle)
    onnx.verify()
    torch.verify()
    (folder / "jump.onnx.data").write_bytes(b"")
    with pytest.raises(DigestMismatchError, match=r"jump\.onnx\.data"):
        onnx.verify()


_SESSION = """
import sys
import soundctm
import onnxruntime
onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
"""


def test_the_runtime_reports_nothing_to_its_maker(exported_tiny_dir: Path, tmp_path: Path) -> None:
    """Where it does, it keeps a device's id and what it has not yet sent in the user's cache."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-c", _SESSION, str(exported_tiny_dir / "text.onnx")]
    subprocess.run(command, check=True, env={**environment, **home})
    assert not list(tmp_path.rglob("*onnxruntime*"))
