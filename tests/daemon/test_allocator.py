"""A daemon's threads share their heaps, unless whoever starts it says otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

# prints how many heaps glibc made for eight threads that allocate at the same time
SCRIPT = """
import ctypes, threading
from soundctm_daemon.allocator import share_arenas
assert share_arenas() is {expected}
barrier = threading.Barrier(8)
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
def allocate():
    barrier.wait()
    for _ in range(100):
        libc.malloc(5000)
    barrier.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc.malloc_stats()
"""


@pytest.mark.parametrize(("environment", "expected", "heaps"), [({}, True, 2), ({"MALLOC_ARENA_MAX": "4"}, False, 4)])
def test_threads_share_their_heaps(environment: dict[str, str], expected: bool, heaps: int) -> None:
    if platform.libc_ver()[0] != "glibc":
        expected, heaps = False, 0
    told = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(expected=expected)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert heaps == 0 or 1 <= told.stderr.count("Arena ") <= heaps
