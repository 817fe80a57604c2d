"""The client against the daemon itself, on a line that breaks and by a daemon that is started anew."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay import Relay
from running_daemon import Gate, RunningDaemon, steered
from soundgen import errors, paths, types
from soundgen.client import AsyncClient, Client


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def daemon(models: Path, gate: Gate) -> Iterator[RunningDaemon]:
    """Its jumps wait at the gate."""
    with RunningDaemon(steered(gate.wait)) as running:
        yield running


@pytest.fixture
def relay(daemon: RunningDaemon, tmp_path: Path) -> Iterator[Relay]:
    with Relay(tmp_path / "relay.sock", paths.socket_path()) as line:
        yield line


@pytest.mark.parametrize("keep", [True, False])
def test_a_generation_survives_a_connection_that_drops(
    daemon: RunningDaemon, relay: Relay, gate: Gate, keep: bool
) -> None:
    """A kept clip goes on meanwhile; another is cancelled and made again, from the same seed."""
    with Client(relay.address) as client:
        events = client.generate("rain", seconds=0.5, steps=2, keep=keep)
        first = next(events)
        gate.wait_until_reached()
        relay.drop()
        if not keep:
            daemon.wait_until_told_to_stop()
        gate.let_through(1000)
        told = list(events)
        assert [type(event) for event in told].count(types.ClipReady) == 1
        clip = told[-1].clip if isinstance(told[-1], types.ClipReady) else None
        assert clip is not None
        assert isinstance(first, types.Queued)
        assert clip.recipe == first.recipe
        assert (clip.id == first.clip_id) is keep
        assert [stored.id for stored in client.all_clips()] == [clip.id]


def test_variations_survive_a_connection_that_drops(relay: Relay, gate: Gate) -> None:
    with Client(relay.address) as client:
        events = client.generate_variations("rain", 3, seconds=0.5, keep=True)
        next(events)
        gate.wait_until_reached()
        relay.drop()
        gate.let_through(1000)
        clips = events.clips()
        assert len({clip.recipe.seed for clip in clips if clip.recipe is not None}) == len(clips) == 3
        assert {clip.id for clip in client.all_clips()} == {clip.id for clip in clips}


def test_watching_survives_a_connection_that_drops_for_asyncio(relay: Relay, gate: Gate) -> None:
    async def make() -> tuple[str, types.Clip]:
        async with AsyncClient(relay.address) as client:
            started = client.generate("rain", seconds=0.5, steps=2, keep=True)
            clip_id = (await anext(started)).clip_id
            await asyncio.to_thread(gate.wait_until_reached)
            await started.aclose()
            watched = client.watch(clip_id)
            await anext(watched)
            relay.drop()
            gate.let_through(1000)
            return clip_id, await watched.clip()

    clip_id, clip = asyncio.run(make())
    assert clip.id == clip_id


def test_ending_early_cancels_unless_the_clip_is_kept(relay: Relay, gate: Gate) -> None:
    with Client(relay.address) as client:
        kept, dropped = (client.generate("rain", seconds=0.5, steps=2, keep=keep) for keep in (True, False))
        kept_id, dropped_id = next(kept).clip_id, next(dropped).clip_id
        gate.wait_until_reached()
        kept.close()
        dropped.close()
        with pytest.raises(errors.ClipCancelledError):
            client.watch(dropped_id).clip()
        gate.let_through(1000)
        assert client.watch(kept_id).clip().id == kept_id
        assert [clip.id for clip in client.all_clips()] == [kept_id]


def test_a_daemon_that_is_started_anew_is_found_again(models: Path, gate: Gate, tmp_path: Path) -> None:
    """What it was making is made again; a stored clip is watched as if nothing had happened."""
    line = Relay(tmp_path / "relay.sock", paths.socket_path())
    with contextlib.ExitStack() as stack:
        with RunningDaemon(steered(gate.wait)) as daemon:
            stack.enter_context(line)
            client = stack.enter_context(Client(line.address))
            gate.let_through(1)
            stored = client.generate("rain", seconds=0.5).clip()
            gate.wait_until_reached()
            events = client.generate("rain", seconds=0.5, seed=9)
            next(events)
            gate.wait_until_reached()
            line.drop()
            daemon.wait_until_told_to_stop()
            gate.let_through(1000)
        with RunningDaemon(steered()):
            clip = events.clip()
            assert clip.recipe is not None
            assert clip.recipe.seed == 9
            assert client.watch(stored.id).clip() == stored
            assert [kept.id for kept in client.all_clips()] == [clip.id, stored.id]
