"""`soundctm train`: from captioned audio to a bundle, one command per stage."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import torch
import typer

from soundctm_training.commands import run_command, show_plan
from soundctm_training.config import ConfigError, TrainingConfig, need, read_config
from soundctm_training.data.settings import DataSettings
from soundctm_training.judging_cli import add_judging, classes_of
from soundctm_training.runs import Budget

app = typer.Typer(
    help="Train, distil and prove: from captioned audio to a bundle.", no_args_is_help=True,
    pretty_exceptions_enable=False,
)
add_judging(app)

ConfigFile = Annotated[Path, typer.Argument(help="TOML configuration; docs/train.md lists its tables")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="table.key=value on top of the file; repeatable")]
Out = Annotated[Path, typer.Option("--out", "-o", help="folder of the run; an unfinished run is continued")]
Minutes = Annotated[float | None, typer.Option(help="budget over all parts of the run, instead of the file's")]
Steps = Annotated[int | None, typer.Option(help="budget in steps; resumes bit for bit")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="print the resolved configuration and the plan, then leave")]


def chosen_budget(minutes: float | None, steps: int | None, from_file: Budget | None, stage: str) -> Budget:
    """The command's, else the file's. Raises ConfigError when neither says how long."""
    if minutes is not None or steps is not None:
        return Budget(steps, minutes)
    if from_file is None:
        raise ConfigError(f"no budget for {stage}: give --steps or --minutes, or [budget.{stage}] in the file")
    return from_file


def load(config_file: Path, changes: list[str] | None) -> TrainingConfig:
    config = read_config(config_file, changes or ())
    torch.set_num_threads(config.hardware.threads)
    return config


Latents = Annotated[list[Path], typer.Option(help="folder that `soundctm train encode` wrote; repeatable")]
SampleCodec = Annotated[Path | None, typer.Option("--codec", help="codec.safetensors: samples become sounds with it")]


DataPath = Annotated[Path | None, typer.Option(help="where the audio is, instead of the file's data.path")]


def data_of(config: TrainingConfig, path: Path | None) -> DataSettings:
    """The [data] table, at another path where one is given. Raises ConfigError."""
    settings = need(config.data, "data", config)
    return settings if path is None else dataclasses.replace(settings, path=path)


@app.command()
def synthesise(
    out: Annotated[Path, typer.Option("--out", "-o", help="folder to write the pools into")],
    config_file: Annotated[Path, typer.Argument(help="TOML: clips per length, shares, classes")],
    seed: Annotated[int, typer.Option(help="seed of the whole run")] = 1,
    recordings: Annotated[Path | None, typer.Option(help="folder of CC0 recordings; none = synthesis only")] = None,
    workers: Annotated[int, typer.Option(help="processes that render side by side")] = 1,
) -> None:
    """Draw captioned clips from the procedural synthesiser and the CC0 recordings."""

    def command() -> None:
        from soundctm_training.synthesise import DataConfig, write_pools

        write_pools(out, seed, DataConfig.read(config_file), recordings, workers)

    run_command(command)


@app.command()
def codec(
    config_file: ConfigFile,
    out: Out,
    data: DataPath = None,
    start: Annotated[Path | None, typer.Option(help="codec.safetensors of an earlier codec to begin from")] = None,
    minutes: Minutes = None,
    steps: Steps = None,
    change: Changes = None,
    fit: Annotated[bool, typer.Option("--fit", help="fit the mel codec's encoder and stop: enough to encode")] = False,
    dry_run: DryRun = False,
) -> None:
    """Train the codec: the Gaussian DAC-style VAE, or the decoder of the whitened mel codec."""

    def command() -> None:
        config = load(config_file, change)
        if fit:
            from soundctm_training.codec.stage import fit_codec

            fit_codec(config, data_of(config, data), out)
            return
        budget = chosen_budget(minutes, steps, config.budget.codec, "codec")
        from soundctm_training.codec.stage import train_codec

        train_codec(
            config, data_of(config, data), out, budget, start=start, dry_run=show_plan if dry_run else None
        )

    run_command(command)


@app.command()
def encode(
    config_file: ConfigFile,
    codec: Annotated[Path, typer.Option(help="a codec's file or run folder, or a bundle")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder of the latents; an unfinished one is continued")],
    data: DataPath = None,
    workers: Annotated[int, typer.Option(help="processes that encode side by side")] = 1,
    change: Changes = None,
    dry_run: DryRun = False,
) -> None:
    """Turn captioned audio into latents and a text table, once."""

    def command() -> None:
        config = load(config_file, change)
        from soundctm_training import encode as stage
        from soundctm_training.data.codecs import load_codec_for_encoding
        from soundctm_training.data.opening import open_source

        settings, source = need(config.encode, "encode", config), open_source(data_of(config, data))
        loaded = load_codec_for_encoding(codec, config)
        if dry_run:
            show_plan(config, items=len(source), codec=loaded.identity())
            return
        sigma_data, device = config.diffusion.sigma_data, config.hardware.device
        stage.encode(
            settings, source, loaded, out, sigma_data=sigma_data, workers=workers,
            device="cpu" if device == "auto" else device,
        )

    run_command(command)


@app.command()
def teacher(
    config_file: ConfigFile,
    latents: Latents,
    out: Out,
    start: Annotated[Path | None, typer.Option(help="weights of an earlier teacher to begin from")] = None,
    codec: SampleCodec = None,
    minutes: Minutes = None,
    steps: Steps = None,
    change: Changes = None,
    dry_run: DryRun = False,
) -> None:
    """Train the EDM teacher on encoded latents, with captions dropped for guidance."""

    def command() -> None:
        config = load(config_file, change)
        budget = chosen_budget(minutes, steps, config.budget.teacher, "teacher")
        from soundctm_training.stages import train_teacher

        train_teacher(config, latents, out, budget, start=start, codec=codec, dry_run=show_plan if dry_run else None)

    run_command(command)


@app.command()
def remember(
    config_file: ConfigFile,
    network: Annotated[Path, typer.Option(help="teacher.safetensors or student.safetensors")],
    out: Annotated[Path, typer.Option("--out", "-o", help="file to write: the same weights with a memory of texts")],
    labels_of: Annotated[Path | None, typer.Option(help="data file of the classes it learned; none = all")] = None,
    change: Changes = None,
) -> None:
    """Give a network a memory of the captions of its classes, by which it understands other wordings."""

    def command() -> None:
        from soundctm_training.remember import remember as give_memory

        give_memory(load(config_file, change), network, classes_of(labels_of), out)

    run_command(command)


@app.command()
def distill(
    config_file: ConfigFile,
    latents: Latents,
    teacher: Annotated[Path, typer.Option(help="teacher.safetensors")],
    out: Out,
    start: Annotated[Path | None, typer.Option(help="weights of an earlier student to begin from")] = None,
    start_teacher: Annotated[
        Path | None, typer.Option(help="the teacher of --start, where --teacher is a later one: its progress is added")
    ] = None,
    codec: SampleCodec = None,
    minutes: Minutes = None,
    steps: Steps = None,
    change: Changes = None,
    dry_run: DryRun = False,
) -> None:
    """Distil a student that jumps: method ctm, lcd or cd, as the configuration says."""

    def command() -> None:
        config = load(config_file, change)
        budget = chosen_budget(minutes, steps, config.budget.distill, "distill")
        from soundctm_training.stages import distill_student

        distill_student(
            config, latents, teacher, out, budget, start=start, start_teacher=start_teacher, codec=codec,
            dry_run=show_plan if dry_run else None,
        )  # fmt: skip

    run_command(command)


@app.command()
def average(
    config_file: ConfigFile,
    one: Annotated[Path, typer.Argument(help="weights of a network")],
    other: Annotated[Path, typer.Argument(help="weights of another of the same descent")],
    out: Annotated[Path, typer.Option("--out", "-o", help="file to write")],
    share: Annotated[float, typer.Option(help="of the second network, 0 to 1")] = 0.5,
    change: Changes = None,
) -> None:
    """Average two networks' weights: a student and the one it was trained on from are often better than either."""

    def command() -> None:
        config = load(config_file, change)
        from soundctm_training.stages import average_networks

        average_networks(config, one, other, share, out)

    run_command(command)


@app.command()
def ablate(
    ablation_file: Annotated[Path, typer.Argument(help="TOML: a base configuration, seeds and [[student]] entries")],
    latents: Annotated[Path, typer.Option(help="folder that `soundctm train encode` wrote")],
    teacher: Annotated[Path, typer.Option(help="teacher.safetensors that all students share")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder of the runs; finished ones are kept")],
) -> None:
    """Train the students of a report, each a base configuration with some keys changed, once per seed."""

    def command() -> None:
        from soundctm_training.ablate import read_ablation, train_students

        train_students(read_ablation(ablation_file), latents, teacher, out)

    run_command(command)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
