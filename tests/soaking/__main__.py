"""`python -m soaking [--minutes 30]`: eight clients of every kind at one daemon; exit code 1 on any error, or when its
memory grows. On Linux."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from running_daemon import install
from soaking.soak import Outcome, soak
from tiny import write_tiny_bundle

# The ids of an hour's requests are remembered, 50 000 at most of 0.6 KB: 30 MB that come with the first hour and stay.
# What grows with every clip, without end, and be it 1 KB, is more than the rest at the pace of the eight.
_MOST_MB_PER_HOUR = 50.0
_ERRORS_SHOWN = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    console = Console(highlight=False)

    def report(outcome: Outcome) -> None:
        seconds, megabytes = outcome.samples[-1]
        done, errors = outcome.world.done.total(), len(outcome.world.errors)
        console.print(f"{seconds / 60:6.1f} min  {megabytes:6.1f} MB  {done} rounds  {errors} errors", style="dim")

    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        bundle = write_tiny_bundle(Path(folder) / "bundle" / "tiny").path
        os.environ["SOUNDCTM_MODELS"] = str(install(bundle, Path(folder) / "models").parent)
        os.environ["SOUNDCTM_STATE"] = str(Path(folder) / "state")
        outcome = soak(options.minutes * 60, report)
    for name, rounds in outcome.world.done.items():
        console.print(f"{name:34} {rounds} rounds")
    slope, sizes = outcome.slope, [megabytes for _, megabytes in outcome.samples]
    if slope.low > _MOST_MB_PER_HOUR:
        outcome.errors.append(f"memory grows by more than {_MOST_MB_PER_HOUR:g} MB per hour")
    console.print(f"{options.minutes:g} minutes, {outcome.clips} clips, {len(outcome.errors)} errors")
    console.print(f"memory: {sizes[0]:.0f} MB first, {sizes[-1]:.0f} MB last, {max(sizes):.0f} MB at most")
    console.print(
        f"after the warm-up {slope.mb_per_hour:+.1f} MB per hour (95 %: {slope.low:+.1f} to {slope.high:+.1f})"
    )
    for error in outcome.errors[:_ERRORS_SHOWN]:
        console.print(escape(error), style="red", soft_wrap=True)
    return 1 if outcome.errors else 0


if __name__ == "__main__":
    sys.exit(main())
