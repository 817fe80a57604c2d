"""One optimiser step and the target network's after it; and RAdam alone over several steps.

Parameters are stored in float32, where a change of 1e-7 in a weight of 1 has hardly a digit. So the student's step is
made in float64 and compared with what the stored value can tell: it is the rounding of something at most half a
spacing away. The target is followed in float32, as in training, where its product and its sum are both rounded: one
spacing. Beyond that, 1e-3 of the tensor's largest change.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from parity.golden import GoldenFile, Tolerance
from soundctm.checkpoints import official
from soundctm.networks.dit import DiT
from soundctm_training.averaging import follow

_OPTIMISERS = {"RAdam": torch.optim.RAdam, "AdamW": torch.optim.AdamW, "Adam": torch.optim.Adam}
_KINDS = ("student_after", "target_after")
_ROUNDINGS = {"student_after": 1, "target_after": 2}


def gradient(parameter: nn.Parameter) -> Tensor:
    """Zeros for what has no part in the output: to_q and its norm, with a single text token."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def check(group: str, file: GoldenFile, student: DiT, target: DiT, trained: Mapping[str, DiT]) -> None:
    """`trained`: each case's student with its gradients, in the order of the cases."""
    for name in ("opt", "optbig"):
        if name in file.meta:
            _check_update(group, file, name, student, target, trained[_case_of(file, name, trained)])
    if "radam/p0" in file:
        _check_radam(group, file)


def _case_of(file: GoldenFile, name: str, trained: Mapping[str, DiT]) -> str:
    """The case whose gradients are applied: as described, by default the first."""
    described = re.search(r"case (\w+), (\w+)", file.what.get(f"{name}/*", ""))
    return f"{described[1]}/{described[2]}" if described else next(iter(trained))


def _check_update(group: str, file: GoldenFile, name: str, student: DiT, target: DiT, trained: DiT) -> None:
    meta = file.meta[name]
    if int(meta["step"]) != 1:
        raise ValueError(f"{name} is of step {meta['step']}; known: 1")
    before = dict(zip(_KINDS, (student, target), strict=True))
    stored = dict(zip(_KINDS, _updated(trained, target, meta, torch.float32), strict=True))
    exact = stored | {"student_after": _updated(trained, target, meta, torch.float64)[0]}
    for kind in _KINDS:
        prefix = f"{name}/{kind}."
        for tensor in file.names():
            if tensor.startswith(prefix):
                parameter = tensor.removeprefix(prefix).removeprefix(official.DIT_PREFIX)
                rows, reference = slice(file.shape(tensor)[0]), file.read(tensor)
                old = before[kind].get_parameter(parameter)[rows].detach().double()
                found = exact[kind].get_parameter(parameter)[rows].detach()
                nearest = nearest_stored(found, reference, _ROUNDINGS[kind])
                file.record(group, tensor, nearest - old, reference.double() - old, Tolerance.TRAINED)
        _check_sum(group, file, name, kind, stored[kind], before[kind])


def _updated(trained: DiT, target: DiT, meta: Mapping[str, Any], dtype: torch.dtype) -> tuple[DiT, DiT]:
    """Student and target after one step with the gradients of `trained`."""
    after, followed = copy.deepcopy(trained).to(dtype), copy.deepcopy(target).to(dtype)
    for parameter, source in zip(after.parameters(), trained.parameters(), strict=True):
        parameter.grad = None if source.grad is None else source.grad.to(dtype)
    if meta["optimizer"] not in _OPTIMISERS:
        raise ValueError(f"optimizer {meta['optimizer']!r}; known: {', '.join(_OPTIMISERS)}")
    make = _OPTIMISERS[meta["optimizer"]]
    options = {key: meta[key] for key in ("lr", "eps", "weight_decay")}
    optimiser = make(after.parameters(), betas=tuple(meta["betas"]), **options)
    nn.utils.clip_grad_norm_(after.parameters(), float(meta["clip_grad_norm"]))
    optimiser.step()
    follow(followed, after, float(meta["ema_rate"]))
    return after, followed


def nearest_stored(found: Tensor, stored: Tensor, roundings: int) -> Tensor:
    """`found`, moved towards the float32 `stored` by what that many roundings may have hidden: float64."""
    slack = roundings / 2 * torch.from_numpy(np.spacing(stored.abs().numpy())).double()
    off = found.double() - stored.double()
    return stored.double() + off.sign() * (off.abs() - slack).clamp(min=0)


def _check_sum(group: str, file: GoldenFile, name: str, kind: str, after: DiT, before: DiT) -> None:
    """The sum of all parameters, as a change. Each one's own rounding adds up like a random walk's steps do."""
    key = f"{kind.removesuffix('_after')}_sum_after"
    old, found = (sum(p.detach().double().sum() for p in network.parameters()) for network in (before, after))
    spacings = [np.spacing(p.detach().abs().numpy()).astype(np.float64) for p in before.parameters()]
    slack = math.sqrt(sum(float((spacing**2).sum()) for spacing in spacings) / 12)
    reference = torch.tensor([file.meta[name][key]], dtype=torch.float64)
    off = found - reference
    nearest = reference + off.sign() * (off.abs() - slack).clamp(min=0)
    file.record(group, f"{name}/{key}", nearest - old, reference - old, Tolerance.TRAINED)


def _check_radam(group: str, file: GoldenFile) -> None:
    """The change since the start, step by step."""
    rate = file.meta.get("radam", {}).get("lr")
    if rate is None:
        described = re.search(r"RAdam\(lr=([0-9.e+-]+)\)", file.what.get("radam/*", ""))
        if described is None:
            raise KeyError("radam's learning rate stands neither in the meta nor in what radam/* is")
        rate = described[1]
    start, after = file.read("radam/p0"), file.read("radam/p_after")
    parameter = nn.Parameter(start.clone())
    optimiser = torch.optim.RAdam([parameter], float(rate))
    changes = []
    for step in file.read("radam/grads"):
        parameter.grad = step.clone()
        optimiser.step()
        changes.append(parameter.detach() - start)
    for index, (found, reference) in enumerate(zip(changes, after - start, strict=True)):
        file.record(group, f"radam/p_after[{index}]", found, reference, Tolerance.TRAINED)
