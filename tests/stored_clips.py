"""Clips as tests store them, without a daemon."""

from __future__ import annotations

from typing import Any

import numpy as np

from soundctm.recipe import Recipe
from soundctm_daemon.clip import ClipRecord, new_clip_id

AUDIO = (0.3 * np.sin(np.arange(4410, dtype=np.float32)))[None]
RECIPE = Recipe(
    bundle_digest="d" * 64, prompt="雷雨 " + "é" * 997, negative_prompt="ø" * 1000, seed=2**32 - 1,
    seconds=0.5, steps=1, gamma=0.0, omega=3.0, nu=1.0,
)  # the longest there may be, and not in ASCII


def record(created_at: float = 1e9, **changes: Any) -> ClipRecord:
    """Of AUDIO, made by RECIPE."""
    facts = {
        "id": new_clip_id(), "model": "tiny", "recipe": RECIPE, "parent_id": "", "label": "rain",
        "created_at": created_at, "render_seconds": 0.1, "sample_rate_hz": 44100, "channels": 1,
        "samples": AUDIO.shape[1], "peak": float(np.abs(AUDIO).max()),
    }
    return ClipRecord(**{**facts, **changes})
