"""manifest.json of an encoded folder: what the latents were made of, how many there are and their statistics."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from soundctm_training.data import shards
from soundctm_training.data.clips import DataError
from soundctm_training.data.codecs import EncodingCodec
from soundctm_training.data.settings import EncodeSettings
from soundctm_training.data.shards import Facts, Sums
from soundctm_training.data.sources import Source
from soundctm_training.runs import plain, write_whole

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
FORMAT = 1
_NOT_OF_THE_LATENTS = ("most_skipped",)  # settings that may change between the parts of an encode


def identity_of(settings: EncodeSettings, source: Source, codec: EncodingCodec) -> dict[str, Any]:
    """Everything the latents depend on, as JSON holds it."""
    kept = {name: value for name, value in plain(settings).items() if name not in _NOT_OF_THE_LATENTS}
    whole = {"codec": codec.identity(), "data": plain(dict(source.identity())), "encode": kept}
    return dict(json.loads(json.dumps(whole)))


def begin(out: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """The folder's manifest, new or continued. Raises DataError when it is of something else."""
    if not (out / MANIFEST).is_file():
        manifest = {"format": FORMAT, "complete": False, "identity": dict(identity)}
        _write(out, manifest)
        return manifest
    stored = read_manifest(out)
    for part, now in identity.items():
        there = stored["identity"].get(part, {})
        if there != now:
            raise DataError(
                f"{out} holds latents of another {part}: {_only(there, now)} there, {_only(now, there)} now. "
                "Give another --out, or remove the folder"
            )
    return stored


def _only(some: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    differing = {key: value for key, value in some.items() if key not in other or other[key] != value}
    return ", ".join(f"{key} = {value}" for key, value in differing.items()) or "nothing"


def finish(out: Path, stored: Mapping[str, Any], blocks: int, texts: int) -> dict[str, Any]:
    """Write skipped.jsonl and the complete manifest, which is returned. Raises DataError when nothing was encoded."""
    folders = [shards.block_folder(out, number) for number in range(blocks)]
    facts = [shards.read_facts(folder) for folder in folders]
    skipped = [line for folder in folders for line in shards.read_lines(folder, shards.SKIPPED)]
    lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in skipped)
    write_whole(out / shards.SKIPPED, lambda aside: aside.write_text(lines, encoding="utf-8"))
    reasons = dict(Counter(line["reason"] for line in skipped).most_common())
    lengths = sorted({frames for fact in facts for frames in fact.sums})
    if not lengths:
        raise DataError(f"all {sum(fact.items for fact in facts)} items were skipped: {_said(reasons)}; see {out}")
    sums = {frames: _total(facts, frames) for frames in lengths}
    manifest = {
        **stored,
        "complete": True,
        "blocks": blocks,
        "items": sum(fact.items for fact in facts),
        "empty_items": sum(fact.empty_items for fact in facts),
        "skipped": reasons,
        "clips": sum(total.values // frames for frames, total in sums.items()),
        "texts": texts,
        "lengths": {str(frames): _length(frames, total) for frames, total in sums.items()},
        **_moments(reduce(add, sums.values())),
    }
    _write(out, manifest)
    return manifest


def checked(out: Path, manifest: Mapping[str, Any], most_skipped: float, sigma_data: float) -> None:
    """Log what there is. Raises DataError when too much of the data was skipped; the latents stay."""
    logger.info(
        "%d clips of %d items, %d captions, deviation %.3f; skipped: %s",
        manifest["clips"], manifest["items"], manifest["texts"], manifest["deviation"], _said(manifest["skipped"]),
    )
    if not 0.5 < manifest["deviation"] / sigma_data < 2:
        logger.warning(
            "the latents' deviation is %.3f, the network expects diffusion.sigma_data = %.3f: set the codec's mean and "
            "deviation to those in %s", manifest["deviation"], sigma_data, out / MANIFEST,
        )
    share = manifest["empty_items"] / manifest["items"]
    if share > most_skipped:
        raise DataError(
            f"{manifest['empty_items']} of {manifest['items']} items were skipped ({_said(manifest['skipped'])}), more "
            f"than encode.most_skipped = {most_skipped} of them. {out / shards.SKIPPED} names each; the latents are "
            "kept: raise encode.most_skipped and run the same command to accept them"
        )


def read_manifest(folder: Path) -> dict[str, Any]:
    """Raises DataError when the folder holds no latents, or those of another version."""
    path = folder / MANIFEST
    try:
        manifest = dict(json.loads(path.read_text(encoding="utf-8")))
        found = manifest["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error!r}); give a folder that `train encode` wrote") from error
    if found != FORMAT:
        raise DataError(f"{path} has format {found}; this version reads {FORMAT}. Encode the data again")
    return manifest


def _write(out: Path, manifest: Mapping[str, Any]) -> None:
    text = json.dumps(manifest, indent=1) + "\n"
    write_whole(out / MANIFEST, lambda aside: aside.write_text(text, encoding="utf-8"))


def _total(facts: list[Facts], frames: int) -> Sums:
    return reduce(add, (fact.sums[frames] for fact in facts if frames in fact.sums))


def _length(frames: int, sums: Sums) -> dict[str, Any]:
    return {"clips": sums.values // frames, **_moments(sums)}


def _moments(sums: Sums) -> dict[str, Any]:
    """Per channel, and the root mean square deviation over all of them."""
    std = sums.std
    return {"mean": sums.mean.tolist(), "std": std.tolist(), "deviation": float((std @ std / len(std)) ** 0.5)}


def _said(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items()) or "none"
