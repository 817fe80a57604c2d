"""The ONNX Runtime engine: the graphs of an exported bundle. Never imports torch."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundctm.bundle import FAMILIAR_FILE, MANIFEST, TOKENIZER_FILE, Bundle
from soundctm.engines.calibration import calibrate
from soundctm.engines.costs import Costs
from soundctm.engines.onnx_graphs import Arrays, Graph, open_graph
from soundctm.engines.prompts import EncodedPrompt, PromptCache
from soundctm.engines.protocol import Floats
from soundctm.engines.providers import Provider, missing_provider
from soundctm.errors import BundleError
from soundctm.exports import REQUIRED, Exports, Role, read_exports
from soundctm.familiarity import Familiarity, FamiliarTable, read_familiar_table
from soundctm.noise import Stream, standard_normal
from soundctm.spec import BundleSpec
from soundctm.text.prompt_ids import PromptIds

_log = logging.getLogger(__name__)

Handle = Arrays  # what the jump graph needs of a prompt


class OnnxEngine:
    """Arrays are NumPy's, whatever device computes. Not thread-safe: one worker owns it."""

    def __init__(
        self,
        spec: BundleSpec,
        digest: str,
        exports: Exports,
        graphs: Mapping[Role, Graph],
        tokenize: PromptIds,
        familiar: FamiliarTable | None = None,
    ) -> None:
        """`graphs`: one for every role in `exports.REQUIRED`."""
        self.name, self.spec, self.digest = "", spec, digest
        self._exports, self._tiling = exports, exports.tiling
        self._text, self._jump = graphs[Role.TEXT], graphs[Role.JUMP]
        self._decoder, self._encoder = graphs[Role.DECODER], graphs[Role.ENCODER]
        self._tokenize, self._familiar = tokenize, familiar
        self._costs: Costs | None = None
        self._prompts = PromptCache[Handle]()

    @property
    def memory_bytes(self) -> int:
        """Of the graphs' files: weights are most of them."""
        return self._exports.engine_bytes()

    def encode_text(self, prompts: Sequence[str]) -> list[Handle]:
        """One handle per prompt. The text encoder runs once per prompt it has not seen lately."""
        return [prompt.handle for prompt in self._prompts.encoded(prompts, self._encode)]

    def familiarity(self, prompt: str) -> Familiarity | None:
        return None if self._familiar is None else self._familiar.nearest(self.embed([prompt])[0])

    def embed(self, prompts: Sequence[str]) -> Floats:
        return np.stack([prompt.embedding for prompt in self._prompts.encoded(prompts, self._encode)])

    def _encode(self, prompt: str) -> EncodedPrompt[Handle]:
        ids, mask = self._tokenize.arrays(prompt)
        told = {"mask": mask, **self._text({"ids": ids, "mask": mask})}
        handle = {name: told[name] for name in self._jump.inputs if name in told}
        return EncodedPrompt(handle, told["prompt_embedding"][0])

    def array(self, values: Floats) -> Floats:
        return np.ascontiguousarray(values, np.float32)

    def stack(self, rows: Sequence[Floats]) -> Floats:
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def jump(
        self, z: Floats, t: Sequence[float], s: Sequence[float], omega: Sequence[float], text: Sequence[Handle]
    ) -> Floats:
        levels = {"t": t, "s": s, "omega": omega}
        rows = {name: np.array(values, np.float32) for name, values in levels.items()}
        context = {name: self.stack([handle[name] for handle in text]) for name in text[0]}
        return self._jump({"z": self.array(z), **rows, **context})["landed"]

    def decode(self, z: Floats, seeds: Sequence[int]) -> Floats:
        return self._decoded(z, seeds, 0, z.shape[-1], [None] * len(seeds))[0]

    def decode_tiles(self, frames: int) -> int:
        return -(-frames // self._tiling.tile_frames)

    def decode_tile(
        self, z: Floats, seeds: Sequence[int], index: int, carries: Sequence[Any]
    ) -> tuple[Floats, list[Any]]:
        frames = z.shape[-1]
        tiles = self.decode_tiles(frames)
        return self._decoded(z, seeds, frames * index // tiles, frames * (index + 1) // tiles, carries)

    def _decoded(
        self, z: Floats, seeds: Sequence[int], start: int, stop: int, carries: Sequence[Any]
    ) -> tuple[Floats, list[Any]]:
        """The samples of latent frames `start` to `stop`, and what the tile after them needs."""
        tiling, frames = self._tiling, z.shape[-1]
        first, last = max(0, start - tiling.halo_frames), min(frames, stop + tiling.halo_frames)
        inputs: dict[str, NDArray[Any]] = {"latent": self.array(z[..., first:last])}
        if tiling.noise_per_frame:
            shape = (1, tiling.noise_per_frame * (last - first))
            skipped = tiling.noise_per_frame * first
            inputs["noise"] = np.stack([standard_normal(s, Stream.DECODER, 0, shape, skipped) for s in seeds])
        if not tiling.steps_per_frame:
            audio, hop = self._decoder(inputs)["audio"], self.spec.codec.hop_samples
            return audio[..., (start - first) * hop :][..., : (stop - start) * hop], [None] * len(seeds)
        begin, end = (tiling.steps_per_frame * (edge - first) for edge in (start, stop))
        margin = tiling.overlap_steps if start > first else 0
        kept = np.arange(begin - margin, end + (tiling.overlap_steps if last > stop else 0))
        inputs["kept"] = kept
        inputs["last"] = np.array(end - tiling.overlap_steps - kept[0] - 1)
        inputs["carry"] = self._carry(carries)
        made = self._decoder(inputs)
        hop = made["audio"].shape[-1] // len(kept)
        audio = made["audio"][..., margin * hop : (margin + end - begin) * hop]
        return audio, list(np.split(made["next_carry"], len(seeds)))

    def _carry(self, carries: Sequence[Any]) -> NDArray[Any]:
        known = [carry for carry in carries if carry is not None]
        shape = self._decoder.inputs["carry"].shape[1:]
        return np.concatenate(known) if known else np.zeros((len(carries), *shape))

    def costs(self) -> Costs:
        if self._costs is None:
            self._costs = calibrate(self)
        return self._costs

    def encode(self, audio: Floats, seeds: Sequence[int]) -> Floats:
        short = -audio.shape[-1] % self.spec.codec.hop_samples
        padded = np.pad(audio, ((0, 0), (0, 0), (0, short)))
        made = self._encoder({"audio": self.array(padded)})
        latent: Floats = made["latent"]
        if "spread" not in made:
            return latent
        noise = [standard_normal(seed, Stream.ENCODER, 0, latent.shape[1:]) for seed in seeds]
        drawn: Floats = latent + made["spread"] * np.stack(noise)
        return drawn


def load_engine(
    bundle: Bundle, provider: Provider = Provider.CPU, threads: int | None = None, *, allow_cpu: bool = False
) -> OnnxEngine:
    """Verify the graphs of an exported bundle and load them.

    `threads` is how many threads compute on the CPU; None leaves ONNX Runtime's own choice. `allow_cpu`: run on the CPU
    where the provider cannot be had; otherwise that is an error.

    Raises BundleError where the bundle holds no graphs, DigestMismatchError, ProviderMissingError, GraphError.
    """
    exports = read_exports(bundle)
    if exports is None:
        raise BundleError(
            f"{bundle.path} holds no exported graphs. Make them with `soundctm export onnx {bundle.spec.name} -o OUT`."
        )
    exports.verify()
    used = {name: digest for name, digest in bundle.files.items() if name in (TOKENIZER_FILE, FAMILIAR_FILE)}
    replace(bundle, files=used).verify()  # not the weights, which no graph reads
    if TOKENIZER_FILE not in bundle.files:
        raise BundleError(f"{bundle.path / MANIFEST} names no {TOKENIZER_FILE}. Install the bundle again.")
    missing = missing_provider(provider)
    if missing and allow_cpu:
        _log.warning("the graphs of %s compute on the CPU, as allowed: %s", bundle.spec.name, missing)
    graphs = {role: open_graph(exports, role, provider, threads, allow_cpu) for role in REQUIRED}
    tokenize = PromptIds(bundle.path / TOKENIZER_FILE, exports.text.prompt_ids, exports.text.pad_id)
    return OnnxEngine(bundle.spec, bundle.digest, exports, graphs, tokenize, read_familiar_table(bundle))
