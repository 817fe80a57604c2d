"""A golden training file of other sizes, made the plain way: one graph, differentiated as a whole.

The trainer differentiates its losses down to the network's outputs first; here lambda and the gradients come from
complete backward passes, so that both ways are compared.
"""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from soundctm.codecs.dac import GaussianDAC
from soundctm.networks import preconditioning as edm
from soundctm.networks.dit import DiT, TextContext
from soundctm.schedule import karras_sigmas
from soundctm.spec import DiffusionSpec
from soundctm_training.data.mixing import mix_batch, peak_level_db
from soundctm_training.distillation.solver import guided, heun

Tensors = dict[str, Tensor]
TRAIN_ARGS = {
    "loss_type": "feature_space", "match_point": "zs", "dsm_loss_target": "z_0", "apply_adaptive_weight": True,
    "diffusion_weight_schedule": "karras_weight", "diffusion_training": True, "diffusion_mult": 0.6, "w_min": 1.0,
    "w_max": 9.0, "consistency_weight": 2.0, "denoising_weight": 0.5, "latent_channels": 3, "latent_f_size": 2,
    "latent_t_size": 5, "unet_mode": "half",
}  # fmt: skip
CASES: list[dict[str, Any]] = [
    {"variant": "features", "args": {"consistency_weight": 1.5}},
    {"variant": "l2 at zero", "args": {"loss_type": "l2", "match_point": "z0", "dsm_loss_target": "z_target"}},
    {"variant": "no lambda", "args": {"loss_type": "ictm", "apply_adaptive_weight": False}, "denoising_weight": 0.3},
]
ROWS, SAMPLES, STEPS, OMEGA = 3, 25, 2, (1.5, 4.0)
MIX = {"student": 0.4, "teacher": 0.6}
OPTIMISER = {
    "optimizer": "RAdam", "lr": 0.02, "betas": [0.8, 0.99], "eps": 1e-7, "weight_decay": 0.1, "clip_grad_norm": 0.5,
    "step": 1, "ema_rate": 0.8,
}  # fmt: skip


_SHARED = {"z_t", "z_u", "dsm_x_t", "dsm_g_theta"}


def write_training(
    folder: Path, student: DiT, teacher: DiT, conditions: Tensor, codec: GaussianDAC, diffusion: DiffusionSpec,
    points: int,
) -> None:  # fmt: skip
    """The file of one version; `conditions` are those of the folder's four texts, the second one empty."""
    target, others = copy.deepcopy(student), dict(teacher.named_parameters())
    with torch.no_grad():
        for name, parameter in target.named_parameters():
            parameter.copy_(MIX["student"] * parameter + MIX["teacher"] * others[name])
    networks = (target.requires_grad_(False), teacher.requires_grad_(False))
    shared = _inputs(codec, diffusion, points)
    tensors = {name if name in ("waveform", "z_mean", "z_std") else f"C/{name}": v for name, v in shared.items()}
    tensors |= {"cond": conditions[[0, 2, 1]], "cond_empty": conditions[[1]]}
    cases: list[dict[str, Any]] = []
    trained = []
    for case in CASES:
        trained.append(copy.deepcopy(student).requires_grad_())
        options = {**TRAIN_ARGS, **case, **case["args"]}
        plain = _Step(trained[-1], *networks, tensors["cond"], tensors["cond_empty"], diffusion, points)
        found, numbers = plain.run(shared, options)
        tensors |= {f"C/{name}" if name in _SHARED else f"C/{case['variant']}/{name}": v for name, v in found.items()}
        cases.append({"tag": "C", "num_heun_step": STEPS, "prompts": ["one", "two words", ""], **case, **numbers})
    updated, sums = _update(trained[0], target)
    meta = {"cases": cases, "target_mix": MIX, "radam": {"lr": 0.05}, "opt": {**OPTIMISER, **sums}}
    _write(folder / "training", tensors | updated | _radam(), meta)


