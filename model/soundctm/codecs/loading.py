"""The codec a bundle's spec names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from soundctm.bundle import CODEC_FILE
from soundctm.codecs.protocol import Codec
from soundctm.networks.loading import load_into
from soundctm.spec import BundleSpec, CodecKind


def load_codec(spec: BundleSpec, tensors: Mapping[str, Tensor]) -> Codec:
    """Raises TensorMismatchError when the tensors are not this codec's."""
    return load_into(codec_factory(spec), tensors, CODEC_FILE)


def codec_factory(spec: BundleSpec) -> Callable[[], Codec]:
    """A function that builds the untrained codec; its module is imported only when it is the one asked for."""
    if spec.codec.kind is CodecKind.GAUSSIAN_DAC:
        from soundctm.codecs.dac import GaussianDAC

        return lambda: GaussianDAC(**spec.codec.options)
    from soundctm.codecs.mel import WhitenedMelCodec

    return lambda: WhitenedMelCodec(**spec.codec.options)
