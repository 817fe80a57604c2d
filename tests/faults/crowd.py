"""Clients at work, all at once: previews, variations, refines, takes, clips left alone and followed, new names."""

from __future__ import annotations

import threading
from collections.abc import Callable

from faults.told import Told
from running_daemon import PATIENCE_SECONDS
from soundgen import types
from soundgen.client import Client, Events
from soundgen.errors import DaemonUnreachableError, SoundgenError

SECONDS = 0.5  # of a clip
Work = Callable[[Client, Told], int]  # gives how many clips it asked for


def run(clips: int, told: Told) -> None:
    """Clients ask for at least so many clips and write down what they are told, until the last one has ended or the
    daemon is gone."""
    share = -(-clips // len(_WORK))
    threads = [threading.Thread(target=_client, args=(work, share, told), name=work.__name__) for work in _WORK]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def follow(events: Events[types.Event], told: Told) -> types.Clip | None:
    """Write down what happens to a clip made alone. None where it failed; raises DaemonUnreachableError."""
    clip_id = ""
    try:
        for event in events:
            clip_id = event.clip_id
            told.hear(event)
    except DaemonUnreachableError:
        raise
    except SoundgenError as error:
        if not clip_id:
            raise
        told.ended(clip_id, error)
        return None
    return told.ready[clip_id]


def _client(work: Work, clips: int, told: Told) -> None:
    with Client(reconnect_seconds=0.0, timeout_seconds=PATIENCE_SECONDS) as client:
        made = 0
        try:
            while made < clips:
                made += work(client, told)
        except DaemonUnreachableError:
            return
        except Exception as error:
            told.unexpected.append(f"{work.__name__} met {type(error).__name__}: {error}")


def _preview(client: Client, told: Told) -> int:
    follow(client.generate("rain on a tin roof", seconds=SECONDS), told)
    return 1


def _many_jumps(client: Client, told: Told) -> int:
    follow(client.generate("thunder", seconds=SECONDS, steps=16, nu=1.5), told)
    return 1


def _variations(client: Client, told: Told) -> int:
    for event in client.generate_variations("dog barks", 5, seconds=SECONDS):
        told.hear(event)
    return 5


def _refined(client: Client, told: Told) -> int:
    clip = follow(client.generate("heavy rain", seconds=SECONDS), told)
    if clip is not None:
        follow(client.refine(clip.id, steps=8), told)
    return 2


def _takes(client: Client, told: Told) -> int:
    clip = follow(client.generate("heavy thunder", seconds=SECONDS), told)
    if clip is not None:
        for event in client.refine_progressively(clip.id, steps=(2, 4, 8)):
            told.hear(event)
    return 4


def _left_alone(client: Client, told: Told) -> int:
    """Asked for, left, and followed again."""
    events = client.generate("a dog on a roof", seconds=SECONDS, steps=4, keep=True)
    queued = next(events)
    told.hear(queued)
    events.close()
    follow(client.watch(queued.clip_id), told)
    return 1


def _renamed(client: Client, told: Told) -> int:
    clip = follow(client.generate("a tin roof", seconds=SECONDS), told)
    if clip is not None:
        told.labels[clip.id] = None
        told.labels[clip.id] = client.update_clip(clip.id, label=f"roof {clip.id}").label
    return 1


_WORK: tuple[Work, ...] = (_preview, _preview, _many_jumps, _variations, _refined, _takes, _left_alone, _renamed)
