"""What happens to clips, for people: progress bars, then where the clips lie and what was noticed about them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from soundgen import types
from soundgen.errors import SoundgenError


class Reporter(Protocol):
    def follow(self, title: str, events: Iterable[types.ClipsEvent]) -> tuple[types.Clip, ...]:
        """Show the events as they come; the clips that became ready."""
        ...

    def exported(self, path: Path) -> None:
        """The clip was copied there."""
        ...

    def failed(self, error: SoundgenError) -> None: ...

    def changed(self, clip: types.Clip, what: str) -> None:
        """The clip as it is now; `what` says to people what was done to it."""
        ...


class BarReporter:
    """A progress bar per clip on `err` while it is made; its path, length and time on `out`."""

    def __init__(self, out: Console, err: Console) -> None:
        self._out, self._err = out, err

    def follow(self, title: str, events: Iterable[types.ClipsEvent]) -> tuple[types.Clip, ...]:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        tasks: dict[str, TaskID] = {}
        clips = []
        with Progress(*columns, console=self._err, transient=True) as progress:
            first = progress.add_task(title, total=None)
            for event in events:
                if event.clip_id not in tasks:
                    tasks[event.clip_id] = progress.add_task(title, total=None) if tasks else first
                task = tasks[event.clip_id]
                match event:
                    case types.Queued(position=position, model_loading=loading):
                        waiting = "the model is loading" if loading else f"{position} before it"
                        progress.update(task, description=f"{title}: queued, {waiting}")
                    case types.Started():
                        progress.update(task, description=title)
                    case types.JumpDone(done=done, total=total):
                        progress.update(task, description=title, completed=done, total=total)
                    case types.ClipReady(clip=clip):
                        progress.update(task, visible=len(tasks) == 1)
                        clips.append(clip)
                        self._show(title, clip)
                    case types.ClipFailed(message=message):
                        progress.update(task, visible=False)
                        self._plain(f"{title} failed: {message}")
        return tuple(clips)

    def exported(self, path: Path) -> None:
        self._plain(f"  copied to {path}")

    def failed(self, error: SoundgenError) -> None:
        again = "" if error.retry_after_seconds is None else f" Try again in {error.retry_after_seconds:.1f} s."
        text = f"{error.reason}: {error}{again}"
        self._err.print(text, style="red", highlight=False, markup=False, soft_wrap=True)

    def changed(self, clip: types.Clip, what: str) -> None:
        self._plain(f"{clip.id} ({clip.label}): {what}")

    def _show(self, title: str, clip: types.Clip) -> None:
        self._plain(f"{title}: {clip.path}")
        recipe = clip.recipe
        if recipe is None:
            self._plain(f"  id {clip.id}, {clip.seconds:.2f} s of sound, imported, peak {clip.peak_dbfs:.1f} dBFS")
        else:
            jumps = "1 jump" if recipe.steps == 1 else f"{recipe.steps} jumps"
            self._plain(
                f"  id {clip.id}, {clip.seconds:.2f} s of sound, {jumps} in {clip.render_seconds:.2f} s, "
                f"seed {recipe.seed}, peak {clip.peak_dbfs:.1f} dBFS"
            )
        for finding in clip.findings:
            self._plain(f"  note: {_note(finding, clip.familiarity)}")

    def _plain(self, text: str) -> None:
        self._out.print(text, highlight=False, markup=False, soft_wrap=True)


_FINDING_NOTES = {
    types.AudioFinding.SILENT: "the clip is silent (its peak lies below -60 dBFS); try another seed or prompt",
    types.AudioFinding.CLIPPING: "the peak lies above 0 dBFS; lower the gain where the file becomes 16 or 24 bit",
    types.AudioFinding.UNFAMILIAR_PROMPT: "the model makes nothing like this prompt; do not trust the clip",
    types.AudioFinding.DC_OFFSET: "its mean lies off zero, so that it clicks where it is cut; fade its ends",
    types.AudioFinding.SHORT: "it is shorter than was asked for",
    types.AudioFinding.OTHER_WEIGHTS: "it was made with other weights than its recipe names: it is another clip",
}


def _note(finding: types.AudioFinding, familiarity: types.Familiarity | None) -> str:
    if finding is types.AudioFinding.UNFAMILIAR_PROMPT and familiarity is not None:
        return (
            f"the model makes nothing like this prompt; the nearest it knows is {familiarity.nearest!r} "
            f"(similarity {familiarity.similarity:.2f}, familiar from {familiarity.threshold:.2f})"
        )
    return _FINDING_NOTES[finding]
