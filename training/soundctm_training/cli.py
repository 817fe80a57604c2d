"""`soundctm train`: from captioned audio to a bundle, one command per stage."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.logging import RichHandler
from safetensors import SafetensorError
from safetensors.torch import load_file

from soundctm.errors import SoundCTMError
from soundctm_training.config import ConfigError, TrainingConfig, read_config
from soundctm_training.runs import Budget, plain

console = Console(stderr=True)
app = typer.Typer(
    help="Train, distil and prove: from captioned audio to a bundle.", no_args_is_help=True,
    pretty_exceptions_enable=False,
)

ConfigFile = Annotated[Path, typer.Argument(help="TOML configuration; docs/train.md lists its tables")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="table.key=value on top of the file; repeatable")]
Out = Annotated[Path, typer.Option("--out", "-o", help="folder of the run; an unfinished run is continued")]
Minutes = Annotated[float | None, typer.Option(help="budget over all parts of the run, instead of the file's")]
Steps = Annotated[int | None, typer.Option(help="budget in steps; resumes bit for bit")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="print the resolved configuration and the plan, then leave")]


def run_command(command: Callable[[], None]) -> None:
    """Run a stage with its log on stderr; an error of ours is one sentence and exit code 1."""
    logging.basicConfig(
        level=logging.INFO, format="%(message)s", handlers=[RichHandler(console=console, show_path=False)], force=True
    )
    try:
        command()
    except SoundCTMError as error:
        console.print(f"[bold red]error[/]: {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


def chosen_budget(minutes: float | None, steps: int | None, from_file: Budget | None, stage: str) -> Budget:
    """The command's, else the file's. Raises ConfigError when neither says how long."""
    if minutes is not None or steps is not None:
        return Budget(steps, minutes)
    if from_file is None:
        raise ConfigError(f"no budget for {stage}: give --steps or --minutes, or [budget.{stage}] in the file")
    return from_file


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """A safetensors file. Raises ConfigError."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path} cannot be read as safetensors ({error})") from error


def show_plan(config: TrainingConfig, **facts: object) -> None:
    """What --dry-run prints: JSON on standard output."""
    typer.echo(json.dumps({"config": plain(config), "plan": plain(facts)}, indent=1))


def load(config_file: Path, changes: list[str] | None) -> TrainingConfig:
    config = read_config(config_file, changes or ())
    torch.set_num_threads(config.hardware.threads)
    return config
