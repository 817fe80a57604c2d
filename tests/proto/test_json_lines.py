"""Lines of JSON for scripts."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from soundgen import types
from soundgen.errors import SoundgenError
from soundgen.json_lines import JsonReporter


class InterruptedAfterItsFirstWrite(io.StringIO):
    """What Ctrl-C may do to a file: everything of one write arrives, and nothing that was to follow it."""

    writes = 0

    def write(self, text: str) -> int:
        written = super().write(text)
        self.writes += 1
        if self.writes == 1:
            raise KeyboardInterrupt
        return written


def test_ctrl_c_within_a_line_leaves_the_next_one_whole() -> None:
    file = InterruptedAfterItsFirstWrite()
    reporter = JsonReporter(Console(file=file))
    with pytest.raises(KeyboardInterrupt):
        reporter.follow("rain", [types.Started("clip")])
    reporter.failed(SoundgenError("left"))
    assert [json.loads(line)["event"] for line in file.getvalue().splitlines()] == ["started", "failed"]
