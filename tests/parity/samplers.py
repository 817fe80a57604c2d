"""Every sampler run with its noise replayed, and the whole path from prompt to waveform."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from parity import parts, text, vae
from parity.golden import Golden, Tolerance
from soundctm.networks import preconditioning
from soundctm.networks.dit import DiT, TextContext
from soundctm.plan import Jump, Plan, make_plan
from soundctm.sampling import JumpFunction, guided, run_plan
from soundctm.schedule import karras_sigmas
from soundctm.spec import DiffusionSpec


def check_samplers(golden: Golden, version: str) -> None:
    group = f"{version}/samplers"
    network = parts.student(golden, version)
    file, conditions = golden.file(f"{version}/samplers"), golden.file(f"{version}/samplers_cond")
    contexts = tuple(network.encode_context(conditions.read(name)) for name in ("cond_text", "cond_empty"))
    for name in file.names():
        grid = re.fullmatch(r"sigmas_N(\d+)", name)
        if grid:
            sigmas = karras_sigmas(int(grid[1]) + 1, parts.diffusion(golden, file.meta))
            file.compare(group, name, torch.tensor([*sigmas, 0.0]), Tolerance.RELATIVE)
    for run in file.meta["runs"]:
        diffusion = parts.diffusion(golden, run, file.meta)
        recorder = _Recorder(network, contexts, golden.setting("omega", run, file.meta), diffusion)
        name, plan = run["name"], plan_of(golden, diffusion, run, file.meta)
        start = diffusion.sigma_max * file.read(f"{name}/init_noise")
        adds_noise = any(jump.noise_std > 0 for jump in plan)
        noise = file.read(f"{name}/noise") if adds_noise else torch.empty(0)
        nu = float(golden.setting("nu", run, file.meta))
        recorder.run(start, plan, nu, noise.__getitem__, both=f"{name}/uncond_out" in file)
        file.compare(group, f"{name}/t", torch.tensor([jump.t for jump in plan]), Tolerance.RELATIVE)
        file.compare(group, f"{name}/s", torch.tensor([jump.s for jump in plan]), Tolerance.RELATIVE)
        file.compare_rows(group, f"{name}/traj", torch.stack(recorder.states), Tolerance.OMEGA)
        for tensor, outputs in (("text_out", recorder.with_text), ("uncond_out", recorder.without_text)):
            if f"{name}/{tensor}" in file:
                file.compare_rows(group, f"{name}/{tensor}", torch.stack(outputs), Tolerance.OMEGA)


def check_end_to_end(golden: Golden, version: str) -> None:
    group = f"{version}/end_to_end"
    network, codec = parts.student(golden, version), vae.load(golden)
    file = golden.file(f"{version}/end_to_end")
    for name, prompts in (("cond_text", file.meta["prompts"]), ("cond_empty", [""])):
        encoded = text.conditions(golden, version, prompts)
        if encoded is not None:
            file.compare(group, name, encoded)
    contexts = tuple(network.encode_context(file.read(name)) for name in ("cond_text", "cond_empty"))
    diffusion = parts.diffusion(golden, file.meta)
    recorder = _Recorder(network, contexts, golden.setting("omega", file.meta), diffusion)
    plan = plan_of(golden, diffusion, file.meta)
    noise = file.read("noise") if any(jump.noise_std > 0 for jump in plan) else torch.empty(0)
    start = diffusion.sigma_max * file.read("init_noise")
    recorder.run(start, plan, float(golden.setting("nu", file.meta)), noise.__getitem__)
    latents = recorder.states[-1]
    file.compare(group, "latents", latents, Tolerance.OMEGA)
    file.compare(group, "denorm", codec.restore(latents), Tolerance.OMEGA)
    length = file.shape("waveform")[-1]
    file.compare(group, "waveform", codec.decode(latents, None)[..., :length], Tolerance.OMEGA)


def plan_of(golden: Golden, diffusion: DiffusionSpec, *own: Mapping[str, Any]) -> Plan:
    """The plan of an official sampler by its name. Raises ValueError for a name this version does not know."""
    sampler = golden.setting("sampler", *own)
    steps = int(golden.setting("steps", *own))
    if sampler == "deterministic":
        return make_plan(steps, 0.0, diffusion)
    if sampler == "cm_multistep":
        return make_plan(steps, 1.0, diffusion)
    if sampler == "gamma_multistep":
        return make_plan(steps, float(golden.setting("gamma", *own)), diffusion)
    raise ValueError(f"sampler {sampler!r}; known: deterministic, gamma_multistep, cm_multistep")


class _Recorder:
    """Runs a plan and keeps every state and every jump's output."""

    def __init__(
        self, network: DiT, contexts: tuple[TextContext, ...], omega: Any, diffusion: DiffusionSpec
    ) -> None:
        self.network, self.contexts, self.omega = network, contexts, omega
        self.sigma_data = diffusion.sigma_data
        self.states: list[Tensor] = []
        self.with_text: list[Tensor] = []
        self.without_text: list[Tensor] = []

    def run(
        self, start: Tensor, plan: Plan, nu: float, step_noise: Callable[[int], Tensor], both: bool = False
    ) -> None:
        """`both`: run the unconditional jump too where nu = 1 does without it."""
        with_text, without_text = (
            self._jump(_rows(context, start.shape[0]), outputs)
            for context, outputs in zip(self.contexts, (self.with_text, self.without_text), strict=True)
        )
        jump = guided(with_text, without_text, nu)

        def and_unconditional(z: Tensor, step: Jump) -> Tensor:
            without_text(z, step)
            return jump(z, step)

        self.states = [start]
        run_plan(
            and_unconditional if both and nu == 1.0 else jump, start, plan, step_noise,
            lambda _, z: self.states.append(z),
        )  # fmt: skip

    def _jump(self, context: TextContext, outputs: list[Tensor]) -> JumpFunction[Tensor]:
        def jump(z: Tensor, step: Jump) -> Tensor:
            t, s, omega = (parts.levels(value, z.shape[0]) for value in (step.t, step.s, self.omega))
            outputs.append(preconditioning.jump(self.network, z, t, s, omega, context, self.sigma_data))
            return outputs[-1]

        return jump


def _rows(context: TextContext, rows: int) -> TextContext:
    """The empty prompt's single row stands for every row."""
    fields = context.fields()
    return TextContext(**{name: value.expand(rows, *value.shape[1:]) for name, value in fields.items()})
