"""Figures of the benchmarks as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from full_engines import DECODE, FOUR, ONE, REFERENCE

_GB = 1e9


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def full_tables(figures: dict[str, Any]) -> str:
    unit = "CPU seconds of one thread" if figures["threads"] == 1 else f"seconds, {figures['threads']} threads"
    about = f"{figures['machine']}, {figures['date']}; {unit}, {figures['seconds_of_sound']:.1f} s of sound"
    return "\n\n".join([about, _side_by_side(figures["engines"]), _roofline(figures)])


def _side_by_side(engines: dict[str, Any]) -> str:
    reference = engines[REFERENCE]["seconds"]
    rows = []
    for name, told in sorted(engines.items(), key=lambda entry: entry[0] != REFERENCE):
        seconds = told["seconds"]
        row = [name]
        for what in (ONE, FOUR, DECODE):
            row += [f"{statistics.median(seconds[what]):.2f}", f"{ratio(reference[what], seconds[what]):.2f}"]
        ends = [[one + two for one, two in zip(each[ONE], each[DECODE], strict=True)] for each in (reference, seconds)]
        row += [f"{statistics.median(ends[1]):.2f}", f"{ratio(*ends):.2f}"]
        row += [f"{told['snr_db'][what]:.1f}" for what in (ONE, FOUR, DECODE)]
        row += [f"{told.get('peak_bytes', 0) / _GB:.1f}", f"{told.get('load_seconds', 0):.0f}"]
        rows.append(row)
    header = [
        "engine", ONE, "x", FOUR, "x", DECODE, "x", "1 jump + decode", "x", "latent dB, 1", "latent dB, 4", "audio dB",
        "peak GB", "load s",
    ]  # fmt: skip
    return markdown(header, rows)


def ratio(reference: Sequence[float], seconds: Sequence[float]) -> float:
    """The median of the rounds' ratios: both sides of a ratio met the same machine."""
    return statistics.median(one / other for one, other in zip(reference, seconds, strict=True))


def _roofline(figures: dict[str, Any]) -> str:
    peaks, rows = figures["peaks"], []
    for name, told in figures["engines"].items():
        if name == REFERENCE:
            continue
        of_jump = {"torch": "fp32", "torch-int8": "int8"}.get(name, "bf16")
        of_decode = "fp32" if name == "torch" else "bf16"
        for what, operations, kind in (
            (ONE, figures["jump_operations"], of_jump), (DECODE, figures["decode_operations"], of_decode)
        ):  # fmt: skip
            rate = operations / statistics.median(told["seconds"][what])
            peak = f"{peaks[kind] / _GB:.0f} ({kind})"
            share = f"{rate / peaks[kind]:.0%}"
            rows.append([f"{name}, {what}", f"{operations / 1e12:.3f}", f"{rate / _GB:.0f}", peak, share])
    return markdown(["", "TFLOP", "GFLOP/s", "peak", "of the peak"], rows)


def starter_tables(figures: dict[str, Any]) -> str:
    unit = "CPU time of one thread" if figures["threads"] == 1 else f"{figures['threads']} threads"
    engines = figures["engines"]
    batches = list(next(iter(engines.values()))["jump_seconds_per_clip"])
    rows = [
        [
            name,
            f"{1e3 * told['prompt_to_file_p50_seconds']:.0f}", f"{1e3 * told['prompt_to_file_p95_seconds']:.0f}",
            *(f"{1e3 * seconds:.0f}" for seconds in told["jump_seconds_per_clip"].values()),
            f"{told['weight_bytes'] / 1e6:.0f}", f"{told['load_seconds']:.1f}",
        ]
        for name, told in engines.items()
    ]  # fmt: skip
    header = [
        "engine", "prompt to file ms, p50", "p95", *(f"jump ms/clip, batch {rows}" for rows in batches),
        "weights MB", "load s",
    ]  # fmt: skip
    about = f"{figures['machine']}, {figures['date']}; {unit}, {figures['seconds_of_sound']:.1f} s of sound"
    return f"{about}\n\n{markdown(header, rows)}"
