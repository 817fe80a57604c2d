"""The PyTorch engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from soundctm.bundle import CODEC_FILE, NETWORK_FILE, Bundle
from soundctm.codecs.loading import load_codec
from soundctm.codecs.protocol import Codec
from soundctm.engines.calibration import calibrate
from soundctm.engines.costs import Costs
from soundctm.engines.prompts import EncodedPrompt, PromptCache
from soundctm.engines.protocol import Floats
from soundctm.errors import OutOfMemoryError
from soundctm.familiarity import Familiarity, FamiliarTable, read_familiar_table
from soundctm.networks import preconditioning
from soundctm.networks.dit import DiT, TextContext
from soundctm.networks.loading import load_into, read_tensors
from soundctm.noise import Stream, standard_normal
from soundctm.spec import BundleSpec
from soundctm.text.loading import load_text_encoder
from soundctm.text.pooling import sentence_embedding
from soundctm.text.protocol import TextEncoder


class TorchEngine:
    """Runs a bundle's networks on one device, as they are loaded in float32. Not thread-safe: one worker owns it."""

    def __init__(
        self,
        spec: BundleSpec,
        digest: str,
        network: DiT,
        codec: Codec,
        text: TextEncoder,
        device: torch.device,
        familiar: FamiliarTable | None = None,
    ) -> None:
        """`familiar` None: no prompt is told from another."""
        self.name, self.spec, self.digest = "", spec, digest
        self._network = network.to(device).eval().requires_grad_(False)
        self._codec = codec.to(device).eval().requires_grad_(False)
        self._text, self._device, self._familiar = text, device, familiar
        self._costs: Costs | None = None
        self._prompts = PromptCache[TextContext]()

    @property
    def memory_bytes(self) -> int:
        modules = (self._network, self._codec, self._text.network)
        tensors = (tensor for module in modules for tensor in (*module.parameters(), *module.buffers()))
        # by storage: parts of one tensor are counted once
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors}
        packed = sum(getattr(part, "weight_bytes", 0) for module in modules for part in module.modules())
        return packed + sum(storage.nbytes() for storage in storages.values())

    def replace_networks(self, change: Callable[[DiT, Codec], tuple[DiT, Codec]]) -> None:
        """Go on with what `change` makes of the networks. Prompts are encoded anew."""
        self._network, self._codec = change(self._network, self._codec)
        self._prompts.clear()

    def encode_text(self, prompts: Sequence[str]) -> list[TextContext]:
        """One context (batch of 1) per prompt. The text encoder runs once per prompt it has not seen lately."""
        return [prompt.handle for prompt in self._prompts.encoded(prompts, self._encode)]

    def familiarity(self, prompt: str) -> Familiarity | None:
        return None if self._familiar is None else self._familiar.nearest(self.embed([prompt])[0])

    def embed(self, prompts: Sequence[str]) -> Floats:
        return np.stack([prompt.embedding for prompt in self._prompts.encoded(prompts, self._encode)])

    def _encode(self, prompt: str) -> EncodedPrompt[TextContext]:
        with torch.inference_mode():
            tokens, mask = self._text.encode([prompt])
            context = self._network.encode_context(tokens.to(self._device), mask.to(self._device))
            return EncodedPrompt(context, sentence_embedding(tokens, mask)[0].float().cpu().numpy())

    def array(self, values: Floats) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._device)

    def stack(self, rows: Sequence[Tensor]) -> Tensor:
        return rows[0] if len(rows) == 1 else torch.cat(list(rows))

    def jump(
        self, z: Tensor, t: Sequence[float], s: Sequence[float], omega: Sequence[float], text: Sequence[TextContext]
    ) -> Tensor:
        context = text[0] if len(text) == 1 else TextContext.cat(list(text))
        sigma_data = self.spec.diffusion.sigma_data
        with torch.inference_mode(), _memory_watched():
            landed = preconditioning.jump(
                self._network, z, self._rows(t), self._rows(s), self._rows(omega), context, sigma_data
            )
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            return landed

    def decode(self, z: Tensor, seeds: Sequence[int]) -> Floats:
        noise = self._noise(seeds, Stream.DECODER, self._codec.decoder_noise_shape(z.shape[-1]))
        with torch.inference_mode(), _memory_watched():
            return self._codec.decode(z, noise).cpu().numpy()

    def decode_tiles(self, frames: int) -> int:
        return -(-frames // self._codec.tile_frames)

    def decode_tile(
        self, z: Tensor, seeds: Sequence[int], index: int, carries: Sequence[Tensor | None]
    ) -> tuple[Floats, list[Tensor | None]]:
        frames = z.shape[-1]
        tiles = self.decode_tiles(frames)
        start, stop = frames * index // tiles, frames * (index + 1) // tiles
        first, last = max(0, start - self._codec.halo_frames), min(frames, stop + self._codec.halo_frames)
        noise = self._tile_noise(seeds, first, last)
        known = [carry for carry in carries if carry is not None]
        with torch.inference_mode(), _memory_watched():
            carry = self.stack(known) if known else None
            audio, carry = self._codec.decode_tile(z[..., first:last], noise, start - first, last - stop, carry)
            rows: list[Tensor | None] = [None] * len(seeds) if carry is None else list(carry.split(1))
            return audio.cpu().numpy(), rows

    def costs(self) -> Costs:
        if self._costs is None:
            self._costs = calibrate(self, self._room_for)
        return self._costs

    def _room_for(self, run: Callable[[], object]) -> float:
        """How many times the memory that `run` takes at its peak is free."""
        if self._device.type != "cuda":
            return math.inf  # where sharing gains nothing, time bounds a batch long before memory does
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_allocated(self._device)
        run()
        peak = torch.cuda.max_memory_allocated(self._device) - before
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(self._device)[0] / max(peak, 1)

    def encode(self, audio: Floats, seeds: Sequence[int]) -> Tensor:
        noise = self._noise(seeds, Stream.ENCODER, self._codec.encoder_noise_shape(audio.shape[-1]))
        with torch.inference_mode():
            return self._codec.encode(self.array(audio), noise)

    def _rows(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self._device)

    def _tile_noise(self, seeds: Sequence[int], first: int, last: int) -> Tensor | None:
        """The decoder's noise of latent frames `first` to `last`."""
        shape = self._codec.decoder_noise_shape(last - first)
        if shape is None:
            return None
        start = shape[1] // (last - first) * first
        return self.array(np.stack([standard_normal(seed, Stream.DECODER, 0, shape, start) for seed in seeds]))

    def _noise(self, seeds: Sequence[int], stream: Stream, shape: tuple[int, int] | None) -> Tensor | None:
        if shape is None:
            return None
        return self.array(np.stack([standard_normal(seed, stream, 0, shape) for seed in seeds]))


@contextmanager
def _memory_watched() -> Iterator[None]:
    """Raises OutOfMemoryError for every way in which PyTorch says so."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise OutOfMemoryError(
                f"the device has no memory left for this clip ({error}). Ask for a shorter one, or free memory."
            ) from error
        raise


def load_engine(bundle: Bundle, device: str = "cpu", threads: int | None = None) -> TorchEngine:
    """Verify a bundle's checksums and load it.

    `threads` is how many of this process's threads compute on the CPU; None leaves PyTorch's own choice.

    Raises DigestMismatchError, TensorMismatchError, BundleError.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    bundle.verify()
    network = load_into(lambda: DiT(bundle.spec.network), read_tensors(bundle.file(NETWORK_FILE)), NETWORK_FILE)
    codec = load_codec(bundle.spec, read_tensors(bundle.file(CODEC_FILE)))
    text, familiar = load_text_encoder(bundle), read_familiar_table(bundle)
    return TorchEngine(bundle.spec, bundle.digest, network, codec, text, torch.device(device), familiar)
