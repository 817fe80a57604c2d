"""`python -m fuzzing [--messages 100000] [--connections N] [--seed 1]`: wild messages at every call of a daemon and
wild bytes at its port; exit code 1 when it did anything but answer properly, or when health became slow."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from fuzzing.attack import attack
from fuzzing.calls import Fuzzed
from running_daemon import install
from tiny import write_tiny_bundle

_HEALTH_P95_SECONDS = 1.0  # who restarts daemons that are not well waits longer than that
_METHOD_WIDTH = 52
_MESSAGES_PER_CONNECTION = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000, help="in all; every call gets as many")
    parser.add_argument("--connections", type=int, help=f"default: messages / {_MESSAGES_PER_CONNECTION}")
    parser.add_argument("--seed", type=int, default=1, help="of chance")
    options = parser.parse_args()
    connections = options.messages // _MESSAGES_PER_CONNECTION if options.connections is None else options.connections
    logging.disable(logging.CRITICAL)
    console, began = Console(highlight=False), time.monotonic()

    def report(fuzzed: Fuzzed) -> None:
        codes = ", ".join(f"{name} {count}" for name, count in fuzzed.codes.most_common())
        verdict = "[red]defect[/]" if fuzzed.defect else "[green]ok[/]"
        console.print(f"{fuzzed.method:{_METHOD_WIDTH}} {verdict} {fuzzed.sent} messages; {codes}", soft_wrap=True)

    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        bundle = write_tiny_bundle(Path(folder) / "bundle" / "tiny").path
        os.environ["SOUNDCTM_MODELS"] = str(install(bundle, Path(folder) / "models").parent)
        os.environ["SOUNDCTM_STATE"] = str(Path(folder) / "state")
        outcome = attack(options.messages, connections, options.seed, report)
    health = outcome.health
    p50, p95 = health.percentile_seconds(50), health.percentile_seconds(95)
    if p95 > _HEALTH_P95_SECONDS:
        outcome.defects.append(f"health took {p95:.3f} s at p95, more than {_HEALTH_P95_SECONDS:g} s")
    console.print(
        f"{outcome.sent} messages and {connections} connections in {time.monotonic() - began:.0f} s; health asked "
        f"{len(health.seconds)} times: p50 {p50 * 1000:.1f} ms, p95 {p95 * 1000:.1f} ms, longest "
        f"{max(health.seconds) * 1000:.0f} ms; {len(outcome.defects)} defects"
    )
    for defect in outcome.defects:
        console.print(escape(defect), style="red", soft_wrap=True)
    return 1 if outcome.defects else 0


if __name__ == "__main__":
    sys.exit(main())
