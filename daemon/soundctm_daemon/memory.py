"""How much memory models may take together."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

_SHARE = 0.7  # of what is free when the first model is loaded; the rest is for latents, audio and everybody else
_MB = 1_000_000


def memory_budget(model_memory_mb: int, device: str) -> Callable[[], int]:
    """Bytes, told when asked: `model_memory_mb`, or for 0 a share of what is free on the device then."""

    def budget_bytes() -> int:
        return model_memory_mb * _MB if model_memory_mb else int(_SHARE * free_bytes(device))

    return budget_bytes


def free_bytes(device: str) -> int:
    """Memory that can be had: the GPU's own for "cuda", the machine's or this container's for everything else."""
    if device.startswith("cuda"):
        import torch

        if torch.cuda.is_available():  # else an engine that may computes on the CPU, and every other says what is wrong
            return int(torch.cuda.mem_get_info(device)[0])
    machine, container = _free_in_machine(Path("/proc/meminfo")), _free_in_container(Path("/sys/fs/cgroup"))
    return machine if container is None else min(machine, container)


def _free_in_machine(meminfo: Path) -> int:
    """What Linux says can be had without swapping; elsewhere all the memory there is."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError, IndexError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _free_in_container(cgroup: Path) -> int | None:
    """None outside of a container with a limit (cgroup v2)."""
    try:
        limit, used = int((cgroup / "memory.max").read_text()), int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):  # "max" is no number
        return None
    return max(0, limit - used)
