"""The command line of `export/to_onnx.py`. The standard library only."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from soundctm_export.settings import DEFAULT_OPSET, ExportSettings, Precision


def parse(arguments: Sequence[str] | None = None) -> ExportSettings:
    """Leaves with code 2, after saying what is wrong, when the arguments are not usable."""
    parser = argparse.ArgumentParser(
        prog="to_onnx.py",
        description="Turn a bundle into ONNX graphs. Each is run and compared with PyTorch before it is kept.",
    )
    parser.add_argument("bundle", help="name of an installed model ('starter'), or a bundle folder")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder to make; must not exist")
    parser.add_argument(
        "-p", "--precision", type=Precision, choices=list(Precision), default=Precision.FP32,
        help="of the matrix products of the network (default: %(default)s); docs/export.md",
    )  # fmt: skip
    parser.add_argument("--opset", type=int, default=DEFAULT_OPSET, help="ONNX opset (default: %(default)s)")
    parser.add_argument("--no-preview", dest="preview", action="store_false", help="leave out the preview graph")
    return ExportSettings(**vars(parser.parse_args(arguments)))
