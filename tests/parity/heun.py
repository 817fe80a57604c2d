"""The teacher's solver: Heun steps on the grid, with guidance inside every evaluation and without."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from parity import parts
from parity.golden import Golden, GoldenFile, Tolerance
from soundctm.networks import preconditioning
from soundctm.networks.dit import DiT, TextContext
from soundctm.schedule import karras_sigmas
from soundctm_training.distillation.solver import Denoiser, guided, heun


def check(golden: Golden, version: str) -> None:
    group = f"{version}/heun"
    network, file = parts.teacher(golden, version), golden.file(f"{version}/heun")
    diffusion = parts.diffusion(golden, file.meta)
    points = int(golden.setting("start_scales", file.meta))
    for name in file.names():
        table = re.fullmatch(r"t_table_N(\d+)", name)
        if table:
            points = int(table[1])
            grid = torch.tensor(karras_sigmas(points, diffusion), dtype=torch.float32)
            file.compare(group, name, grid, Tolerance.RELATIVE)
    contexts = [network.encode_context(file.read(name)) for name in ("cond_text", "cond_empty")]
    for case in file.meta["cases"]:
        own = parts.diffusion(golden, case, file.meta)
        levels = torch.tensor(karras_sigmas(points, own), dtype=torch.float32)
        denoisers = [_denoiser(network, context, own.sigma_data) for context in contexts]
        _check_case(group, file, case, denoisers, levels)


def _check_case(
    group: str, file: GoldenFile, case: dict[str, Any], denoisers: list[Denoiser], levels: Tensor
) -> None:
    name, steps = case["name"], int(case["num_step"])
    z = file.read(f"{name}/x")
    start = _case_value(file, case, "ind").long().expand(z.shape[0])
    with_guidance = {"heun_solver_cfg": True, "heun_solver": False}
    if case["solver"] not in with_guidance:
        raise ValueError(f"solver {case['solver']!r}; known: {', '.join(with_guidance)}")
    denoise = denoisers[0]
    if with_guidance[case["solver"]]:
        omega = _case_value(file, case, "guidance").float().expand(z.shape[0])
        denoise = guided(denoisers[0], denoisers[1], omega)
    whole = heun(denoise, z, start, steps, levels)
    file.compare(group, f"{name}/out", whole)
    for step in range(steps):
        z = heun(denoise, z, start + step, 1, levels)
        if f"{name}/after_step_{step}" in file:
            file.compare(group, f"{name}/after_step_{step}", z)


def _case_value(file: GoldenFile, case: dict[str, Any], key: str) -> Tensor:
    """From the case's tensor, where it has one, or its meta."""
    tensor = f"{case['name']}/{key}"
    return file.read(tensor) if tensor in file else torch.tensor(case[key])


def _denoiser(network: DiT, context: TextContext, sigma_data: float) -> Denoiser:
    def denoise(z: Tensor, level: Tensor) -> Tensor:
        rows = {name: value.expand(z.shape[0], *value.shape[1:]) for name, value in context.fields().items()}
        return preconditioning.denoise(network, z, level, None, None, TextContext(**rows), sigma_data)

    return denoise
