"""Everything on a CUDA device in one call: builds, checks and times. Not yet run on a GPU.

    python benchmarks/gpu.py [--device cuda] [--rounds 20] [--bundle FOLDER] [--json FILE]

A full-size model of the official layout with random weights, made in FOLDER (4.9 GB; a temporary one if not said), in
float32 and in bfloat16 with compiled kernels and CUDA graphs: 1, 2, 4 and 16 jumps, each with the decode of 10 s of
sound, and batches of 32; then the starter. Prints a Markdown table; the SNR is that against float32 on the same device.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from engines import bundle_in
from full_size import FULL
from tables import markdown

from soundctm.bundle import Bundle, find_bundle
from soundctm.engines.protocol import Engine, Floats
from soundctm.engines.torch import TorchEngine, load_engine
from soundctm.engines.torch_half import Precision, load_compiled_engine, snr_db
from soundctm.noise import Stream, standard_normal
from soundctm.plan import make_plan

STEPS = (1, 2, 4, 16)
BATCH = 32
_WARM_UPS = 3
_PROMPT = "a dog barks in the yard"


def latent_of(engine: Engine, steps: int, rows: int) -> Any:
    """After `steps` jumps, on the device; a prompt is encoded once and remembered."""
    spec = engine.spec
    shape = spec.codec.latent_channels, spec.latent_frames(spec.ranges.max_seconds)
    noise: Floats = np.stack([standard_normal(seed, Stream.START, 0, shape) for seed in range(rows)])
    z, text = engine.array(spec.diffusion.sigma_max * noise), engine.encode_text([_PROMPT]) * rows
    for jump in make_plan(steps, 0.0, spec.diffusion):
        z = engine.jump(z, [jump.t] * rows, [jump.s] * rows, [spec.ranges.omega_default] * rows, text)
    return z


def audio_of(engine: Engine, z: Any) -> Floats:
    rows, pieces = len(z), []
    carries: list[Any] = [None] * rows
    for index in range(engine.decode_tiles(z.shape[-1])):
        piece, carries = engine.decode_tile(z, list(range(rows)), index, carries)
        pieces.append(piece)
    return np.concatenate(pieces, -1)


def median_ms(run: Callable[[], object], rounds: int) -> float:
    """What an engine gives lies in the computer's own memory, or is waited for: nothing is under way at the end."""
    for _ in range(_WARM_UPS):
        run()
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return 1e3 * statistics.median(taken)


def figures_of(engine: Engine, exact: Engine, rounds: int) -> dict[str, Any]:
    """Milliseconds, decibels, and clips per second of a full batch."""
    latents = [latent_of(each, 1, 1) for each in (exact, engine)]
    sounds = [audio_of(each, latents[0]) for each in (exact, engine)]
    batch_ms = median_ms(lambda: audio_of(engine, latent_of(engine, 1, BATCH)), rounds)
    clips_ms = {
        steps: median_ms(lambda steps=steps: audio_of(engine, latent_of(engine, steps, 1)), rounds) for steps in STEPS
    }
    return {
        "latent_db": snr_db(*(latent.cpu().numpy() for latent in latents)),
        "audio_db": snr_db(*sounds),
        "decode_ms": median_ms(lambda: audio_of(engine, latents[0]), rounds),
        "clip_ms": clips_ms,
        "clips_per_second": 1e3 * BATCH / batch_ms,
    }


def compared(
    bundle: Bundle, device: str, rounds: int, load_fast: Callable[[Bundle, str], TorchEngine]
) -> dict[str, Any]:
    exact, fast = load_engine(bundle, device), load_fast(bundle, device)
    return {"float32": figures_of(exact, exact, rounds), "bf16, compiled, graphs": figures_of(fast, exact, rounds)}


def load_recorded(bundle: Bundle, device: str) -> TorchEngine:
    engine, _, compiling = load_compiled_engine(bundle, Precision.BFLOAT16, device)
    if compiling.problem:
        print(f"no compiled kernels: {compiling.problem}", file=sys.stderr)
    return engine


def table(figures: dict[str, dict[str, Any]]) -> str:
    rows = [
        [
            f"{model}, {name}", *(f"{ms:.2f}" for ms in told["clip_ms"].values()), f"{told['decode_ms']:.2f}",
            f"{told['clips_per_second']:.0f}", f"{told['latent_db']:.1f}", f"{told['audio_db']:.1f}",
        ]
        for model, engines in figures.items() for name, told in engines.items()
    ]  # fmt: skip
    clips = (f"{count} jumps + decode ms" for count in STEPS)
    return markdown(["", *clips, "decode ms", f"clips/s of {BATCH}", "latent dB", "audio dB"], rows)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--bundle", type=Path, help="folder of the full-size model, made or found there")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        sys.exit(
            f"there is no CUDA device here (torch {torch.__version__}); nothing was built. Run this where `nvidia-smi` "
            "shows one and torch is its CUDA build; on a CPU, `make bench-engines FULL=1`."
        )
    with tempfile.TemporaryDirectory() as temporary:
        full = bundle_in(options.bundle or Path(temporary) / "full", FULL)
        figures = {
            "full size": compared(full, options.device, options.rounds, load_recorded),
            "starter": compared(find_bundle("starter"), options.device, options.rounds, load_recorded),
        }
    print(f"{torch.cuda.get_device_name(options.device)}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}\n")
    print(table(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
