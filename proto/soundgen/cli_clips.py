"""`soundctm clips`: the stored clips. Exit codes as in soundgen.cli."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Column, Table

from soundgen import types
from soundgen.cli_shared import CLIP_ID, CLIP_JSON, FORMATS, JSON, connected, errors_shown, reporter_for
from soundgen.client import connect
from soundgen.formats import export
from soundgen.json_lines import to_json

_ARRAY = typer.Option(False, "--json", help="One JSON array instead of a table.")
_HAS_TAG = typer.Option(None, "--tag", help="Has this tag; several times: all of them.")
_SINCE = typer.Option(None, help="Made after this time.")
_DESTINATION = typer.Argument(help=f"The file to write: {FORMATS}.", dir_okay=False)
_RECIPE_OUT = typer.Option(None, "--out", "-o", help="Write it there instead.", dir_okay=False)
_TAGS = typer.Argument(help="Tags to give it.")
_DELETE_IDS = typer.Argument(help="Ids of clips.")
_UNDELETE_IDS = typer.Argument(help="Ids of deleted clips: see `soundctm clips list --deleted`.")
_FILES = typer.Argument(help="WAV, FLAC, AIFF, Ogg or MP3 files.", dir_okay=False)
_GIVE_TAG = typer.Option(None, "--tag", help="A tag; may be given several times.")
_MOST = typer.Option(50, "--limit", min=1, help="At most this many.")

clips = typer.Typer(help="Stored clips: find, name, tag, copy, delete.", no_args_is_help=True)


@clips.command("list")
def list_clips(
    limit: int = _MOST,
    text: str | None = typer.Option(None, help="Words that the prompt, the name or the notes hold."),
    tag: list[str] | None = _HAS_TAG,
    favourites: bool = typer.Option(False, help="Only favourites."),
    since: datetime | None = _SINCE,
    deleted: bool = typer.Option(False, help="Only deleted clips that can still be brought back."),
    as_json: bool = _ARRAY,
) -> None:
    """Stored clips, newest first."""
    with errors_shown(reporter_for(as_json)), connect() as client:
        found = client.all_clips(
            text=text, tags=tag, favourites_only=favourites, created_after=since, deleted=deleted
        )
        shown = list(islice(found, limit))
    if as_json:
        typer.echo(to_json(shown))
        return
    table = Table(_id("id"), "made", "seconds", "jumps", _id("refines"), "sound", "tags", "", box=None)
    for clip in shown:
        made = f"{clip.created_at.astimezone():%Y-%m-%d %H:%M}"
        jumps = "" if clip.recipe is None else str(clip.recipe.steps)
        about = (clip.parent_id or "", _name(clip), ", ".join(clip.tags), clip.problem)
        table.add_row(clip.id, made, f"{clip.seconds:.2f}", jumps, *about)
    Console().print(table)


@clips.command("search")
def search_clips(
    text: str | None = typer.Argument(None, help="A description of the sound."),
    like: str | None = typer.Option(None, help="Id of a clip: sounds described like it."),
    limit: int = typer.Option(20, min=1, help="At most this many, nearest first."),
    as_json: bool = _ARRAY,
) -> None:
    """Clips by what they mean, not by their words."""
    with errors_shown(reporter_for(as_json)), connect() as client:
        hits = client.search_clips(text, clip_id=like, limit=limit)
    if as_json:
        typer.echo(to_json(hits))
        return
    table = Table("similarity", _id("id"), "seconds", "sound", "tags", box=None)
    for hit in hits:
        clip = hit.clip
        table.add_row(f"{hit.similarity:.2f}", clip.id, f"{clip.seconds:.2f}", _name(clip), ", ".join(clip.tags))
    Console().print(table)


@clips.command("show")
def show_clip(
    clip_id: str = CLIP_ID,
    as_json: bool = typer.Option(False, "--json", help="On one line, with errors as JSON too."),
) -> None:
    """Everything that is known of a clip, its recipe included, as JSON."""
    with errors_shown(reporter_for(as_json)), connect() as client:
        clip = client.clip(clip_id)
    if as_json:
        typer.echo(to_json(clip))
    else:
        Console().print_json(to_json(clip))


@clips.command("export")
def export_clip(
    clip_id: str = CLIP_ID,
    out: Path = _DESTINATION,
    as_json: bool = JSON,
) -> None:
    """Copy a clip, verified on its way; the suffix says in which format. Its recipe goes along."""
    reporter = reporter_for(as_json)
    with errors_shown(reporter), connected(out) as client:
        reporter.exported(export(client, clip_id, out))


@clips.command("recipe")
def export_recipe(
    clip_id: str = CLIP_ID,
    out: Path | None = _RECIPE_OUT,
    as_json: bool = JSON,
) -> None:
    """Everything that makes the clip again, as JSON for `soundctm rerender`."""
    reporter = reporter_for(as_json)
    with errors_shown(reporter), connect() as client:
        recipe_json = client.export_recipe(clip_id)
        if out is None:
            typer.echo(recipe_json)
        else:
            out.write_text(recipe_json + "\n", encoding="utf-8")
            reporter.exported(out)


@clips.command("tag")
def tag_clip(
    clip_id: str = CLIP_ID,
    tags: list[str] = _TAGS,
    remove: bool = typer.Option(False, help="Take them away instead."),
    as_json: bool = CLIP_JSON,
) -> None:
    """Give a clip tags beside those it has."""
    reporter = reporter_for(as_json)
    with errors_shown(reporter), connect() as client:
        now = set(client.clip(clip_id).tags)
        named = {" ".join(tag.lower().split()) for tag in tags}  # as the daemon keeps them
        clip = client.update_clip(clip_id, tags=sorted(now - named if remove else now | named))
        reporter.changed(clip, f"tags {', '.join(clip.tags) or 'none'}")


@clips.command("note")
def note_clip(
    clip_id: str = CLIP_ID,
    notes: str = typer.Argument(help="Takes the place of what was noted; empty removes it."),
    as_json: bool = CLIP_JSON,
) -> None:
    """Note something about a clip."""
    reporter = reporter_for(as_json)
    with errors_shown(reporter), connect() as client:
        reporter.changed(client.update_clip(clip_id, notes=notes), "noted")


@clips.command("favourite")
def favourite_clip(
    clip_id: str = CLIP_ID,
    off: bool = typer.Option(False, "--off", help="No longer one."),
    as_json: bool = CLIP_JSON,
) -> None:
    """Make a clip a favourite."""
    reporter = reporter_for(as_json)
    with errors_shown(reporter), connect() as client:
        clip = client.update_clip(clip_id, favourite=not off)
        reporter.changed(clip, "a favourite" if clip.favourite else "no favourite")


@clips.command("rename")
def rename_clip(
    clip_id: str = CLIP_ID,
    name: str = typer.Argument(help="Its new name."),
    as_json: bool = CLIP_JSON,
) -> None:
    """Give a clip another name."""
    reporter = reporter_for(as_json)
    with errors_shown(reporter), connect() as client:
        reporter.changed(client.update_clip(clip_id, label=name), "renamed")


@clips.command("delete")
def delete_clips(
    clip_ids: list[str] = _DELETE_IDS,
    as_json: bool = CLIP_JSON,
) -> None:
    """Delete clips; for some days they can be brought back."""
    reporter = reporter_for(as_json)
    with errors_shown(reporter), connect() as client:
        for clip_id in clip_ids:
            reporter.changed(client.delete_clip(clip_id), "deleted; `soundctm clips undelete` brings it back")


@clips.command("undelete")
def undelete_clips(
    clip_ids: list[str] = _UNDELETE_IDS,
    as_json: bool = CLIP_JSON,
) -> None:
    """Bring deleted clips back."""
    reporter = reporter_for(as_json)
    with errors_shown(reporter), connect() as client:
        for clip_id in clip_ids:
            reporter.changed(client.undelete_clip(clip_id), "brought back")


@clips.command("import")
def import_clips(
    files: list[Path] = _FILES,
    label: str | None = typer.Option(None, help="A name; default the file's."),
    tag: list[str] | None = _GIVE_TAG,
    as_json: bool = CLIP_JSON,
) -> None:
    """Bring sound files into the library."""
    reporter = reporter_for(as_json)
    with errors_shown(reporter), connect() as client:
        for file in files:
            reporter.changed(client.import_clip(file, label=label, tags=tag), f"imported {file.name}")


def _id(header: str) -> Column:
    """To be copied: never cut."""
    return Column(header, no_wrap=True, min_width=12)


def _name(clip: types.Clip) -> str:
    return f"{'★ ' if clip.favourite else ''}{clip.title}"
