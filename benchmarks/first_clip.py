"""From prompt to file on this machine: what the README says of speed, measured.

    python benchmarks/first_clip.py [--model starter] [--runs 20] [--seconds 10] [--json FILE]

Starts a daemon of its own in a temporary state folder, twice: once to warm the file cache, once to measure. Prints the
time to the first answered call, to SERVING, and for 1, 4 and 16 jumps the time from the request to the clip on disk
(p50 and p95), the real-time factor, and the daemon's peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from memory import peak_memory_bytes
from rich.console import Console
from rich.progress import track
from rich.table import Table

from soundgen import paths
from soundgen.client import Client
from soundgen.errors import SoundgenError
from soundgen.types import ClipReady

JUMPS = (1, 4, 16)
PROMPTS = ("heavy rain on a tin roof", "a dog barks in the yard", "thunder rolls far away", "slow footsteps on gravel")
_POLL_SECONDS = 0.005
_START_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True)
class ColdStart:
    first_answer_seconds: float
    serving_seconds: float


@dataclass(frozen=True)
class Latency:
    jumps: int
    p50_seconds: float
    p95_seconds: float
    realtime_factor: float  # seconds of sound per second of waiting, at the median


def measure_cold_start(log: Path, model: str) -> tuple[subprocess.Popen[bytes], ColdStart]:
    """Start a daemon as its command does; the clock runs from the process's creation."""
    start = time.perf_counter()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "soundctm_daemon", "start", "--foreground", "--model", model],
            stdout=output,
            stderr=output,
        )
    wait_until(lambda: paths.answers(paths.socket_path()), process, log)
    with Client() as client:
        client.model()
        first_answer_seconds = time.perf_counter() - start
        wait_until(client.serving, process, log)
    return process, ColdStart(first_answer_seconds, time.perf_counter() - start)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.perf_counter() + _START_TIMEOUT_SECONDS
    while not condition():
        if process.poll() is not None or time.perf_counter() > deadline:
            sys.exit(f"the daemon did not come up:\n{log.read_text()}")
        time.sleep(_POLL_SECONDS)


def clip_seconds(client: Client, prompt: str, jumps: int, seconds: float) -> float:
    """From the call to the event that says the clip is stored."""
    start = time.perf_counter()
    for event in client.generate(prompt, steps=jumps, seconds=seconds):
        if isinstance(event, ClipReady):
            return time.perf_counter() - start
    raise SoundgenError("no clip came")


def measure_latency(client: Client, jumps: int, runs: int, seconds: float) -> Latency:
    taken = [
        clip_seconds(client, f"{PROMPTS[run % len(PROMPTS)]}, take {run}", jumps, seconds)
        for run in track(range(runs), f"{jumps} jumps", transient=True)
    ]
    p50, p95 = statistics.median(taken), statistics.quantiles(taken, n=20, method="inclusive")[18]
    return Latency(jumps, p50, p95, seconds / p50)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(timeout=60)


def processor() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{found[1] if found else platform.machine()}, {os.cpu_count()} logical cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="starter", help="a name from `soundctm models list`, or a bundle folder")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each clip")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SOUNDCTM_STATE"] = folder
        log = Path(folder) / "benchmark.log"
        stop(measure_cold_start(log, options.model)[0])  # only warms the file cache
        process, cold = measure_cold_start(log, options.model)
        with Client() as client:
            clip_seconds(client, "warm up", 1, options.seconds)
            rows = [measure_latency(client, jumps, options.runs, options.seconds) for jumps in JUMPS]
        memory_bytes = peak_memory_bytes(process.pid)
        stop(process)
    report(options, cold, rows, memory_bytes)


def report(options: argparse.Namespace, cold: ColdStart, rows: list[Latency], memory_bytes: int) -> None:
    table = Table(title=f"{options.model}, {options.seconds:g} s clips, {options.runs} runs, {processor()}")
    for column in ("jumps", "p50 s", "p95 s", "x real time"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(str(row.jumps), f"{row.p50_seconds:.3f}", f"{row.p95_seconds:.3f}", f"{row.realtime_factor:.1f}")
    console = Console()
    console.print(table)
    console.print(f"first answered call after {cold.first_answer_seconds:.2f} s")
    console.print(f"SERVING after {cold.serving_seconds:.2f} s")
    console.print(f"peak memory of the daemon {memory_bytes / 2**20:.0f} MiB")
    if options.json:
        latency = [asdict(row) for row in rows]
        figures = {"cold_start": asdict(cold), "latency": latency, "peak_memory_bytes": memory_bytes}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
