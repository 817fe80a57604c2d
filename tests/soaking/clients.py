"""Eight clients, each of another kind, as people and programs use a daemon."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import soundfile

from relay import Relay
from running_daemon import PATIENCE_SECONDS
from soaking.world import World
from soundgen import paths, types
from soundgen.client import Client
from soundgen.errors import ClipCancelledError, NotFoundError

_PROMPTS = ("rain on a tin roof", "heavy thunder", "a dog barks", "a dog on a roof", "rain")
_SECONDS = (0.5, 0.5, 0.5, 1.0, 3.0)
_LONGEST_PAUSE_SECONDS = 0.3  # a person's would be longer; a daemon is to be kept busy, not the machine
_RATE_HZ = 22_050
Work = Callable[[Client, World, random.Random], None]


def run(name: str, world: World, over: threading.Event) -> None:
    """At it until it is over; what should not happen is written down."""
    chance = random.Random(name)
    with Client(timeout_seconds=PATIENCE_SECONDS) as client:
        while not over.is_set():
            try:
                KINDS[name](client, world, chance)
                world.done[name] += 1
            except Exception as error:
                world.errors.append(f"{name} met {type(error).__name__}: {error}")
            over.wait(chance.uniform(0.0, _LONGEST_PAUSE_SECONDS))


def _generate(client: Client, world: World, chance: random.Random) -> None:
    if chance.random() < 0.2:
        world.keep(client.generate(_prompt(chance), seconds=1.0, within_seconds=0.3).clip())
    else:
        world.keep(client.generate(_prompt(chance), seconds=chance.choice(_SECONDS), nu=chance.choice((1, 1.5))).clip())


def _refine(client: Client, world: World, chance: random.Random) -> None:
    preview = client.generate(_prompt(chance), seconds=0.5).clip()
    refined = client.refine(preview.id, steps=chance.choice((4, 8, 16))).clip()
    _require(refined.parent_id == preview.id, f"{refined.id} was not refined from {preview.id}")
    world.keep(preview, refined)


def _progress(client: Client, world: World, chance: random.Random) -> None:
    """Ever better takes, until one is good enough."""
    preview = client.generate(_prompt(chance), seconds=0.5).clip()
    enough, takes = chance.randrange(1, 5), list[types.Clip]()
    events = client.refine_progressively(preview.id)
    for event in events:
        if isinstance(event, types.ClipReady):
            takes.append(event.clip)
            if len(takes) == enough:
                break
        else:
            world.leave(event.clip_id)
    events.close()
    world.keep(preview, *takes)


def _vary(client: Client, world: World, chance: random.Random) -> None:
    count = chance.randrange(2, 7)
    made = client.generate_variations(_prompt(chance), count, seconds=0.5, batch=chance.random() < 0.3).clips()
    _require(len(made) == count, f"{len(made)} of {count} variations were made")
    world.keep(*made)


def _watch(client: Client, world: World, chance: random.Random) -> None:
    """The connection breaks again and again; the clip is told all the same, here and elsewhere."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Relay(Path(folder) / "relay.sock", paths.socket_path()) as relay,
        Client(relay.address, paths.read_token()) as far,
    ):
        events = far.generate(_prompt(chance), seconds=0.5, steps=8, keep=True)
        clip_id = next(events).clip_id
        for _ in range(chance.randrange(1, 4)):
            relay.drop()
            time.sleep(chance.uniform(0.0, 0.02))
        told = events.clip()
    watched = client.watch(clip_id).clip()
    _require((told, watched.id) == (watched, clip_id), f"{clip_id} was told as {told}, and elsewhere as {watched}")
    world.keep(told)


def _cancel(client: Client, world: World, chance: random.Random) -> None:
    """Queued, running or just finished; by a call, or by leaving."""
    events = client.generate(_prompt(chance), seconds=0.5, steps=chance.choice((1, 4, 16)))
    clip_id = next(events).clip_id
    for _ in range(chance.randrange(3)):
        event = next(events)
        if isinstance(event, types.ClipReady):
            world.keep(event.clip)
            return
    if chance.random() < 0.3:
        world.leave(clip_id)
        events.close()
        return
    try:
        client.cancel(clip_id)
    except NotFoundError:  # its file is being written, or is there
        world.keep(events.clip())
        return
    try:
        events.clip()
    except ClipCancelledError:
        return
    raise AssertionError(f"clip {clip_id} was cancelled, and became ready")


def _tidy(client: Client, world: World, chance: random.Random) -> None:
    """List, search, download, rename, delete and bring back."""
    clip = world.take(chance)
    if clip is None:
        return
    client.clips(page_size=20, text=chance.choice((None, "rain", "roof")), favourites_only=chance.random() < 0.2)
    client.search_clips("rain", limit=5)
    client.search_clips(clip_id=clip.id, limit=5)
    client.jobs(include_ended=chance.random() < 0.1)
    with tempfile.TemporaryDirectory() as folder:
        client.download(clip.id, Path(folder) / "clip.wav")  # compares sha256
    changed = client.update_clip(clip.id, label=f"{chance.random()}", tags=["wet"], notes="n", favourite=True)
    deleted = client.delete_clip(clip.id)
    _require(deleted.deleted_at is not None, f"{clip.id} was deleted and does not say so")
    if chance.random() < 0.2:
        world.note(deleted)
        return
    back = client.undelete_clip(clip.id)
    _require(back == changed, f"{clip.id} was {changed}, was deleted, brought back, and is {back}")
    world.keep(back)


def _bring_in(client: Client, world: World, chance: random.Random) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / chance.choice(("door.wav", "door.flac", "door.ogg"))
        noise = np.random.default_rng(chance.getrandbits(32)).uniform(-0.5, 0.5, (_RATE_HZ // 2, 2))
        soundfile.write(path, noise, _RATE_HZ)
        world.keep(client.import_clip(path, tags=["from outside"]))


def _rerender(client: Client, world: World, chance: random.Random) -> None:
    first = client.generate(_prompt(chance), seconds=0.5, steps=2).clip()
    again = client.rerender(client.export_recipe(first.id)).clip()
    _require(again.recipe == first.recipe, f"{again.id} was made from the recipe of {first.id}, and has another")
    world.keep(first, again)


def _prompt(chance: random.Random) -> str:
    return chance.choice(_PROMPTS)


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)


KINDS: Mapping[str, Work] = {
    "generate": _generate,
    "refine": _refine,
    "progressive refine": _progress,
    "variations": _vary,
    "watch over a broken connection": _watch,
    "cancel": _cancel,
    "library": _tidy,
    "import and rerender": lambda client, world, chance: chance.choice((_bring_in, _rerender))(client, world, chance),
}
