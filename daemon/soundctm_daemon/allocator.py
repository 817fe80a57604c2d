"""The C library's allocator, set for a process of many threads that runs for days."""

from __future__ import annotations

import ctypes
import os
import sys

_ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h
_ARENAS = 2
_VARIABLE = "MALLOC_ARENA_MAX"


def share_arenas() -> bool:
    """Let all threads share two heaps; before the first of them starts. glibc gives each of a dozen threads its own,
    where what one thread freed helps no other: a daemon at work grew by 80 MB in half an hour that way, all of it free.

    False where nothing was set: the environment says it, or the C library is another.
    """
    if sys.platform != "linux" or _VARIABLE in os.environ:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_ARENA_MAX, _ARENAS))
