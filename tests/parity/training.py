"""One training step of every case: forward, losses, lambda and gradients; then the optimiser and the target network.

A step runs from the waveform on with the case's own draws; nothing of the reference is used in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from parity import options, parts, text, updates, vae
from parity.golden import Golden, GoldenFile, Tolerance
from soundctm.checkpoints import official
from soundctm.codecs.dac import GaussianDAC
from soundctm.networks.dit import DiT
from soundctm_training.distillation.ctm import Ctm, DenoisingDraws, Draws, Terms
from soundctm_training.distillation.draws import Indices, grid, high_level, low_level
from soundctm_training.distillation.settings import Distillation
from soundctm_training.distillation.values import Contexts, Networks
from soundctm_training.teacher import Disturbance

# what a case's JSON says beside options and results
_DESCRIPTION = {"tag", "variant", "seed", "args", "prompts"}
_RESULTS = {
    "grad_norms", "total_grad_norm", "L_ctm_mean", "lambda_times_dsm_mean", "L_dsm_mean_unweighted",
    "adaptive_weight", "total_loss", "last_layer_is_postprocess_conv",
}  # fmt: skip


@dataclass(frozen=True)
class Batch:
    """Inputs of a step, ours."""

    latent: Tensor
    omega: Tensor
    levels: Tensor
    draws: Draws


class Case:
    """A case's tensors: its variant's own, or those that all variants of its tag share."""

    def __init__(self, golden: Golden, version: str, file: GoldenFile, meta: Mapping[str, Any]) -> None:
        """Raises ValueError for keys and option values this version does not know."""
        self.golden, self.file, self.meta = golden, file, meta
        self.group = f"{version}/training"
        self.own = (meta, meta.get("args", {}), file.meta)
        self.name = f"{meta['tag']}/{meta['variant']}"
        unknown = sorted(meta.keys() - _DESCRIPTION - _RESULTS - options.OPTIONS)
        unknown += sorted(meta.get("args", {}).keys() - options.OPTIONS)
        if unknown:
            raise ValueError(f"case {self.name} has keys that no check knows: {', '.join(unknown)}")
        self.settings = options.settings_of(golden, *self.own)
        self.diffusion = parts.diffusion(golden, *self.own)

    def tensor(self, name: str) -> str:
        own = f"{self.name}/{name}"
        return own if own in self.file else f"{self.meta['tag']}/{name}"

    def read(self, name: str) -> Tensor:
        return self.file.read(self.tensor(name))

    def compare(self, name: str, found: Tensor, tolerance: Tolerance) -> None:
        self.file.compare(self.group, self.tensor(name), found, tolerance)

    def compare_number(self, name: str, found: float, reference: float) -> None:
        values = torch.tensor([found, reference], dtype=torch.float64)
        self.file.record(self.group, f"{self.name}/{name}", values[:1], values[1:], Tolerance.TRAINED)


def check(golden: Golden, version: str) -> None:
    file = golden.file(f"{version}/training")
    student, teacher = parts.student(golden, version), parts.teacher(golden, version)
    target = _target(student, teacher, file.meta["target_mix"])
    _check_conditions(golden, version, file)
    codec = vae.load(golden)
    codec.z_mean, codec.z_std = file.read("z_mean"), file.read("z_std")
    trained: dict[str, DiT] = {}
    with torch.enable_grad():
        for meta in file.meta["cases"]:
            case = Case(golden, version, file, meta)
            networks = Networks(_copy(student).requires_grad_(), target, teacher)
            _check_case(case, networks, codec)
            trained[case.name] = networks.student
    updates.check(f"{version}/training", file, student, target, trained)


def _copy(network: DiT) -> DiT:
    copy = DiT(network.spec)
    copy.load_state_dict(network.state_dict())
    return copy.eval().requires_grad_(False)


def _target(student: DiT, teacher: DiT, mix: Mapping[str, float]) -> DiT:
    """The EMA target that a step starts with: shares of the parameters of both, and the student's buffers."""
    target, others = _copy(student), dict(teacher.named_parameters())
    for name, parameter in target.named_parameters():
        parameter.copy_(mix["student"] * parameter + mix["teacher"] * others[name])
    return target


def _check_conditions(golden: Golden, version: str, file: GoldenFile) -> None:
    for tensor, prompts in [("cond_empty", [""])] + [("cond", meta["prompts"]) for meta in file.meta["cases"]]:
        encoded = text.conditions(golden, version, prompts)
        if encoded is not None:
            file.compare(f"{version}/training", tensor, encoded)


def _check_case(case: Case, networks: Networks, codec: GaussianDAC) -> None:
    batch = _batch(case, codec)
    cond, empty = case.file.read("cond"), case.file.read("cond_empty")
    with torch.no_grad():
        target = networks.target.encode_context(cond)
        known, unknown = (networks.teacher.encode_context(tokens) for tokens in (cond, empty))
    contexts = Contexts(networks.student.encode_context(cond), target, known, unknown)
    step = Ctm(case.settings, case.diffusion)
    terms = step.backward_of(networks, contexts, batch.latent, batch.omega, batch.levels, batch.draws)
    _check_terms(case, terms)
    _check_gradients(case, networks.student)


