"""The commands of `soundctm train` that judge, report, let listen, and make the bundle."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from soundctm_training.commands import run_command
from soundctm_training.config import ConfigError, read_config

OMEGAS, NUS = (1.5, 3.0, 5.0), (1.0, 1.5, 2.5)  # swept, as in the paper's figures 5 and 12

ClassifierFile = Annotated[Path, typer.Option(help="file of the classifier that judges")]
OutFolder = Annotated[Path, typer.Option("--out", "-o", help="folder to write into")]
CodecPath = Annotated[Path, typer.Option(help="a codec's file or run folder, or a bundle")]


def add_judging(app: typer.Typer) -> None:
    """Add this module's commands to the app."""
    for command in (classifier, judge, evaluate, report, listen, assemble):
        app.command()(command)


def classes_of(data_file: Path | None) -> tuple[str, ...]:
    """The classes that a data file draws; without one the whole catalogue. Raises DataConfigError."""
    from soundctm_training.synth.catalogue import LABELS
    from soundctm_training.synthesise import DataConfig

    return LABELS if data_file is None else DataConfig.read(data_file).labels


def some_of(labels: Sequence[str], dropped: Sequence[str]) -> Sequence[str]:
    """What is dropped. Raises ConfigError where that is no class, or all of them."""
    strange = [label for label in dropped if label not in labels]
    if strange or set(dropped) == set(labels):
        raise ConfigError(f"--without {' '.join(strange or dropped)}: give some, not all, of {', '.join(labels)}")
    return dropped


def clips_by_length(texts: Sequence[str]) -> dict[int, int]:
    """Clips of each class by length in frames, from FRAMES=COUNT. Raises ConfigError."""
    pairs = [re.fullmatch(r"(\d+)=(\d+)", text) for text in texts]
    if None in pairs:
        raise ConfigError(f"--clips {' '.join(texts)}: write each as FRAMES=COUNT, such as 432=14")
    return {int(pair[1]): int(pair[2]) for pair in pairs if pair}


def classifier(
    out: Annotated[Path, typer.Option("--out", "-o", help="file to write; its accuracy lies beside it")],
    pools: Annotated[list[Path] | None, typer.Option(help="folder of training pools; repeatable; none = drawn")] = None,
    recordings: Annotated[Path | None, typer.Option(help="folder of CC0 recordings, for clips drawn fresh")] = None,
    clips: Annotated[list[str] | None, typer.Option(help="FRAMES=clips of each class, such as 432=14")] = None,
    epochs: Annotated[int, typer.Option(help="passes over its clips")] = 8,
) -> None:
    """Train the classifier that judges; it hears synthesised and real sounds alone."""

    def command() -> None:
        from soundctm_training.evaluate import ClassifierOptions, make_classifier
        from soundctm_training.evaluation.classifier_training import TrainingSettings

        options = ClassifierOptions(
            out, tuple(pools or ()), recordings=recordings, training=TrainingSettings(epochs=epochs)
        )
        make_classifier(dataclasses.replace(options, per_label=clips_by_length(clips)) if clips else options)

    run_command(command)


def judge(
    students: Annotated[list[Path], typer.Argument(help="run folders of students")],
    teacher: Annotated[Path, typer.Option(help="run folder of their teacher, judged beside them")],
    codec: CodecPath,
    classifier: ClassifierFile,
    labels_of: Annotated[Path | None, typer.Option(help="data file whose classes are judged; none = all")] = None,
    swept: Annotated[list[Path] | None, typer.Option(help="student to sweep nu, omega, gamma with; repeatable")] = None,
    prompts: Annotated[int, typer.Option(help="held-out prompts of each class")] = 4,
    seeds: Annotated[int, typer.Option(help="seeds of each prompt")] = 2,
) -> None:
    """Judge distilled students on one bench; evaluation.json in each folder, and in `ceiling` beside the teacher."""

    def command() -> None:
        from soundctm_training.evaluation.bench import BenchSettings
        from soundctm_training.evaluation.judging import (
            TEACHER_FILE,
            judge_ceiling_into,
            judge_student_runs,
            judge_teacher_run,
            judged_on,
            open_bench,
            run_config,
        )
        from soundctm_training.evaluation.student import gamma_sweep, sweep

        config = run_config(teacher)
        settings = BenchSettings(prompts_per_label=prompts, seeds_per_prompt=seeds)
        bench = open_bench(config, codec, classifier, settings, classes_of(labels_of))
        ceiling = teacher.parent / "ceiling"
        if judged_on(ceiling, bench) is None:
            judge_ceiling_into(ceiling, bench)
        if judged_on(teacher, bench, TEACHER_FILE) is None:
            judge_teacher_run(teacher, bench)
        more = [*sweep(OMEGAS, NUS), *gamma_sweep(config.omega_default)]
        judge_student_runs(students, bench, swept=swept or (), more=more)

    run_command(command)


