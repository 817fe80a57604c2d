"""`soundctm models convert`: published files into a bundle."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from soundctm.errors import SoundCTMError
from soundctm.settings import models_dir
from soundctm.spec import Ranges


class VariantOption(StrEnum):
    AUTO = "auto"
    V1 = "v1"
    V2 = "v2"


def convert(
    name: Annotated[str, typer.Argument(help="Name of the new bundle.")],
    student: Annotated[Path, typer.Option(help="The student's EMA .pt (dit.* and text_encoder.model.*).")],
    vae: Annotated[Path, typer.Option(help="gaussiandac/weights.pth.")],
    z_stats: Annotated[Path, typer.Option(help="z_stats.pth.")],
    tokenizer: Annotated[Path, typer.Option(help="RoBERTa-base's tokenizer.json.")],
    clap: Annotated[
        Path | None, typer.Option(help="630k-audioset-best.pt; needed when the student holds no CLAP.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to make. Default: NAME in the models folder.")] = None,
    variant: Annotated[
        VariantOption, typer.Option(help="Text vectors; auto decides by their width.")
    ] = VariantOption.AUTO,
    heads: Annotated[int, typer.Option(min=1, help="Attention heads of the network; the weights do not say.")] = 24,
    text_heads: Annotated[int, typer.Option(min=1, help="Attention heads of the text encoder.")] = 12,
    omega_min: Annotated[float, typer.Option(help="Smallest guidance scale of the distillation.")] = 2.0,
    omega_max: Annotated[float, typer.Option(help="Largest guidance scale of the distillation.")] = 5.0,
    omega_default: Annotated[float, typer.Option(help="Guidance scale when a request names none.")] = 3.5,
    licence: Annotated[str, typer.Option(help="Licence of the weights.")] = "unknown (see LICENCE)",
) -> None:
    """Turn the published SoundCTM-DiT files into one bundle. Pickles are opened without running anything in them."""
    # torch takes seconds to import; only this command pays for it
    from soundctm.checkpoints.convert import Choices, OfficialFiles
    from soundctm.checkpoints.convert import convert as convert_files
    from soundctm.checkpoints.official import Variant

    console = Console(stderr=True)
    if not omega_min <= omega_default <= omega_max:
        console.print(
            f"[red]INVALID_REQUEST[/]: omega-default is {omega_default}; allowed: {omega_min} to {omega_max}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
        raise typer.Exit(2)
    chosen = None if variant is VariantOption.AUTO else Variant(variant.value)
    ranges = Ranges(omega_min=omega_min, omega_max=omega_max, omega_default=omega_default)
    files = OfficialFiles(student, vae, z_stats, tokenizer, clap)
    try:
        done = convert_files(
            files, Choices(name, ranges, heads, text_heads, chosen, licence), out or models_dir() / name
        )
    except SoundCTMError as error:
        console.print(f"[red]{error.reason}[/]: {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error
    for note in done.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"{name}: {done.variant.value}, digest {done.bundle.digest[:12]}, {done.bundle.path}")
