"""The checker takes everything from the folder: here one of other sizes, names and settings, made with our own code.

What the values should be is the golden data's matter; this shows that nothing of its sizes is written in the checker.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from parity.__main__ import main
from parity.plain_training import TRAIN_ARGS, write_augment, write_training
from parity.run import check_folder
from soundctm.codecs.dac import GaussianDAC
from soundctm.networks import preconditioning as edm
from soundctm.networks.dit import DiT, TextContext, omega_embedding
from soundctm.plan import make_plan
from soundctm.sampling import guided, run_plan
from soundctm.schedule import karras_sigmas
from soundctm.spec import DiffusionSpec, DiTSpec
from soundctm.text.clap import ClapNetwork, roberta_spec
from soundctm_training.distillation.solver import guided as guided_denoiser
from soundctm_training.distillation.solver import heun

Tensors = dict[str, Tensor]
TEXTS = ["one", "", "two words", "three of them"]
SPECS = {
    "v1": DiTSpec(io_channels=6, embed_dim=96, depth=3, num_heads=3, cond_dim=32),  # 3 queries a key
    "v2": DiTSpec(io_channels=6, embed_dim=192, depth=1, num_heads=2, cond_dim=96),  # rotary over 48 of 96 dims
}
DIFFUSION = DiffusionSpec(sigma_data=0.5, sigma_min=0.01, sigma_max=30.0, rho=5.0)
POINTS, FRAMES, DAC = 12, 5, {
    "encoder_dim": 2, "encoder_rates": [2, 3], "latent_dim": 6, "decoder_dim": 8, "decoder_rates": [3, 2],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        conditions = _write_text(folder)
        codec = _write_vae(folder)
        for version, spec in SPECS.items():
            student, teacher = _write_version(folder, version, spec, conditions[version], codec)
            with torch.enable_grad():
                write_training(folder / version, student, teacher, conditions[version], codec, DIFFUSION, POINTS)
        write_augment(folder)
    train_args = {"sigma_data": 0.5, "sigma_min": 0.002, "sigma_max": 80.0, "rho": 7, "start_scales": POINTS}
    train_args |= TRAIN_ARGS
    settings = {"sigma_min": 0.01, "sigma_max": 30.0, "dit": {"v2": _config(SPECS["v2"])}, "text": {"heads": 4}}
    settings |= {"w_range": [1.5, 4.0]}  # train_args_base has another range
    _write_json(folder / "config.json", {"settings": settings, "train_args_base": {**train_args, "rho": 5}})
    return folder


def test_a_folder_of_other_sizes_passes(folder: Path) -> None:
    assert main([str(folder)]) == 0


def test_and_is_really_compared(folder: Path) -> None:
    outcome = check_folder(folder)
    compared = {comparison.tensor.split(":")[1].split("[")[0] for comparison in outcome.comparisons}
    expected = {"run b/traj", "case a/after_step_1", "feature_2", "int.hidden_2_rows02", "sigmas_N3", "waveform"}
    expected |= {"C/l2 at zero/grad.postprocess_conv.weight", "C/no lambda/grad_norms.postprocess_conv.weight"}
    assert expected <= compared


def _write(folder: Path, name: str, tensors: Tensors, meta: dict[str, Any], **more: Any) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous().clone() for key, tensor in tensors.items()}, folder / f"{name}.safetensors")
    shapes = {key: [list(tensor.shape), str(tensor.dtype).removeprefix("torch.")] for key, tensor in tensors.items()}
    _write_json(folder / f"{name}.json", {"meta": meta, "tensors": shapes, **more})


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data))


def _config(spec: DiTSpec) -> dict[str, Any]:
    sizes = {"io_channels": spec.io_channels, "embed_dim": spec.embed_dim, "depth": spec.depth}
    return {**sizes, "num_heads": spec.num_heads, "cond_token_dim": spec.cond_dim, "global_cond_dim": 7}


def _write_text(folder: Path) -> dict[str, Tensor]:
    sizes = {"vocab_size": 40, "hidden": 96, "layers": 1, "heads": 4, "intermediate": 32, "positions": 30}
    network = ClapNetwork(roberta_spec(**sizes), 32).eval()
    mask = torch.arange(9)[None] < torch.tensor([3, 2, 4, 9])[:, None]
    ids = torch.where(mask, torch.randint(4, 40, (4, 9)), 1)
    hidden = network.text_branch(ids, mask)
    pooled = network.text_branch.pool(hidden)
    v1, v2 = network(ids, mask), torch.nn.functional.normalize(pooled, dim=-1)
    tensors = {
        "input_ids": ids, "attention_mask": mask.long(), "last_hidden_state_row2": hidden[2], "pooler_output": pooled,
        "v1_projected_unnormalised": network.project(pooled), "v1_embedding": v1, "v2_embedding": v2,
    }  # fmt: skip
    _write(folder, "text/cases", tensors, {"texts": TEXTS})
    _write(folder, "text/weights", dict(network.state_dict()), {})
    return {"v1": v1[:, None], "v2": v2[:, None]}


def _write_vae(folder: Path) -> GaussianDAC:
    codec = GaussianDAC(**DAC).eval()  # type: ignore[arg-type]
    codec.z_mean += torch.randn(6)
    codec.z_std *= 2
    plain = {name: tensor for name, tensor in codec.state_dict().items() if name not in ("z_mean", "z_std")}
    normed = {}
    for name, tensor in plain.items():
        if name.endswith(".weight"):
            normed[f"{name}_v"] = 3 * tensor
            normed[f"{name}_g"] = tensor.norm(dim=tuple(range(1, tensor.ndim)), keepdim=True)
        else:
            normed[name] = tensor
    _write(folder, "vae/weights_plain", plain, {"kwargs": DAC})
    _write(folder, "vae/weights_weightnorm", normed, {"kwargs": {**DAC, "sample_rate": 8000, "double_z": True}})
    (folder / "vae/ckpt/gaussiandac").mkdir(parents=True)
    torch.save({"state_dict": normed, "metadata": {"kwargs": DAC}}, folder / "vae/ckpt/gaussiandac/weights.pth")
    torch.save({"z_mean": codec.z_mean.clone(), "z_std": codec.z_std.clone()}, folder / "vae/ckpt/z_stats.pth")
    audio, noise, z1, latent = torch.randn(3, 1, 25), torch.randn(3, 6, 5), torch.randn(1, 6, 1), torch.randn(2, 6, 3)
    posterior = codec.posterior(audio)
    encoded, z = codec.encoder(codec.pad(audio)), posterior.sample(noise)
    tensors = {
        "waveform": audio, "waveform_padded": codec.pad(audio), "posterior_noise": noise, "encoder_out": encoded,
        "moments": codec.pre_conv(encoded), "mean": posterior.mean, "logvar": posterior.logvar, "std": posterior.std,
        "kl_per_sample": posterior.kl(), "forward_kl_loss": posterior.kl().mean()[None], "z": z,
        "post_conv_out": codec.post_conv(z), "decoded": codec.decode_raw(z), "z_len1": z1,
        "forward_audio_trimmed": codec.decode_raw(z)[..., :25], "decoded_from_mean": codec.decode_raw(posterior.mean),
        "decoded_len1": codec.decode_raw(z1), "z_mean": codec.z_mean, "z_std": codec.z_std, "norm_latent": latent,
        "denorm_latent": codec.restore(latent), "denorm_decoded": codec.decode(latent, None),
        "z_standardised": codec.standardise(z),
    }  # fmt: skip
    _write(folder, "vae/cases", tensors, {"hop": 6})
    return codec


def _network(spec: DiTSpec) -> DiT:
    network = DiT(spec).eval()
    for parameter in network.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def _write_version(
    folder: Path, version: str, spec: DiTSpec, conditions: Tensor, codec: GaussianDAC
) -> tuple[DiT, DiT]:
    student = _network(spec)
    meta = {} if version == "v2" else {"dit_config": _config(spec)}  # v2's sizes stand in the settings only
    _write(folder, f"{version}/student", {f"dit.{k}": v for k, v in student.state_dict().items()}, meta)
    if version == "v1":
        teacher = student
        _write_json(folder / version / "teacher.json", {"teacher_weights": "student.safetensors"})
    else:
        teacher = _network(spec)
        dead = {f"dit.to_global_embed.{i}.weight": torch.randn(4, 4) for i in (0, 2)}
        _write(folder, f"{version}/teacher", {f"dit.{k}": v for k, v in teacher.state_dict().items()} | dead, meta)
    _write_cases(folder, version, student, teacher, conditions)
    _write_sampling(folder, version, student, conditions, codec)
    _write_heun(folder, version, teacher, conditions)
    return student, teacher


def _write_cases(folder: Path, version: str, student: DiT, teacher: DiT, conditions: Tensor) -> None:
    x, t, s = torch.randn(4, 6, 11), torch.tensor([30.0, 2.0, 0.3, 0.02]), torch.tensor([5.0, 2.0, 0.01, 0.01])
    omega, tokens = torch.tensor([1.0, 2.5, 4.0, 7.0]), torch.randn(2, 3, student.spec.cond_dim)
    keep, context = torch.tensor([[1, 0, 1], [1, 1, 1]]).bool(), student.encode_context(conditions)
    ct, cs, net_in = edm.c_noise(t), edm.c_noise(s), edm.c_in(t, 0.5).view(-1, 1, 1) * x
    level, x1, last = student.level_embedding(ct, cs, omega, None), torch.randn(1, 6, 4), slice(2, 3)
    row = TextContext(**{name: value[last] for name, value in context.fields().items()})
    tensors = {
        "x": x, "t": t, "s": s, "omega": omega, "cond": conditions, "c_in": edm.c_in(t, 0.5), "net_in": net_in,
        "cond_mask": torch.ones(4, 1, dtype=torch.uint8), "F_x": student(net_in, ct, cs, omega, context),
        "g_theta": edm.denoise(student, x, t, s, omega, context, 0.5),
        "G_theta": edm.jump(student, x, t, s, omega, context, 0.5), "int.c_noise_t": ct, "int.c_noise_s": cs,
        "int.fourier_t": student.timestep_features(ct), "int.omega_emb": omega_embedding(omega, student.spec.embed_dim),
        "int.temb_t": student.level_embedding(ct, None, None, None), "int.global": level,
        "int.temb_s": student.level_embedding(cs, None, None, None), "int.context": student.to_cond_embed(conditions),
        "int.rotary_freqs": student.transformer.rotary_pos_emb(12), "b1.x": x1,
        "b1.g_theta": edm.denoise(student, x1, t[last], s[last], omega[last], row, 0.5),
        "b1.G_theta": edm.jump(student, x1, t[last], s[last], omega[last], row, 0.5),
        "tok.context": tokens, "tok.mask": keep.to(torch.uint8),
        "tok.F_x": student(net_in[:2], ct[:2], cs[:2], omega[:2], student.encode_context(tokens, keep)),
    }  # fmt: skip
    for index, state in enumerate(student.run_layers(student.embed(net_in, level), context, level)):
        tensors[f"int.hidden_{index}_rows02"] = state[:2]
    _write(folder, f"{version}/student_cases", tensors, {}, what={"b1.*": "batch-1, row 2 of the table"})
    known, level = teacher.encode_context(conditions), teacher.level_embedding(ct, None, None, None)
    hidden = teacher.embed(net_in, level)
    found = {
        "x": x, "t": t, "cond": conditions, "net_in": net_in, "F_x": teacher(net_in, ct, None, None, known),
        "D": edm.denoise(teacher, x, t, None, None, known, 0.5), "global": level, "layer_input": hidden,
        "chained_last_feature_NOT_official": teacher.run_layers(hidden, known, level)[-1],
    }  # fmt: skip
    features = teacher.run_layers_in_parallel(hidden, known, level)
    _write(folder, f"{version}/teacher_cases", found | {f"feature_{i}": f for i, f in enumerate(features)}, {})


def _write_sampling(folder: Path, version: str, student: DiT, conditions: Tensor, codec: GaussianDAC) -> None:
    text, empty = conditions[[0, 2]], conditions[[1]]
    runs: list[dict[str, Any]] = [
        {"name": "run a", "sampler": "deterministic", "gamma": 0.9, "steps": 3, "nu": 0.5, "omega": 2.25},
        {"name": "run b", "sampler": "gamma_multistep", "gamma": 0.7, "steps": 3, "nu": 1.0, "omega": 9.0},
        {"name": "run c", "sampler": "cm_multistep", "gamma": 0.0, "steps": 2, "nu": 3.0, "omega": 1.0},
    ]
    tensors = {f"sigmas_N{n}": torch.tensor([*karras_sigmas(n + 1, DIFFUSION), 0.0]) for n in (2, 3)}
    for run, gamma in zip(runs, (0.0, 0.7, 1.0), strict=True):
        start, noise, name = torch.randn(2, 6, FRAMES), torch.randn(run["steps"] - 1, 2, 6, FRAMES), run["name"]
        states, outputs = _sample(student, text, empty, run, gamma, start, noise)
        plan = make_plan(run["steps"], gamma, DIFFUSION)
        tensors |= {f"{name}/init_noise": start, f"{name}/traj": states, f"{name}/text_out": outputs}
        tensors |= {f"{name}/t": torch.tensor([j.t for j in plan]), f"{name}/s": torch.tensor([j.s for j in plan])}
        tensors |= {f"{name}/noise": noise} if gamma else {}
    diffusion = {"sigma_min": 0.01, "sigma_max": 30.0, "rho": 5.0}
    _write(folder, f"{version}/samplers", tensors, {"runs": runs, **diffusion})
    _write(folder, f"{version}/samplers_cond", {"cond_text": text, "cond_empty": empty}, {})
    start = torch.randn(2, 6, FRAMES)
    latents = _sample(student, text, empty, runs[0], 0.0, start, start)[0][-1]
    audio = codec.decode(latents, None)[..., :-1]
    whole = {"init_noise": start, "cond_text": text, "cond_empty": empty, "latents": latents, "waveform": audio}
    meta = {**runs[0], "prompts": [TEXTS[0], TEXTS[2]]}
    _write(folder, f"{version}/end_to_end", whole | {"denorm": codec.restore(latents)}, meta)


def _sample(
    student: DiT, text: Tensor, empty: Tensor, run: dict[str, Any], gamma: float, start: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    states, outputs, omega = [30.0 * start], [], torch.full((2,), run["omega"])
    contexts = [student.encode_context(cond.expand(2, -1, -1)) for cond in (text, empty)]

    def conditional(z: Tensor, jump: Any) -> Tensor:
        t, s = torch.full((2,), jump.t), torch.full((2,), jump.s)
        outputs.append(edm.jump(student, z, t, s, omega, contexts[0], 0.5))
        return outputs[-1]

    def unconditional(z: Tensor, jump: Any) -> Tensor:
        return edm.jump(student, z, torch.full((2,), jump.t), torch.full((2,), jump.s), omega, contexts[1], 0.5)

    plan = make_plan(run["steps"], gamma, DIFFUSION)
    mixed = guided(conditional, unconditional, run["nu"])
    run_plan(mixed, states[0], plan, noise.__getitem__, lambda _, z: states.append(z))
    return torch.stack(states), torch.stack(outputs)


def _write_heun(folder: Path, version: str, teacher: DiT, conditions: Tensor) -> None:
    grid = torch.tensor(karras_sigmas(POINTS, DIFFUSION), dtype=torch.float32)
    contexts = [teacher.encode_context(cond.expand(2, -1, -1)) for cond in (conditions[[0, 2]], conditions[[1]])]
    with_text, without = (
        lambda z, level, context=context: edm.denoise(teacher, z, level, None, None, context, 0.5)
        for context in contexts
    )
    x, omega = torch.randn(2, 6, FRAMES) * 10, torch.tensor([3.0, 0.5])
    mixed = guided_denoiser(with_text, without, omega)
    cases = [
        {"name": "case a", "ind": [1, 8], "num_step": 3, "guidance": [3.0, 0.5], "solver": "heun_solver_cfg"},
        {"name": "case b", "ind": [0, 2], "num_step": 2, "solver": "heun_solver"},
    ]
    tensors = {
        f"t_table_N{POINTS}": grid, "cond_text": conditions[[0, 2]], "cond_empty": conditions[[1]],
        "case a/x": x, "case a/ind": torch.tensor([1, 8]), "case a/out": heun(mixed, x, torch.tensor([1, 8]), 3, grid),
        "case a/after_step_1": heun(mixed, x, torch.tensor([1, 8]), 2, grid),
        "case b/x": x, "case b/out": heun(with_text, x, torch.tensor([0, 2]), 2, grid),
    }  # fmt: skip
    _write(folder, f"{version}/heun", tensors, {"cases": cases})


def test_text_heads_come_from_the_settings_when_the_cases_name_none(folder: Path) -> None:
    assert "roberta_config" not in json.loads((folder / "text/cases.json").read_text())["meta"]
    assert load_file(folder / "text/weights.safetensors")["text_branch.pooler.dense.bias"].shape == (96,)
