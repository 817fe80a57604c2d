"""`soundctm train listen`: clips of many prompts to hear and to look at, generated ones beside a real one."""

from __future__ import annotations

import html
import logging
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from soundctm.bundle import find_bundle
from soundctm.engines.protocol import Engine
from soundctm.engines.torch import load_engine
from soundctm_training.evaluation.bundle import Audio, generate, judge
from soundctm_training.evaluation.classifier import SoundClassifier, load_classifier
from soundctm_training.evaluation.clips import labelled_sound
from soundctm_training.evaluation.prompts import chosen_prompts, held_out_prompts, known_labels
from soundctm_training.evaluation.sheet import write_sheet, write_spectrogram
from soundctm_training.runs import write_whole
from soundctm_training.synth.recordings import RecordingLibrary

logger = logging.getLogger(__name__)

PAGE_FILE = "index.html"
SHEET_FILE = "sheet.png"
REAL = "real"
_STYLE = (
    "body{font:15px/1.4 sans-serif;max-width:1200px;margin:2em auto;padding:0 1em}td{padding:.3em .6em;"
    "vertical-align:top}img{width:330px;display:block}audio{width:330px;display:block}small{color:#666}"
)


@dataclass(frozen=True)
class ListenOptions:
    """`classifier` writes its verdict under every clip; with `recordings` the real clips are recorded where they can
    be, else synthesised."""

    bundle: str                # name or folder
    out: Path
    prompts: int = 40
    jumps: tuple[int, ...] = (1, 16)
    seconds: float = 10.0
    first_seed: int = 92_000_001
    classifier: Path | None = None
    recordings: Path | None = None


@dataclass(frozen=True)
class Heard:
    """One clip of the sheet and what is to be said under it."""

    name: str                  # of its column
    audio: Audio
    remark: str = ""


@dataclass(frozen=True)
class Line:
    """One prompt: a real clip of its class, then the generated ones."""

    label: str
    prompt: str
    seed: int
    clips: Sequence[Heard] = field(default_factory=tuple)

    @property
    def stem(self) -> str:
        """Of its files: the class and the prompt's first words."""
        words = re.findall(r"[a-z0-9]+", self.prompt.lower())[:5]
        return "_".join((self.label, *words))


def chosen_lines(labels: Sequence[str], count: int, first_seed: int) -> list[Line]:
    """`count` held-out prompts: the first of every class, then the second of every class. Raises PromptError."""
    prompts = chosen_prompts(labels, max(len(texts) for texts in held_out_prompts().values()))
    rounds = max(len(texts) for texts in prompts.values())
    pairs = [(label, texts[turn]) for turn in range(rounds) for label, texts in prompts.items() if turn < len(texts)]
    spread = pairs if count >= len(pairs) else [pairs[index] for index in _spread(len(pairs), len(labels), count)]
    return [Line(label, prompt, first_seed + index) for index, (label, prompt) in enumerate(spread)]


def _spread(pairs: int, labels: int, count: int) -> list[int]:
    """Indices of `count` pairs; of fewer than all classes, ones evenly spread over the catalogue."""
    if count >= labels:
        return list(range(min(count, pairs)))
    return [round(index * labels / count) for index in range(count)]


def write_listening_sheet(options: ListenOptions) -> Path:
    """Writes WAV files, their spectrograms, index.html and sheet.png into the folder; returns the page's path.

    Raises BundleError, ClassifierFileError, RecordingError, PromptError.
    """
    bundle = find_bundle(options.bundle)
    engine = load_engine(bundle)
    classifier = load_classifier(options.classifier) if options.classifier else None
    library = RecordingLibrary.load(options.recordings) if options.recordings else None
    labels = known_labels(bundle, tuple(held_out_prompts()) if classifier is None else classifier.labels)
    options.out.mkdir(parents=True, exist_ok=True)
    lines = []
    for index, line in enumerate(chosen_lines(labels, options.prompts, options.first_seed)):
        lines.append(_filled(line, engine, options, classifier, library))
        _write_files(lines[-1], options.out)
        logger.info("%d of %d: %s", index + 1, options.prompts, line.prompt)
    return write_pages(lines, options.out, f"{engine.spec.name} {engine.digest[:12]}, clips of {options.seconds:g} s")


def _filled(
    line: Line,
    engine: Engine,
    options: ListenOptions,
    classifier: SoundClassifier | None,
    library: RecordingLibrary | None,
) -> Line:
    def heard(name: str, audio: Audio, remark: str = "") -> Heard:
        if classifier is None:
            return Heard(name, audio, remark)
        verdict = judge(classifier, audio, line.label)
        place = "" if verdict.rank == 0 else f", {line.label} comes {verdict.rank + 1}."
        return Heard(name, audio, f"{remark} heard as {verdict.first}{place}".strip())

    clips = [heard(REAL, *_real(line, engine.spec.samples(options.seconds), library))]
    for jumps in options.jumps:
        audio = generate(engine, line.prompt, line.seed, jumps, options.seconds)
        clips.append(heard("1 jump" if jumps == 1 else f"{jumps} jumps", audio))
    return Line(line.label, line.prompt, line.seed, clips)


def _real(line: Line, samples: int, library: RecordingLibrary | None) -> tuple[Audio, str]:
    """A recorded clip of the class where there is one, else a synthesised one, and which it is."""
    if library is not None and line.label in library.groups:
        sound, group = library.render(line.label, np.random.default_rng([line.seed, samples]), samples)
        return sound.audio, f"recorded ({group});"
    return labelled_sound(line.label, line.seed, 0, samples).audio, "synthesised;"


def _file(line: Line, clip: Heard, ending: str) -> str:
    return f"{line.stem}_{clip.name.replace(' ', '_')}.{ending}"


def _write_files(line: Line, out: Path) -> None:
    for clip in line.clips:
        soundfile.write(out / _file(line, clip, "wav"), clip.audio, 44_100, subtype="PCM_16")
        write_spectrogram(out / _file(line, clip, "png"), clip.audio)


def write_pages(lines: Sequence[Line], out: Path, title: str) -> Path:
    """index.html over the files already there, and one contact sheet of all spectrograms."""
    columns = [clip.name for clip in lines[0].clips]
    rows: Mapping[str, Sequence[Audio]] = {
        "\n".join((f"{number} {line.label}", *textwrap.wrap(line.prompt, 24)[:2])): [clip.audio for clip in line.clips]
        for number, line in enumerate(lines, 1)
    }
    write_sheet(out / SHEET_FILE, columns, rows)
    parts = [f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
             f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1><table>"]
    for line in lines:
        parts.append(f"<tr><th colspan={len(columns)} align=left>{html.escape(line.prompt)} "
                     f"<small>{html.escape(line.label)}, seed {line.seed}</small></th></tr><tr>")
        parts += [
            f'<td><img src="{_file(line, clip, "png")}" alt="spectrogram"><audio controls preload=none '
            f'src="{_file(line, clip, "wav")}"></audio>{html.escape(clip.name)}<br>'
            f"<small>{html.escape(clip.remark)}</small></td>"
            for clip in line.clips
        ]
        parts.append("</tr>")
    page = out / PAGE_FILE
    text = "\n".join([*parts, "</table></html>"])
    write_whole(page, lambda aside: aside.write_text(text, encoding="utf-8"))
    return page