def evaluate(
    bundle: Annotated[str, typer.Argument(help="name or folder of the bundle")],
    classifier: ClassifierFile,
    out: Annotated[Path, typer.Option("--out", "-o", help="JSON file to write")],
    training_data: Annotated[Path | None, typer.Option(help="training pools: checks that nothing judged is in")] = None,
    steps: Annotated[list[int] | None, typer.Option(help="number of jumps; repeatable; none = 1, 4, 16")] = None,
    per_class: Annotated[int, typer.Option(help="held-out prompts of each class")] = 8,
    seeds: Annotated[int, typer.Option(help="seeds of each prompt")] = 1,
    retrieval_prompts: Annotated[int, typer.Option(help="prompts of the retrieval; 0 = none")] = 24,
    seconds: Annotated[float, typer.Option(help="length of a clip")] = 10.0,
    omega: Annotated[float | None, typer.Option(help="guidance of the judged clips; none = the bundle's own")] = None,
) -> None:
    """Judge a bundle on the held-out prompts: the classifier's verdicts and preview-to-refine retrieval."""

    def command() -> None:
        from soundctm_training.evaluate import BundleOptions, evaluate_bundle

        options = BundleOptions(
            bundle, classifier, out, training_data, tuple(steps or BundleOptions.steps), per_class, seeds,
            retrieval_prompts=retrieval_prompts, seconds=seconds, omega=omega,
        )
        evaluate_bundle(options)

    run_command(command)


def report(
    runs: Annotated[list[Path], typer.Argument(help="judged folders: students, their teacher, the ceiling")],
    out: OutFolder,
) -> None:
    """Write the paper's tables beside ours: one HTML page, and a Markdown file with its plots."""

    def command() -> None:
        from soundctm_training.evaluation.report import write_report

        write_report(runs, out)

    run_command(command)


def listen(
    out: OutFolder,
    bundle: Annotated[str, typer.Option(help="name or folder of the bundle")] = "starter",
    prompts: Annotated[int, typer.Option(help="how many")] = 40,
    classifier: Annotated[Path | None, typer.Option(help="writes its verdict under every clip")] = None,
    recordings: Annotated[Path | None, typer.Option(help="CC0 recordings to compare with; none = synthesised")] = None,
) -> None:
    """Write a sheet of prompts to hear and see: a 1-jump and a 16-jump clip beside a real one."""

    def command() -> None:
        from soundctm_training.evaluation.listen import ListenOptions, write_listening_sheet

        write_listening_sheet(
            ListenOptions(bundle, out, prompts, classifier=classifier, recordings=recordings)
        )

    run_command(command)


def assemble(
    config_file: Annotated[Path, typer.Argument(help="TOML configuration of the student")],
    codec: Annotated[Path, typer.Option(help="codec.safetensors of `train codec`")],
    student: Annotated[Path, typer.Option(help="student.safetensors of `train distill`")],
    card: Annotated[Path, typer.Option(help="the model card")],
    licence: Annotated[Path, typer.Option(help="text of the licence")],
    out: OutFolder,
    labels_of: Annotated[Path | None, typer.Option(help="data file of the classes it knows; none = all")] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(help="a class it learned but does not make well: its prompts count as unfamiliar; repeatable"),
    ] = None,
    latents: Annotated[
        list[Path] | None,
        typer.Option(help="encoded data of your own: what it knows is what their captions say; repeatable"),
    ] = None,
    change: Annotated[list[str] | None, typer.Option("--set", help="table.key=value on top of the file")] = None,
) -> None:
    """Make the bundle that a daemon loads."""

    def command() -> None:
        from soundctm_training.assemble import assemble as make

        config = read_config(config_file, change or ())
        if latents and (labels_of or without):
            raise ConfigError("--latents is of data without classes: leave --labels-of and --without out")
        labels = classes_of(labels_of)
        make(config, codec, student, card, licence, out, labels, some_of(labels, without or ()), latents or ())

    run_command(command)
