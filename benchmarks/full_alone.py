"""One engine in a process of its own: how long it loads, and how much memory it takes at most for a clip.

    python benchmarks/full_alone.py ENGINE BUNDLE THREADS        prints JSON
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from full_engines import load
from memory import peak_memory_bytes

from soundctm.bundle import Bundle, open_bundle


def measured_alone(name: str, bundle: Bundle, threads: int) -> dict[str, Any]:
    """Weights that are mapped from a file count as memory where they were read."""
    command = [sys.executable, __file__, name, str(bundle.path), str(threads)]
    told: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return told


def main() -> None:
    name, folder, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    began, worked = time.perf_counter(), time.process_time()
    contestant = load(name, open_bundle(Path(folder)), int(threads))
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - worked
    contestant.decode(contestant.jumps(1, "heavy rain"))
    peak_bytes = peak_memory_bytes()
    print(json.dumps({"load_seconds": seconds, "load_cpu_seconds": cpu_seconds, "peak_bytes": peak_bytes}))


if __name__ == "__main__":
    main()
