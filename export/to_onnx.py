#!/usr/bin/env python3
"""Turn a bundle into ONNX graphs: `python export/to_onnx.py BUNDLE -o OUT`. Works from a checkout, uninstalled."""

from __future__ import annotations

import sys
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_CHECKOUT / "export"), str(_CHECKOUT / "model")]

from soundctm_export.arguments import parse  # noqa: E402 (found through the lines above)

if __name__ == "__main__":
    settings = parse()
    from soundctm_export.command import run_onnx  # torch and onnx: seconds that --help need not wait for

    sys.exit(run_onnx(settings))
