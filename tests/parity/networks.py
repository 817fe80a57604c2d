"""Student and teacher: F, g, G, D, hidden states, features; by the constant-vector path and by general attention."""

from __future__ import annotations

import re

from parity import parts
from parity.golden import Golden, GoldenFile, Tolerance
from soundctm.networks import preconditioning
from soundctm.networks.dit import DiT, TextContext, omega_embedding

_BATCH_OF_ONE_ROW = 3  # the format's own choice, repeated in its description of `b1.*`


def check_student(golden: Golden, version: str) -> None:
    group = f"{version}/student"
    network, cases = parts.student(golden, version), golden.file(f"{version}/student_cases")
    sigma_data = float(golden.setting("sigma_data", cases.meta))
    _check_embeddings(group, network, cases, sigma_data)
    for context in _contexts(network, cases):
        _check_outputs(group, network, cases, context, sigma_data)
        if "b1.x" in cases:
            _check_batch_of_one(group, network, cases, context, sigma_data)
    if "tok.context" in cases:
        _check_tokens(group, network, cases, sigma_data)


def check_teacher(golden: Golden, version: str) -> None:
    group = f"{version}/teacher"
    network, cases = parts.teacher(golden, version), golden.file(f"{version}/teacher_cases")
    sigma_data = float(golden.setting("sigma_data", cases.meta))
    x, t = cases.read("x"), cases.read("t")
    net_in, c_noise = preconditioning.c_in(t, sigma_data).view(-1, 1, 1) * x, preconditioning.c_noise(t)
    level = network.level_embedding(c_noise, None, None, None)
    hidden = network.embed(net_in, level)
    cases.compare(group, "net_in", net_in)
    cases.compare(group, "global", level)
    cases.compare(group, "layer_input", hidden)
    for context in _contexts(network, cases):
        cases.compare(group, "F_x", network(net_in, c_noise, None, None, context))
        cases.compare(group, "D", preconditioning.denoise(network, x, t, None, None, context, sigma_data))
        for index, feature in enumerate(network.run_layers_in_parallel(hidden, context, level)):
            cases.compare(group, f"feature_{index}", feature)
        chained = network.run_layers(hidden, context, level)[-1]
        cases.compare(group, "chained_last_feature_NOT_official", chained)


def _contexts(network: DiT, cases: GoldenFile) -> list[TextContext]:
    """The same prompts by both paths."""
    cond = cases.read("cond")
    mask = cases.read("cond_mask").bool() if "cond_mask" in cases else None
    return [network.encode_context(cond, mask), network.encode_context(cond, mask, general=True)]


def _check_embeddings(group: str, network: DiT, cases: GoldenFile, sigma_data: float) -> None:
    t, s, omega = (cases.read(name) for name in ("t", "s", "omega"))
    noise_t, noise_s = preconditioning.c_noise(t), preconditioning.c_noise(s)
    fourier = network.timestep_features(noise_t)
    angles = network.transformer.rotary_pos_emb(cases.shape("x")[-1] + 1)
    plain = {
        "c_in": preconditioning.c_in(t, sigma_data),
        "int.c_noise_t": noise_t,
        "int.c_noise_s": noise_s,
        "int.fourier_t": fourier,
        "int.temb_t": network.to_timestep_embed(fourier),
        "int.temb_s": network.to_timestep_embed(network.timestep_features(noise_s)),
        "int.context": network.to_cond_embed(cases.read("cond")),
        "int.rotary_freqs": angles,
    }
    for name, value in plain.items():
        cases.compare(group, name, value)
    embedded = omega_embedding(omega, network.spec.embed_dim)
    cases.compare(group, "int.omega_emb", embedded, Tolerance.OMEGA_EMBEDDING)
    cases.compare(group, "int.global", network.level_embedding(noise_t, noise_s, omega, None), Tolerance.OMEGA)


def _check_outputs(
    group: str, network: DiT, cases: GoldenFile, context: TextContext, sigma_data: float
) -> None:
    x, t, s, omega = (cases.read(name) for name in ("x", "t", "s", "omega"))
    net_in = preconditioning.c_in(t, sigma_data).view(-1, 1, 1) * x
    noise_t, noise_s = preconditioning.c_noise(t), preconditioning.c_noise(s)
    cases.compare(group, "net_in", net_in)
    level = network.level_embedding(noise_t, noise_s, omega, None)
    states = network.run_layers(network.embed(net_in, level), context, level)
    for name in cases.names():
        layer = re.fullmatch(r"int\.hidden_(\d+)_rows\d+", name)
        if layer:
            cases.compare(group, name, states[int(layer[1])][: cases.shape(name)[0]], Tolerance.OMEGA)
    found = {
        "F_x": network(net_in, noise_t, noise_s, omega, context),
        "g_theta": preconditioning.denoise(network, x, t, s, omega, context, sigma_data),
        "G_theta": preconditioning.jump(network, x, t, s, omega, context, sigma_data),
    }
    for name, value in found.items():
        cases.compare(group, name, value, Tolerance.OMEGA)


def _check_batch_of_one(
    group: str, network: DiT, cases: GoldenFile, context: TextContext, sigma_data: float
) -> None:
    described = re.search(r"row (\d+)", cases.what.get("b1.*", ""))
    row = int(described[1]) if described else _BATCH_OF_ONE_ROW
    one = slice(row, row + 1)
    t, s, omega = (cases.read(name)[one] for name in ("t", "s", "omega"))
    alone = TextContext(**{name: value[one] for name, value in context.fields().items()})
    x = cases.read("b1.x")
    g = preconditioning.denoise(network, x, t, s, omega, alone, sigma_data)
    cases.compare(group, "b1.g_theta", g, Tolerance.OMEGA)
    jumped = preconditioning.jump(network, x, t, s, omega, alone, sigma_data)
    cases.compare(group, "b1.G_theta", jumped, Tolerance.OMEGA)


def _check_tokens(group: str, network: DiT, cases: GoldenFile, sigma_data: float) -> None:
    tokens, mask = cases.read("tok.context"), cases.read("tok.mask").bool()
    rows = tokens.shape[0]
    x, t, s, omega = (cases.read(name)[:rows] for name in ("x", "t", "s", "omega"))
    net_in = preconditioning.c_in(t, sigma_data).view(-1, 1, 1) * x
    context = network.encode_context(tokens, mask)
    raw = network(net_in, preconditioning.c_noise(t), preconditioning.c_noise(s), omega, context)
    cases.compare(group, "tok.F_x", raw, Tolerance.OMEGA)
