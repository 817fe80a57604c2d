"""`soundctm generate`, `refine` and `rerender`; `clips` and `jobs`, `watch`, `cancel` lie beside this file.

Exit codes: 0 done, 2 bad request, 3 daemon unreachable or token refused, 4 generation failed, 130 cancelled.
"""

from __future__ import annotations

from pathlib import Path

import typer

from soundgen import types
from soundgen.cli_shared import CANCELLED, CLIP_ID, JSON, OUT, connected, errors_shown, reporter_for, whole_number
from soundgen.client import Client
from soundgen.errors import InvalidRequestError
from soundgen.formats import export
from soundgen.progress import Reporter
from soundgen.provenance import read_recipe
from soundgen.requests import VariationSettings

_SOURCE = typer.Argument(help="A recipe (.json), or a sound file that SoundCTM made.", dir_okay=False)
_KEPT = "left; the clip goes on, and `soundctm watch` follows it."


def generate(
    prompt: str = typer.Argument(help="What to hear."),
    seconds: float | None = typer.Option(None, help="Length; default the model's longest (10)."),
    steps: int | None = typer.Option(None, parser=whole_number, help="Jumps; default 1."),
    seed: int | None = typer.Option(None, help="0 to 4294967295; default drawn, and printed."),
    omega: float | None = typer.Option(None, help="Guidance scale the model was distilled with; default the model's."),
    nu: float | None = typer.Option(None, help="Mix of conditional and unconditional jump; default 1."),
    gamma: float | None = typer.Option(None, help="0 deterministic (default) to 1 fully stochastic."),
    negative: str | None = typer.Option(None, help="What not to hear; has an effect where nu is not 1."),
    model: str | None = typer.Option(None, help="A name of `soundctm models list`; default the daemon's."),
    label: str | None = typer.Option(None, help="A short name; default the prompt's beginning."),
    refine_steps: int | None = typer.Option(
        None, parser=whole_number, help="Then refine the very same clip in this many jumps."
    ),
    variations: int | None = typer.Option(None, help="So many seeds at once; --out numbers its files then."),
    within: float | None = typer.Option(None, help="The best take to be had in so many seconds."),
    batch: bool = typer.Option(False, help="Goes after everything else, for work nobody waits at."),
    keep: bool = typer.Option(False, help="Ctrl-C leaves, and the clip goes on: see `soundctm watch`."),
    engine: str | None = typer.Option(
        None, help="What runs the models of the daemon that this starts: see `soundctm daemon start --help`."
    ),
    out: Path | None = OUT,
    as_json: bool = JSON,
) -> None:
    """Make a clip from a prompt, in one jump. Ctrl-C cancels it."""
    reporter = reporter_for(as_json)
    with errors_shown(reporter, _KEPT if keep else CANCELLED), connected(out, engine) as client:
        if variations is not None and (within is not None or refine_steps is not None):
            raise InvalidRequestError(
                "--variations was given with --within or --refine-steps; allowed: one of them. Refine the variation "
                "you like by `soundctm refine`."
            )
        settings: VariationSettings = {
            "seconds": seconds,
            "steps": steps,
            "seed": seed,
            "omega": omega,
            "nu": nu,
            "gamma": gamma,
            "negative_prompt": negative,
            "model": model,
            "label": label,
            "batch": batch,
            "keep": keep,
        }
        if variations is not None:
            clips = reporter.follow("variation", client.generate_variations(prompt, variations, **settings))
            _export_numbered(client, clips, out, reporter)
            return
        events = client.generate(prompt, **settings, within_seconds=within)
        clip = reporter.follow("preview" if refine_steps else "clip", events)[-1]
        if refine_steps is not None:
            clip = reporter.follow("refined", client.refine(clip.id, steps=refine_steps, keep=keep))[-1]
        _export(client, clip, out, reporter)


def refine(
    clip_id: str = CLIP_ID,
    steps: int | None = typer.Option(None, parser=whole_number, help="Jumps; default 16."),
    gamma: float | None = typer.Option(None, help="Default the clip's own."),
    progressive: bool = typer.Option(False, help="Takes in ever more jumps, up to 16; Ctrl-C when one is good enough."),
    out: Path | None = OUT,
    as_json: bool = JSON,
) -> None:
    """Make the very same clip in more jumps: same noise, same content. Ctrl-C cancels it."""
    reporter = reporter_for(as_json)
    with errors_shown(reporter), connected(out) as client:
        if progressive and steps is not None:
            raise InvalidRequestError("--progressive was given with --steps; allowed: one of them.")
        if progressive:
            clips = reporter.follow("take", client.refine_progressively(clip_id, gamma=gamma))
        else:
            clips = reporter.follow("refined", client.refine(clip_id, steps=steps, gamma=gamma))
        _export(client, clips[-1], out, reporter)


def rerender(
    source: Path = _SOURCE,
    allow_other_weights: bool = typer.Option(False, help="Where its model changed, make the clip that it makes now."),
    out: Path | None = OUT,
    as_json: bool = JSON,
) -> None:
    """Make a clip again from its recipe, or from a file that carries it. Ctrl-C cancels it."""
    reporter = reporter_for(as_json)
    with errors_shown(reporter):
        recipe_json = read_recipe(source)
        with connected(out) as client:
            events = client.rerender(recipe_json, allow_other_weights=allow_other_weights)
            _export(client, reporter.follow("clip", events)[-1], out, reporter)


def _export(client: Client, clip: types.Clip, out: Path | None, reporter: Reporter) -> None:
    if out is not None:
        reporter.exported(export(client, clip.id, out))


def _export_numbered(client: Client, clips: tuple[types.Clip, ...], out: Path | None, reporter: Reporter) -> None:
    if out is not None:
        for number, clip in enumerate(clips, start=1):
            reporter.exported(export(client, clip.id, out.with_stem(f"{out.stem}-{number}")))
