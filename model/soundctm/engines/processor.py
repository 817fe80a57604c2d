"""What this machine's processor multiplies in hardware, and whether code can be compiled for it. No torch."""

from __future__ import annotations

import shutil
from pathlib import Path

from soundctm import settings

_CPUINFO = Path("/proc/cpuinfo")
_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # of x86; the last is ARM's
_INT8 = {"avx512_vnni", "avx_vnni", "amx_int8"}


def native_bfloat16(cpuinfo: Path = _CPUINFO) -> bool:
    """Products of bfloat16 take half as long as those of float32. False where nobody says so."""
    return bool(_flags(cpuinfo) & _BFLOAT16)


def native_int8(cpuinfo: Path = _CPUINFO) -> bool:
    """Products of 8-bit integers take a quarter as long as those of float32. False where nobody says so."""
    return bool(_flags(cpuinfo) & _INT8)


def cpp_compiler() -> str | None:
    """The one that PyTorch would call; None where there is none."""
    return shutil.which(settings.cpp_compiler())


def _flags(cpuinfo: Path) -> set[str]:
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    named = (line.partition(":") for line in lines)
    return next((set(value.split()) for name, _, value in named if name.strip() in ("flags", "Features")), set())
