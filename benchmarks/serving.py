"""How the daemon serves many at once: previews beside refinements, and throughput.

    python benchmarks/serving.py [--model starter] [--device cpu] [--seconds 10] [--previews 30] [--duration 20]
                                 [--clients 1 4 16 64] [--json FILE]

Starts a daemon of its own in a temporary state folder, once per policy, and asks it from this process:

    batching     as it is: step by step, previews first, whoever is ready shares a step where that gains something
    no batching  the same, but every step is one clip's
    one by one   first come, first served: a clip is made whole before the next one begins

Prints the time from asking for a preview (1 jump) to the clip on disk, p50 and p95, with nothing else to do and while 8
refinements (16 jumps) are in flight all the time; and clips per second when so many clients each ask for one clip of 4
jumps after another.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from first_clip import PROMPTS, processor, stop, wait_until
from rich.console import Console
from rich.table import Table

from soundgen import paths
from soundgen.client import AsyncClient, Client
from soundgen.types import ClipReady

POLICIES = ("batching", "no batching", "one by one")
REFINEMENTS = 8
PREVIEW_JUMPS, CLIP_JUMPS, REFINE_JUMPS = 1, 4, 16
SETTINGS = {"SOUNDCTM_CLIENT_JOBS": "1000", "SOUNDCTM_CLIENT_REQUESTS_PER_SECOND": "0"}  # one token asks for all here


@dataclass(frozen=True)
class Latency:
    p50_seconds: float
    p95_seconds: float


@dataclass(frozen=True)
class Serving:
    """Of one policy. `clips_per_second` by the number of clients."""

    policy: str
    idle: Latency
    loaded: Latency
    clips_per_second: dict[int, float]


async def clip(client: AsyncClient, number: int, jumps: int, seconds: float) -> None:
    """Made and stored."""
    prompt = PROMPTS[number % len(PROMPTS)]
    async for event in client.generate(prompt, steps=jumps, seconds=seconds, seed=number):
        if isinstance(event, ClipReady):
            return
    raise RuntimeError("no clip came")


async def preview_latency(client: AsyncClient, count: int, seconds: float) -> Latency:
    taken = []
    for number in range(count):
        start = time.perf_counter()
        await clip(client, number, PREVIEW_JUMPS, seconds)
        taken.append(time.perf_counter() - start)
    return Latency(statistics.median(taken), statistics.quantiles(taken, n=20, method="inclusive")[18])


async def loaded_latency(client: AsyncClient, count: int, seconds: float) -> Latency:
    numbers = itertools.count(1_000_000)

    async def refine_on_and_on() -> None:
        while True:
            await clip(client, next(numbers), REFINE_JUMPS, seconds)

    async with asyncio.TaskGroup() as group:
        load = [group.create_task(refine_on_and_on()) for _ in range(REFINEMENTS)]
        while len([job for job in await client.jobs() if job.recipe.steps == REFINE_JUMPS]) < REFINEMENTS:
            await asyncio.sleep(0.01)
        latency = await preview_latency(client, count, seconds)
        for task in load:
            task.cancel()
    return latency


async def throughput(client: AsyncClient, clients: int, duration_seconds: float, seconds: float) -> float:
    """Clips per second, counted from the first clip made to the last; every client makes two at least."""
    ended: list[float] = []
    numbers = itertools.count(2_000_000)
    start = time.perf_counter()

    async def ask_on_and_on() -> None:
        made = 0
        while made < 2 or time.perf_counter() - start < duration_seconds:
            await clip(client, next(numbers), CLIP_JUMPS, seconds)
            ended.append(time.perf_counter())
            made += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(ask_on_and_on())
    return (len(ended) - 1) / (max(ended) - min(ended))


async def measured(policy: str, options: argparse.Namespace) -> Serving:
    async with AsyncClient() as client:
        for number in range(len(PROMPTS)):
            await clip(client, number, CLIP_JUMPS, options.seconds)  # prompts known, pace found
        idle = await preview_latency(client, options.previews, options.seconds)
        loaded = await loaded_latency(client, options.previews, options.seconds)
        rates = {
            clients: await throughput(client, clients, options.duration, options.seconds)
            for clients in options.clients
        }
    return Serving(policy, idle, loaded, rates)


def measure(policy: str, options: argparse.Namespace, console: Console) -> Serving:
    with tempfile.TemporaryDirectory() as folder, console.status(f"measuring: {policy}"):
        os.environ["SOUNDCTM_STATE"] = folder
        log = Path(folder) / "benchmark.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, __file__, "--serve", policy, "--model", options.model, "--device", options.device],
                stdout=output,
                stderr=output,
                env={**os.environ, **SETTINGS},
            )
        try:
            wait_until(lambda: paths.answers(paths.socket_path()), process, log)
            with Client() as client:
                wait_until(client.serving, process, log)
            return asyncio.run(measured(policy, options))
        finally:
            stop(process)


def serve(policy: str, model: str, device: str) -> None:
    """A daemon that decides by this policy. It has no such switch, so its decision is replaced."""
    from soundctm_daemon import worker
    from soundctm_daemon.cli import app
    from soundctm_daemon.ticks import Candidate, PassedOver

    def oldest_alone(
        candidates: Sequence[Candidate], passed_over: PassedOver, row_limit: Callable[[Candidate], int]
    ) -> list[Candidate]:
        return [min(candidates, key=lambda candidate: candidate.order)] if candidates else []

    if policy == "no batching":
        worker.rows_together = lambda cost, frames: 1
    elif policy == "one by one":
        worker.choose = oldest_alone
    with suppress(SystemExit):
        app(["start", "--foreground", "--model", model, "--device", device])


def report(options: argparse.Namespace, rows: Sequence[Serving], console: Console) -> None:
    where = f"{options.model}, {options.seconds:g} s clips, {options.device}, {processor()}"
    latency = Table(title=f"Previews: {where}; {options.previews} each")
    for column in ("policy", "idle p50 s", "idle p95 s", "loaded p50 s", "loaded p95 s", "loaded p95 / idle p95"):
        latency.add_column(column, justify="left" if column == "policy" else "right")
    rate = Table(title=f"Clips of {CLIP_JUMPS} jumps per second; {options.duration:g} s each")
    for column in ("policy", *(f"{clients} clients" for clients in options.clients)):
        rate.add_column(column, justify="left" if column == "policy" else "right")
    for row in rows:
        times = (row.idle.p50_seconds, row.idle.p95_seconds, row.loaded.p50_seconds, row.loaded.p95_seconds)
        ratio = row.loaded.p95_seconds / row.idle.p95_seconds
        latency.add_row(row.policy, *(f"{seconds:.3f}" for seconds in times), f"{ratio:.1f}")
        rate.add_row(row.policy, *(f"{per_second:.2f}" for per_second in row.clips_per_second.values()))
    console.print(latency)
    console.print(rate)
    if options.json:
        figures = {"where": where, "policies": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="starter", help="a name from `soundctm models list`, or a bundle folder")
    parser.add_argument("--device", default="cpu", help="as PyTorch names it")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each clip")
    parser.add_argument("--previews", type=int, default=30, help="how many are timed, idle and loaded; 2 at least")
    parser.add_argument("--duration", type=float, default=20.0, help="seconds of each throughput measurement")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--serve", choices=POLICIES, help=argparse.SUPPRESS)  # the daemon's process
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.model, options.device)
        return
    console = Console()
    report(options, [measure(policy, options, console) for policy in options.policies], console)


if __name__ == "__main__":
    main()
