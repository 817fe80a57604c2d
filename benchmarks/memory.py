"""The memory a process took at most."""

from __future__ import annotations

import re
from pathlib import Path


def peak_memory_bytes(pid: int | str = "self") -> int:
    """Since the process began its program; what `getrusage` says includes the peak of whoever started it."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0