def _batch(case: Case, codec: GaussianDAC) -> Batch:
    """Every input from the waveform and the case's standard draws, each compared."""
    settings = case.settings
    with torch.no_grad():
        latent = codec.encode(case.file.read("waveform")[:, None], case.read("posterior_noise"))
    case.compare("x_start", latent, Tolerance.PLAIN)
    omega = (settings.omega_max - settings.omega_min) * case.read("omega_uniform") + settings.omega_min
    case.compare("omega", omega, Tolerance.PLAIN)
    levels = grid(settings.grid_points, case.diffusion)
    indices = Indices(case.read("indices_t"), case.read("indices_s"), int(case.meta["num_heun_step"]))
    for name, index in (("t", indices.t), ("u", indices.u), ("s", indices.s)):
        case.compare(name, levels[index], Tolerance.RELATIVE)
    denoising = None
    if options.reading(case.golden, "diffusion_training", *case.own):
        low, high = case.read("dsm_sigma_normal"), case.read("dsm_sigma_uniform")
        level = torch.cat([low_level(low), high_level(high, case.diffusion, settings.denoising_high_share)])
        case.compare("dsm_sigmas", level, Tolerance.RELATIVE)
        rows = torch.arange(len(level))
        denoising = DenoisingDraws(rows, Disturbance(level, case.read("dsm_noise")), len(level))
    return Batch(latent, omega, levels, Draws(indices, case.read("noise"), denoising))


def _check_terms(case: Case, terms: Terms) -> None:
    leap, denoising, balance = terms.jump, terms.denoising, terms.balance
    case.compare("z_t", leap.noisy, Tolerance.PLAIN)
    case.compare("z_u", leap.solved, Tolerance.PLAIN)
    case.compare("z_est", leap.estimate, Tolerance.OMEGA)
    case.compare("z_target", leap.target, Tolerance.OMEGA)
    case.compare("L_ctm", leap.losses, Tolerance.TRAINED)
    case.compare("total_loss", torch.tensor([terms.total]), Tolerance.TRAINED)
    numbers = {"L_ctm_mean": leap.losses.mean().item(), "total_loss": terms.total}
    if denoising is not None:
        weighted = balance.weight * denoising.losses
        case.compare("dsm_x_t", denoising.disturbed, Tolerance.PLAIN)
        case.compare("dsm_g_theta", denoising.restored.detach(), Tolerance.OMEGA)
        case.compare("L_dsm_times_lambda", weighted, Tolerance.TRAINED)
        case.compare("lambda", torch.tensor([balance.weight]), Tolerance.TRAINED)
        numbers |= {
            "lambda_times_dsm_mean": weighted.mean().item(), "L_dsm_mean_unweighted": denoising.losses.mean().item(),
            "adaptive_weight": balance.weight,
        }  # fmt: skip
    if balance.consistency is not None and balance.denoising is not None:
        case.compare("adaptive_grad_ctm", balance.consistency, Tolerance.TRAINED)
        case.compare("adaptive_grad_dsm", balance.denoising, Tolerance.TRAINED)
    for name, found in numbers.items():
        case.compare_number(name, found, case.meta[name])
    _check_last_layer(case, case.settings)


def _check_last_layer(case: Case, settings: Distillation) -> None:
    """The JSON says whether lambda came from the last layer, or null where no lambda was computed."""
    found = settings.last_layer == "postprocess_conv.weight" if settings.adaptive_lambda else None
    reference = case.meta["last_layer_is_postprocess_conv"]
    if reference is not found:
        raise ValueError(f"case {case.name}: last_layer_is_postprocess_conv is {reference}, here {found}")


def _check_gradients(case: Case, student: DiT) -> None:
    gradients = {name: updates.gradient(parameter) for name, parameter in student.named_parameters()}
    prefix = f"{case.name}/grad."
    for tensor in case.file.names():
        if tensor.startswith(prefix):
            name = tensor.removeprefix(prefix).removeprefix(official.DIT_PREFIX)
            # of a matrix the folder may keep the first rows only
            found = gradients[name][: case.file.shape(tensor)[0]]
            case.file.compare(case.group, tensor, found, Tolerance.TRAINED)
    norms = {name.removeprefix(official.DIT_PREFIX): norm for name, norm in case.meta["grad_norms"].items()}
    if norms.keys() != gradients.keys():
        raise ValueError(f"case {case.name}: grad_norms differ in {', '.join(sorted(norms.keys() ^ gradients.keys()))}")
    for name, norm in norms.items():
        case.compare_number(f"grad_norms.{name}", float(gradients[name].double().norm()), norm)
    whole = float(torch.stack([gradient.double().norm() for gradient in gradients.values()]).norm())
    case.compare_number("total_grad_norm", whole, case.meta["total_grad_norm"])
