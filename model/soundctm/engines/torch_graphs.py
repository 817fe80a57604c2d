"""CUDA graphs: what a network launches for inputs of one shape is recorded once and then started as one piece.

Recording is passed in, so that all else is tested without a GPU. Not yet run on one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping

import torch
from torch import Tensor, nn

from soundctm.codecs.protocol import Codec
from soundctm.networks.dit import DiT, TextContext

Run = Callable[[], Tensor]
Record = Callable[[Run], Run]  # runs it some times, records it, and gives what replays it into the same memory

_MOST_SHAPES = 8  # each holds the memory of its own activations
_WARM_UPS = 3     # libraries choose and allocate in their first calls, which cannot be recorded


def record_cuda(run: Run) -> Run:
    """Raises RuntimeError where there is no GPU, or where something in `run` cannot be recorded."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(_WARM_UPS):
            run()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = run()

    def replay() -> Tensor:
        graph.replay()
        return output

    return replay


class Recordings:
    """Of a function of named tensors; the least lately used shape goes when there are too many."""

    def __init__(self, record: Record, most: int = _MOST_SHAPES) -> None:
        self._record, self._most = record, most
        self._kept: OrderedDict[Hashable, tuple[Mapping[str, Tensor], Run]] = OrderedDict()

    def __call__(
        self, run: Callable[[Mapping[str, Tensor]], Tensor], inputs: Mapping[str, Tensor], key: Hashable = None
    ) -> Tensor:
        """What `run` gives for the inputs, in memory of the caller's own. Calls with one `key` and inputs of the same
        shapes must do the same."""
        shape = (key, *((name, tensor.shape, tensor.dtype) for name, tensor in sorted(inputs.items())))
        if shape not in self._kept:
            while len(self._kept) >= self._most:
                self._kept.popitem(last=False)
            buffers = {name: tensor.clone() for name, tensor in inputs.items()}
            self._kept[shape] = buffers, self._record(lambda: run(buffers))
        self._kept.move_to_end(shape)
        held, replay = self._kept[shape]
        for name, tensor in inputs.items():
            held[name].copy_(tensor)
        return replay().clone()


class RecordedNetwork(nn.Module):
    """A network with the same calls. Prompts are encoded as before."""

    def __init__(self, network: DiT, record: Record) -> None:
        super().__init__()
        self.network, self._recordings = network, Recordings(record)

    def encode_context(self, tokens: Tensor, mask: Tensor | None = None) -> TextContext:
        return self.network.encode_context(tokens, mask)

    def forward(
        self, x: Tensor, c_noise_t: Tensor, c_noise_s: Tensor | None, omega: Tensor | None, context: TextContext
    ) -> Tensor:
        levels = {"c_noise_t": c_noise_t, "c_noise_s": c_noise_s, "omega": omega}
        known = {name: level for name, level in levels.items() if level is not None}
        text = {f"text.{name}": value for name, value in context.fields().items()}

        def run(inputs: Mapping[str, Tensor]) -> Tensor:
            told = {name.removeprefix("text."): value for name, value in inputs.items() if name.startswith("text.")}
            rest = [inputs.get(name) for name in levels]
            return self.network(inputs["x"], *rest, TextContext(**told))  # type: ignore[no-any-return]

        return self._recordings(run, {"x": x, **known, **text})


class RecordedCodec(Codec):
    """A codec whose tiles need neither noise nor what the tile before them gave, with the same calls."""

    def __init__(self, codec: Codec, record: Record) -> None:
        super().__init__()
        self.codec, self._recordings = codec, Recordings(record)
        self.tile_frames, self.halo_frames = codec.tile_frames, codec.halo_frames

    def decoder_noise_shape(self, frames: int) -> tuple[int, int] | None:
        return self.codec.decoder_noise_shape(frames)

    def decode(self, latent: Tensor, noise: Tensor | None) -> Tensor:
        return self.codec.decode(latent, noise)

    def decode_tile(
        self, latent: Tensor, noise: Tensor | None, before: int, after: int, carry: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        if noise is not None or carry is not None:
            raise ValueError("a decoder with noise, or with tiles that depend on one another, cannot be recorded")

        def run(inputs: Mapping[str, Tensor]) -> Tensor:
            return self.codec.decode_tile(inputs["latent"], None, before, after, None)[0]

        return self._recordings(run, {"latent": latent}, key=(before, after)), None

    def encoder_noise_shape(self, samples: int) -> tuple[int, int] | None:
        return self.codec.encoder_noise_shape(samples)

    def encode(self, audio: Tensor, noise: Tensor | None) -> Tensor:
        return self.codec.encode(audio, noise)
