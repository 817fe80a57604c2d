"""Old-style weight normalisation (Salimans & Kingma 2016), folded into plain weights once."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from soundctm.errors import TensorMismatchError

_DIRECTION, _LENGTH = ".weight_v", ".weight_g"


def fold_weight_norm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every pair `<name>.weight_g`, `<name>.weight_v` becomes `<name>.weight` = g v / ||v||; the rest stays.

    The norm runs over all dimensions but the first, which for a transposed convolution is the INPUT channel.
    Raises TensorMismatchError when half of a pair is missing.
    """
    lengths = {name.removesuffix(_LENGTH) for name in tensors if name.endswith(_LENGTH)}
    directions = {name.removesuffix(_DIRECTION) for name in tensors if name.endswith(_DIRECTION)}
    alone = [name + _LENGTH for name in sorted(directions - lengths)]
    alone += [name + _DIRECTION for name in sorted(lengths - directions)]
    if alone:
        raise TensorMismatchError("weight normalisation", missing=alone, unexpected=(), shapes=())
    folded = {}
    for name, tensor in tensors.items():
        if name.endswith(_DIRECTION):
            base = name.removesuffix(_DIRECTION)
            norm = tensor.norm(dim=tuple(range(1, tensor.ndim)), keepdim=True)
            folded[base + ".weight"] = tensor * (tensors[base + _LENGTH] / norm)
        elif not name.endswith(_LENGTH):
            folded[name] = tensor
    return folded
