"""What the commands of `soundctm train` share: their log, and how they fail."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

import typer
from rich.console import Console
from rich.logging import RichHandler

from soundctm.errors import SoundCTMError
from soundctm_training.config import TrainingConfig
from soundctm_training.runs import plain

LOG_COLUMNS = 140  # of a log that is no terminal

console = Console(stderr=True)
if not console.is_terminal:
    console = Console(stderr=True, width=LOG_COLUMNS)


def run_command(command: Callable[[], None]) -> None:
    """Run a stage with its log on stderr; an error of ours is one sentence and exit code 1."""
    logging.basicConfig(
        level=logging.INFO, format="%(message)s", handlers=[RichHandler(console=console, show_path=False)], force=True
    )
    try:
        command()
    except SoundCTMError as error:
        console.print("error:", style="bold red", end=" ")
        console.print(str(error), highlight=False, markup=False, soft_wrap=True)  # errors name [tables]
        raise typer.Exit(1) from error


def show_plan(config: TrainingConfig, **facts: object) -> None:
    """What --dry-run prints: JSON on standard output."""
    typer.echo(json.dumps({"config": plain(config), "plan": plain(facts)}, indent=1))
