"""`python -m faults [WORD ...]`: fault -> what was lost; exit code 1 unless every row says nothing.

With words, only the faults whose names hold one of them.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from faults import kills, suite
from faults.scale import FULL
from running_daemon import install
from tiny import write_tiny_bundle

_NAME_WIDTH = 62


def main(words: list[str]) -> int:
    logging.disable(logging.CRITICAL)  # the faults are told there by the hundred
    console = Console(highlight=False)
    console.print(f"[bold]{'fault':{_NAME_WIDTH}}  lost")
    tried, failed = 0, 0
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        bundle = write_tiny_bundle(Path(folder) / "bundle" / "tiny").path
        os.environ["SOUNDCTM_MODELS"] = str(install(bundle, Path(folder) / "models").parent)
        os.environ["SOUNDCTM_CLIENT_REQUESTS_PER_SECOND"] = "0"  # whoever looks at everything asks a lot
        began = time.monotonic()
        for name, lost in _tried(words, Path(folder)):
            tried += 1
            failed += bool(lost)
            took = time.monotonic() - began
            verdict = f"[red]{len(lost)} things[/]" if lost else "[green]nothing[/]"
            console.print(f"{name:{_NAME_WIDTH}}  {verdict}  [dim]{took:.0f} s[/]")
            for sentence in lost[:5]:
                console.print(f"    {escape(sentence)}", soft_wrap=True)
            began = time.monotonic()
    console.print(f"{tried} faults; " + (f"[red]{failed} lost something[/]" if failed else "nothing was lost"))
    return 1 if failed or not tried else 0


def _tried(words: list[str], folder: Path) -> Iterator[tuple[str, list[str]]]:
    def wanted(name: str) -> bool:
        return not words or any(word in name for word in words)

    if wanted(kills.AT_EVERY_POINT):
        _use(folder / "kills")
        yield from kills.at_every_point(FULL)
    for number, (name, fault) in enumerate(suite.FAULTS.items()):
        if wanted(name):
            _use(folder / str(number))
            yield name, _lost(fault)


def _lost(fault: suite.Fault) -> list[str]:
    try:
        return fault(FULL)
    except Exception as error:
        return [f"it could not be tried to its end: {type(error).__name__}: {error}"]


def _use(state: Path) -> None:
    os.environ["SOUNDCTM_STATE"] = str(state)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
