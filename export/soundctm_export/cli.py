"""`soundctm export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from soundctm.engines.tensorrt import Builder, BuildOptions
from soundctm_export.settings import DEFAULT_OPSET, ExportSettings, Precision
from soundctm_export.tensorrt_settings import DEFAULT_MAX_ROWS, FEWEST_ROWS, TensorRTPrecision, TensorRTSettings
from soundctm_export.torch_package_settings import TorchPackageSettings

app = typer.Typer(help="Turn a bundle into graphs that other runtimes run.", no_args_is_help=True)

_BUNDLE = typer.Argument(help="Name of an installed model, or a bundle folder.")
_OUT = typer.Option("--out", "-o", help="Folder to make; must not exist.")


@app.command()
def onnx(
    bundle: Annotated[str, _BUNDLE],
    out: Annotated[Path, _OUT],
    precision: Annotated[
        Precision, typer.Option("--precision", "-p", help="Of the matrix products of the network.")
    ] = Precision.FP32,
    opset: Annotated[int, typer.Option(help="ONNX opset.")] = DEFAULT_OPSET,
    preview: Annotated[bool, typer.Option(help="One more graph: a whole 1-jump preview.")] = True,
) -> None:
    """ONNX graphs. Each is run and compared with PyTorch before it is kept."""
    from soundctm_export.command import run_onnx

    raise typer.Exit(run_onnx(ExportSettings(bundle, out, precision, opset, preview)))


@app.command()
def tensorrt(
    source: Annotated[str, typer.Argument(help="Name of an installed model, a bundle folder, or exported graphs.")],
    out: Annotated[Path, _OUT],
    precision: Annotated[
        TensorRTPrecision, typer.Option("--precision", "-p", help="Of the matrix products of network and text encoder.")
    ] = TensorRTPrecision.FP16,
    builder: Annotated[Builder, typer.Option(help="Who builds the engines.")] = Builder.ONNXRUNTIME,
    max_rows: Annotated[
        int, typer.Option(min=FEWEST_ROWS, help="Largest batch of an engine; larger ones run in parts.")
    ] = DEFAULT_MAX_ROWS,
    level: Annotated[int, typer.Option(min=0, max=5, help="How long TensorRT searches.")] = BuildOptions().level,
    workspace_mb: Annotated[int, typer.Option(min=0, help="GPU memory for building; 0: all of it.")] = 0,
    timing_cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps how fast each kernel was, for the next build.")
    ] = None,
    prepare: Annotated[bool, typer.Option("--prepare", help="All but the engines; needs no GPU.")] = False,
) -> None:
    """TensorRT engines, for this machine's GPU alone. Each is compared with PyTorch. Not yet run on TensorRT."""
    from soundctm_export.command import run_tensorrt

    options = BuildOptions(builder, level, workspace_mb)
    raise typer.Exit(run_tensorrt(TensorRTSettings(source, out, precision, options, max_rows, prepare, timing_cache)))


@app.command()
def torch(
    bundle: Annotated[str, _BUNDLE],
    out: Annotated[Path, _OUT],
    compiled: Annotated[
        bool, typer.Option("--compiled", help="Also machine code for this processor; takes a C++ compiler, and minutes")
    ] = False,
) -> None:
    """Packages of torch.export. Each is loaded and compared with the bundle's networks before it is kept."""
    from soundctm_export.command import run_torch_package

    raise typer.Exit(run_torch_package(TorchPackageSettings(bundle, out, compiled)))