def _inputs(codec: GaussianDAC, diffusion: DiffusionSpec, points: int) -> Tensors:
    """Draws and what follows from them alone."""
    levels = torch.tensor(karras_sigmas(points, diffusion), dtype=torch.float32)
    waveform, frames = torch.randn(ROWS, SAMPLES), -(-SAMPLES // codec.hop_samples)
    noise, uniform, normal = (torch.randn(ROWS, 6, frames) for _ in range(3)), torch.rand(2), torch.randn(1)
    posterior, jump_noise, dsm_noise = noise
    with torch.no_grad():
        latent = codec.encode(waveform[:, None], posterior)
    t, s, omega = torch.tensor([0, 4, 7]), torch.tensor([9, 6, 11]), torch.rand(ROWS)
    rho, high, low = diffusion.rho, diffusion.sigma_max, diffusion.sigma_min
    upper = (high ** (1 / rho) + 0.6 * uniform * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    return {
        "waveform": waveform, "z_mean": codec.z_mean, "z_std": codec.z_std, "posterior_noise": posterior,
        "noise": jump_noise, "dsm_noise": dsm_noise, "x_start": latent, "omega_uniform": omega,
        "omega": OMEGA[0] + (OMEGA[1] - OMEGA[0]) * omega, "indices_t": t, "indices_s": s, "t": levels[t],
        "s": levels[s], "u": levels[t + STEPS], "dsm_sigma_normal": normal, "dsm_sigma_uniform": uniform,
        "dsm_sigmas": torch.cat([(1.2 * normal - 1.2).exp(), upper]),
    }  # fmt: skip


class _Step:
    """One step in one graph."""

    def __init__(
        self, student: DiT, target: DiT, teacher: DiT, cond: Tensor, empty: Tensor, diffusion: DiffusionSpec,
        points: int,
    ) -> None:  # fmt: skip
        self.student, self.target, self.teacher, self.bottom = student, target, teacher, diffusion.sigma_min
        self.levels = torch.tensor(karras_sigmas(points, diffusion), dtype=torch.float32)
        self.of_student, self.of_target, self.of_teacher, self.of_empty = (
            network.encode_context(tokens)
            for network, tokens in (
                (student, cond), (target, cond), (teacher, cond), (teacher, empty.expand(ROWS, -1, -1)),
            )
        )  # fmt: skip

    def run(self, given: Tensors, options: dict[str, Any]) -> tuple[Tensors, dict[str, Any]]:
        t, u, s, omega = (given[name] for name in ("t", "u", "s", "omega"))
        z_t = given["x_start"] + t.view(-1, 1, 1) * given["noise"]
        denoisers = [self._denoiser(context) for context in (self.of_teacher, self.of_empty)]
        z_u = heun(guided(denoisers[0], denoisers[1], omega), z_t, given["indices_t"], STEPS, self.levels)
        z_est = edm.jump(self.student, z_t, t, s, omega, self.of_student, 0.5)
        z_target, at = edm.jump(self.target, z_u, u, s, omega, self.of_target, 0.5), s
        if options["match_point"] == "z0":
            at = torch.full_like(s, self.bottom)
            z_est, z_target = (edm.jump(self.target, z, s, at, omega, self.of_target, 0.5) for z in (z_est, z_target))
        consistency = self._distance(z_est, z_target.detach(), at, options["loss_type"])
        sigma = given["dsm_sigmas"]
        x_t = given["x_start"] + sigma.view(-1, 1, 1) * given["dsm_noise"]
        g = edm.denoise(self.student, x_t, sigma, sigma, omega, self.of_student, 0.5)
        goal = given["x_start"] if options["dsm_loss_target"] == "z_0" else z_target
        denoising = (sigma**2 + 0.25) / (sigma * 0.5) ** 2 * (g - goal).square().mean((1, 2))
        found = {"z_t": z_t, "z_u": z_u, "dsm_x_t": x_t, "dsm_g_theta": g, "z_est": z_est, "z_target": z_target}
        return self._differentiate(found, consistency, denoising, options)

    def _denoiser(self, context: TextContext) -> Any:
        return lambda z, level: edm.denoise(self.teacher, z, level, None, None, context, 0.5)

    def _distance(self, estimate: Tensor, target: Tensor, level: Tensor, kind: str) -> Tensor:
        if kind == "l2":
            return (estimate - target).square().mean((1, 2))
        if kind == "ictm":
            c = 0.00054 * 30**0.5
            return (((estimate - target) ** 2 + c**2).sqrt() - c).mean((1, 2))
        features = []
        for z in (estimate, target):
            embedded = self.teacher.level_embedding(edm.c_noise(level), None, None, None)
            hidden = self.teacher.embed(edm.c_in(level, 0.5).view(-1, 1, 1) * z, embedded)
            features.append(self.teacher.run_layers_in_parallel(hidden, self.of_teacher, embedded))
        units = [[f / f.square().sum(1, keepdim=True).sqrt() for f in layers] for layers in features]
        return sum((a - b).square().mean((1, 2)) for a, b in zip(*units, strict=True))  # type: ignore[return-value]

    def _differentiate(
        self, found: Tensors, consistency: Tensor, denoising: Tensor, options: dict[str, Any]
    ) -> tuple[Tensors, dict[str, Any]]:
        weight = torch.tensor(10.0)
        if options["apply_adaptive_weight"]:
            last = self.student.postprocess_conv.weight
            slopes = [
                torch.autograd.grad(loss.mean(), last, retain_graph=True)[0] for loss in (consistency, denoising)
            ]
            weight = slopes[0].norm() / (slopes[1].norm() + 1e-8)
            found |= {"adaptive_grad_ctm": slopes[0], "adaptive_grad_dsm": slopes[1]}
        total = options["consistency_weight"] * consistency.mean()
        total = total + options["denoising_weight"] * (weight * denoising).mean()
        total.backward()
        consistency, denoising, total = consistency.detach(), denoising.detach(), total.detach()
        gradients = {
            name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
            for name, p in self.student.named_parameters()
        }
        found |= {f"grad.{name}": g[:8] if g.ndim == 2 else g for name, g in gradients.items()}
        found |= {"L_ctm": consistency, "L_dsm_times_lambda": weight * denoising, "lambda": weight.view(1)}
        numbers = {
            "grad_norms": {name: float(g.norm()) for name, g in gradients.items()},
            "total_grad_norm": float(torch.cat([g.flatten() for g in gradients.values()]).norm()),
            "L_ctm_mean": float(consistency.mean()), "lambda_times_dsm_mean": float(weight * denoising.mean()),
            "L_dsm_mean_unweighted": float(denoising.mean()), "adaptive_weight": float(weight),
            "total_loss": float(total),
            "last_layer_is_postprocess_conv": True if options["apply_adaptive_weight"] else None,
        }  # fmt: skip
        return found | {"total_loss": total.view(1)}, numbers


def _update(trained: DiT, target: DiT) -> tuple[Tensors, dict[str, float]]:
    """An optimiser step and the target's average, written out."""
    options = {key: OPTIMISER[key] for key in ("lr", "eps", "weight_decay")}
    torch.nn.utils.clip_grad_norm_(trained.parameters(), OPTIMISER["clip_grad_norm"])
    after = copy.deepcopy(trained)
    for parameter, source in zip(after.parameters(), trained.parameters(), strict=True):
        parameter.grad = source.grad
    torch.optim.RAdam(after.parameters(), betas=tuple(OPTIMISER["betas"]), **options).step()
    averaged = {
        name: OPTIMISER["ema_rate"] * old + (1 - OPTIMISER["ema_rate"]) * after.get_parameter(name).detach()
        for name, old in target.named_parameters()
    }
    tensors: Tensors = {}
    for name in ("postprocess_conv.weight", "transformer.project_out.weight", "to_timestep_embed.0.bias"):
        tensors |= {f"opt/student_after.{name}": after.get_parameter(name), f"opt/target_after.{name}": averaged[name]}
    sums = {
        "student_sum_after": float(sum(p.detach().double().sum() for p in after.parameters())),
        "target_sum_after": float(sum(value.double().sum() for value in averaged.values())),
    }
    return tensors, sums


def _radam() -> Tensors:
    parameter, gradients = torch.nn.Parameter(torch.randn(5)), torch.randn(4, 5)
    start, after = parameter.detach().clone(), []
    optimiser = torch.optim.RAdam([parameter], 0.05)
    for gradient in gradients:
        parameter.grad = gradient
        optimiser.step()
        after.append(parameter.detach().clone())
    return {"radam/p0": start, "radam/grads": gradients, "radam/p_after": torch.stack(after)}


def write_augment(folder: Path) -> None:
    """Four clips of another length and rate."""
    waves, captions = torch.randn(4, 5000) * torch.tensor([[0.1], [0.9], [0.3], [0.01]]), ["A", "Big", "", "dog"]
    mixed, joined = mix_batch(waves, captions, 3, random.Random(5), 16000)
    levels = torch.stack([peak_level_db(wave, 16000) for wave in waves]).float()
    meta = {"captions": captions, "mixed_captions": joined, "python_random_seed": 5, "sampling_rate": 16000}
    (folder / "augment").mkdir()
    _write(folder / "augment" / "cases", {"waves": waves, "mixed": mixed, "gain_db_max": levels}, meta)


def _write(path: Path, tensors: Tensors, meta: dict[str, Any]) -> None:
    save_file({name: value.detach().contiguous().clone() for name, value in tensors.items()}, f"{path}.safetensors")
    shapes = {name: [list(value.shape), str(value.dtype)] for name, value in tensors.items()}
    Path(f"{path}.json").write_text(json.dumps({"meta": meta, "tensors": shapes}))
