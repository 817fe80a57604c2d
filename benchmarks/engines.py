"""Engines side by side: `make bench-engines`, for the starter; `make bench-engines FULL=1`, for a full-size model.

    python benchmarks/engines.py [--full] [--threads 2] [--rounds 3] [--bundle FOLDER] [--without ENGINE] [--json FILE]

With `--full` the reference is the official path (benchmarks/official.py) on a model of the official layout and size
with random weights, made in FOLDER (4.9 GB; a temporary one if not said) and used again if it is there. It takes 12 GB
of memory. With `--threads 1` times are those of the one thread that computes, which others on the machine lengthen
little; else they are those of a clock on the wall.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from full_alone import measured_alone
from full_engines import ENGINES, REFERENCE, load, measure
from full_size import FULL, MINUTE, Sizes, write_bundle
from machine import clock, decode_operations, jump_operations, peaks, processor
from starter_engines import starter_figures
from tables import full_tables, starter_tables

from soundctm.bundle import MANIFEST, Bundle, open_bundle
from soundctm.engines.processor import native_bfloat16

SIZES = {"full": FULL, "minute": MINUTE}


def full_figures(
    bundle: Bundle, sizes: Sizes, threads: int, rounds: int, file: Path | None, without: list[str]
) -> dict[str, Any]:
    """Written to the file after every measurement: there are minutes between them."""
    names = [name for name in (*ENGINES, REFERENCE) if name not in without]
    now = clock(threads)
    figures: dict[str, Any] = {
        **machine(threads),
        "seconds_of_sound": sizes.seconds,
        "peaks": asdict(peaks(sizes, now, native_bfloat16())),
        "jump_operations": jump_operations(sizes),
        "decode_operations": decode_operations(sizes) * sizes.seconds,
        "engines": {},
    }
    contestants = [load(name, bundle, threads) for name in names]
    for said in measure(contestants, now, rounds):
        print(said, flush=True)
        for each in contestants:
            figures["engines"][each.name] = {"seconds": each.seconds, "snr_db": each.snr_db}
        write(figures, file)
    contestants.clear()
    for name in names:
        figures["engines"][name] |= measured_alone(name, bundle, threads)
        write(figures, file)
    return figures


def machine(threads: int) -> dict[str, Any]:
    return {"machine": processor(), "threads": threads, "date": time.strftime("%Y-%m-%d")}


def write(figures: dict[str, Any], file: Path | None) -> None:
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(figures, indent=1, allow_nan=True) + "\n", encoding="utf-8")


def bundle_in(folder: Path, sizes: Sizes) -> Bundle:
    return open_bundle(folder) if (folder / MANIFEST).is_file() else write_bundle(folder, sizes)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="a full-size model beside the official path")
    parser.add_argument("--size", choices=SIZES, default="full", help="of the model that --full makes")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bundle", type=Path, help="folder of the model that --full makes, or finds")
    parser.add_argument("--without", action="append", default=[], metavar="ENGINE", help="leave one out; repeatable")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if not options.full:
        measured = starter_figures(options.threads, options.rounds, without=options.without)
        figures = {**machine(options.threads), **measured}
        write(figures, options.json)
        print(starter_tables(figures))
        return
    with tempfile.TemporaryDirectory() as temporary:
        sizes = SIZES[options.size]
        bundle = bundle_in(options.bundle or Path(temporary) / options.size, sizes)
        figures = full_figures(bundle, sizes, options.threads, options.rounds, options.json, options.without)
        print(full_tables(figures))


if __name__ == "__main__":
    main()
