"""`soundctm export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from soundctm_export.settings import DEFAULT_OPSET, ExportSettings, Precision

app = typer.Typer(help="Turn a bundle into graphs that other runtimes run.", no_args_is_help=True)


@app.callback()
def _export() -> None:
    """Keeps `onnx` a subcommand while it is the only one."""


@app.command()
def onnx(
    bundle: Annotated[str, typer.Argument(help="Name of an installed model, or a bundle folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make; must not exist.")],
    precision: Annotated[
        Precision, typer.Option("--precision", "-p", help="Of the matrix products of the network.")
    ] = Precision.FP32,
    opset: Annotated[int, typer.Option(help="ONNX opset.")] = DEFAULT_OPSET,
    preview: Annotated[bool, typer.Option(help="One more graph: a whole 1-jump preview.")] = True,
) -> None:
    """ONNX graphs. Each is run and compared with PyTorch before it is kept."""
    from soundctm_export.command import run

    raise typer.Exit(run(ExportSettings(bundle, out, precision, opset, preview)))
