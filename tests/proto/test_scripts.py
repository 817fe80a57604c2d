"""The scripts of docs/scripting.md do what the page says."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from running_daemon import RunningDaemon
from soundgen.client import Client

DOCS = Path(__file__).parents[2] / "docs"
SCRIPTS = sorted(path.stem for path in (DOCS / "scripts").glob("*.py"))
Run = Callable[..., list[str]]


@pytest.fixture
def client(models: Path) -> Iterator[Client]:
    with RunningDaemon(), Client() as connected:
        yield connected


@pytest.fixture
def run(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """A script with arguments in an empty folder -> the lines it prints."""
    monkeypatch.chdir(tmp_path)

    def run_script(name: str, *arguments: str) -> list[str]:
        monkeypatch.setattr("sys.argv", [f"{name}.py", *arguments])
        runpy.run_path(str(DOCS / "scripts" / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return run_script


def test_the_page_shows_every_script_as_it_is() -> None:
    page = (DOCS / "scripting.md").read_text()
    shown = dict(re.findall(r"\[`(\w+)\.py`\]\(scripts/\1\.py\)\n\n```python\n(.*?)```\n", page, flags=re.DOTALL))
    assert shown == {name: (DOCS / "scripts" / f"{name}.py").read_text() for name in SCRIPTS}


def test_every_script_is_run_here() -> None:
    run_here = set(re.findall(r'run\(\s*"(\w+)"', Path(__file__).read_text()))
    assert run_here == set(SCRIPTS)


def test_generate(run: Run, client: Client) -> None:
    (line,) = run("generate", "heavy rain", "rain.wav")
    (clip,) = client.all_clips()
    assert Path("rain.wav").read_bytes() == clip.path.read_bytes()
    assert line == f"rain.wav: 4.00 s, seed {clip.recipe.seed if clip.recipe else None}, id {clip.id}"


def test_variations(run: Run, client: Client) -> None:
    told = run("variations", "dog barks")
    refined, *previews = client.all_clips()
    assert len(previews) == 8
    assert refined.parent_id in {clip.id for clip in previews}
    assert told[-1].endswith(str(refined.path))
    assert refined.recipe is not None
    assert refined.recipe.steps == 16


def test_progressive(run: Run, client: Client) -> None:
    first = client.generate("rain", seconds=0.5).clip()
    told = run("progressive", first.id)
    takes = {clip.recipe.steps: clip for clip in client.all_clips() if clip.recipe is not None}
    assert told
    for steps, line in zip((2, 4, 8, 16), told, strict=False):
        assert line.startswith(f"{steps} jumps")
        assert line.endswith(str(takes[steps].path))


def test_pack(run: Run, client: Client) -> None:
    rows = ["file,prompt,seconds", "rain.flac,heavy rain,0.5", "bad.wav,,0.5", "dog.mp3,dog barks,0.5"]
    Path("sounds.csv").write_text("\n".join(rows))
    rain, bad, dog = run("pack", "sounds.csv", "pack")
    assert (rain, dog) == ("pack/rain.flac", "pack/dog.mp3")
    assert bad.startswith("pack/bad.wav: prompt is empty")
    assert soundfile.info(rain).frames == 22050
    (again,) = run("pack", "sounds.csv", "pack")
    assert again == bad
    assert len(list(client.all_clips())) == 2


def test_deadline(run: Run, client: Client) -> None:
    (line,) = run("deadline", "thunder", "60")
    (clip,) = client.all_clips()
    assert line.startswith("16 jumps in")
    assert line.endswith(str(clip.path))


def test_search(run: Run, client: Client) -> None:
    assert run("search", "thunder") == []
    rain, dog = (client.generate(prompt, seconds=0.5).clip() for prompt in ("heavy rain", "dog barks"))
    nearest, other, like, *_ = run("search", "dog barks")
    assert nearest == f"1.00  dog barks  {dog.path}"
    assert other.endswith(str(rain.path))
    assert like == "like 'dog barks':"


def test_curate(run: Run, client: Client) -> None:
    preview = client.generate("heavy rain", seconds=0.5).clip()
    refined = client.refine(preview.id, steps=2).clip()
    client.generate("dog barks", seconds=0.5).clip()
    assert run("curate", "rain", "Weather") == [f"{refined.id}  heavy rain  weather"]
    assert [clip.id for clip in client.all_clips(tags=["weather"])] == [refined.id, preview.id]


def test_bring_in(run: Run, client: Client) -> None:
    folder = Path("recordings")
    (folder / "sub").mkdir(parents=True)
    soundfile.write(folder / "door.wav", 0.1 * np.sin(np.arange(4410) / 9.0), 44100)
    (folder / "notes.txt").write_text("no sound")
    door, notes, sub = run("bring_in", "recordings", "field")
    (clip,) = client.all_clips(tags=["field"])
    assert door == f"{clip.id}  door  0.10 s"
    assert notes.startswith("notes.txt: ")
    assert sub.startswith("sub: ")


def test_again(run: Run, client: Client) -> None:
    first = client.generate("heavy rain", seconds=0.5).clip()
    _, by_id = run("again", first.id)
    recipe_json, by_file = run("again", str(first.path))
    clips = {str(clip.path): clip for clip in client.all_clips()}
    for line in (by_id, by_file):
        assert clips[line.split()[0]].recipe == first.recipe
    assert '"heavy rain"' in recipe_json


def test_many(run: Run, client: Client) -> None:
    told = run("many", "heavy rain", "dog barks", "thunder")
    assert {tuple(line.split(": ")) for line in told} == {(clip.title, str(clip.path)) for clip in client.all_clips()}
    assert len(told) == 3


def test_watch(run: Run, client: Client) -> None:
    (clip_id,) = run("watch", "--ask", "thunder")
    assert run("watch", clip_id)[-1] == str(client.clip(clip_id).path)
