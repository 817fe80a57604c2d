"""Promises of the teacher's and the student's training, on a minute network."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from small_training import CONFIG, dataset
from soundctm.networks.dit import DiT
from soundctm_training.config import Precision
from soundctm_training.dataset import EMPTY, draw_batch
from soundctm_training.distill import Distiller, carried_over
from soundctm_training.distillation.ctm import adaptive_weight
from soundctm_training.distillation.draws import draw_indices
from soundctm_training.distillation.features import feature_distance, teacher_features
from soundctm_training.teacher import draw_disturbance, teacher_loss
from soundctm_training.train_teacher import TeacherTrainer


def fixed_loss(trainer: TeacherTrainer) -> float:
    """The loss on one batch and noise, without a step."""
    batch = draw_batch(trainer.data, trainer.settings.lengths, trainer.text, 2, np.random.default_rng(5))
    with torch.no_grad():
        context = trainer.network.encode_context(batch.tokens, batch.masks)
        noise = torch.Generator().manual_seed(5)
        disturbance = draw_disturbance(batch.latent.shape, trainer.settings, CONFIG.diffusion, noise)
        return float(teacher_loss(trainer.network, batch.latent, context, disturbance, 0.5).mean())


def teacher_of(steps: int) -> DiT:
    trainer = TeacherTrainer(CONFIG, dataset())
    for step in range(steps):
        trainer.train_step(step, 1.0)
    return trainer.network


def test_teacher_training_lowers_the_loss() -> None:
    trainer = TeacherTrainer(CONFIG, dataset())
    before = fixed_loss(trainer)
    for step in range(30):
        trainer.train_step(step, 1.0)
    assert fixed_loss(trainer) < 0.9 * before


def test_another_seed_is_another_network_and_other_batches() -> None:
    second = dataclasses.replace(CONFIG, teacher=dataclasses.replace(CONFIG.teacher, seed=9))
    trainers = [TeacherTrainer(config, dataset()) for config in (CONFIG, CONFIG, second)]
    first = [trainer.network.to_pooled_embed[0].weight.detach() for trainer in trainers]
    assert torch.equal(first[0], first[1]) and not torch.equal(first[0], first[2])
    trainers[2].network.load_state_dict(trainers[0].network.state_dict())
    losses = [trainer.train_step(0, 1.0)["loss"] for trainer in trainers]
    assert losses[0] == losses[1] != losses[2]


def test_distillation_is_finite_moves_the_student_and_leaves_the_teacher() -> None:
    teacher = teacher_of(10)
    held = {name: value.clone() for name, value in teacher.state_dict().items()}
    distiller = Distiller(CONFIG, dataset(), teacher)
    for step in range(4):
        losses = distiller.train_step(step, 1.0)
        assert np.isfinite(list(losses.values())).all()
        assert 0 <= losses["weight"] <= CONFIG.distillation.lambda_max
    for network in (teacher, distiller.networks.teacher):
        assert all(torch.equal(value, held[name]) for name, value in network.state_dict().items())
    moved = [not torch.equal(v, held[n]) for n, v in distiller.networks.student.state_dict().items()]
    assert sum(moved) > len(moved) // 2
    s_embedding = distiller.networks.student.to_s_embed[2].weight.detach()
    assert float(s_embedding.abs().max()) > 0  # it began at zero: the student learns where it is to land


def test_a_student_goes_on_from_an_earlier_one_under_a_later_teacher() -> None:
    earlier_teacher, later_teacher = teacher_of(2), teacher_of(6)
    earlier = Distiller(CONFIG, dataset(), earlier_teacher)
    earlier.train_step(0, 1.0)
    start = carried_over(earlier.networks.student, earlier_teacher, later_teacher)
    distiller = Distiller(CONFIG, dataset(), later_teacher, start=start)
    name = "to_s_embed.2.weight"  # zero in every teacher: what the earlier student knows of s is kept as it is
    learned = earlier.networks.student.get_parameter(name).detach()
    assert float(learned.abs().max()) > 0
    for network in (distiller.networks.student, distiller.networks.target):
        torch.testing.assert_close(network.get_parameter(name).detach(), learned)
    name = "transformer.project_out.weight"
    own, was, now = (net.get_parameter(name) for net in (earlier.networks.student, earlier_teacher, later_teacher))
    torch.testing.assert_close(distiller.networks.student.get_parameter(name), now + own - was)
    assert torch.equal(distiller.networks.teacher.get_parameter(name), now)


def test_the_target_follows_the_student() -> None:
    distiller = Distiller(CONFIG, dataset(), teacher_of(5))
    name = "transformer.project_out.weight"
    before = distiller.networks.target.get_parameter(name).clone()
    distiller.train_step(0, 1.0)
    student = distiller.networks.student.get_parameter(name).detach()
    expected = before + (1 - CONFIG.distillation.target_ema) * (student - before)
    torch.testing.assert_close(distiller.networks.target.get_parameter(name), expected)


def test_indices_are_in_order_and_within_the_grid() -> None:
    generator = np.random.default_rng(0)
    draws = [draw_indices(16, CONFIG.distillation, generator) for _ in range(200)]
    last = CONFIG.distillation.grid_points - 1
    for draw in draws:
        assert bool((draw.t >= 0).all() and (draw.u <= draw.s).all() and (draw.s <= last).all())
    ends = torch.cat([draw.s for draw in draws]) == last
    tops = torch.cat([draw.t for draw in draws]) <= 1
    assert float(ends.float().mean()) > CONFIG.distillation.end_s
    assert float(tops.float().mean()) > CONFIG.distillation.top_t
    assert {draw.solver_steps for draw in draws} == {1, 2}


def test_feature_distance_is_zero_only_for_equal_latents() -> None:
    teacher, data = teacher_of(5).requires_grad_(False), dataset()
    context = teacher.encode_context(*data.text.rows(np.array([1, 2], np.int32)))
    z, level = torch.randn(2, 6, 8), torch.tensor([0.5, 2.0])
    features = teacher_features(teacher, z, level, context, 0.5)
    assert len(features) == CONFIG.network.depth
    assert float(feature_distance(features, features).abs().max()) == 0
    other = teacher_features(teacher, z + 0.1, level, context, 0.5)
    assert float(feature_distance(features, other).min()) > 0


def test_adaptive_weight_is_the_ratio_of_the_gradients() -> None:
    assert float(adaptive_weight(torch.tensor([3.0, 4.0]), torch.tensor([1.0]), 10.0)) == pytest.approx(5.0)
    assert float(adaptive_weight(torch.tensor([3.0, 4.0]), torch.zeros(1), 10.0)) == 10.0


def test_batches_have_one_length_and_drop_captions() -> None:
    data, generator = dataset(), np.random.default_rng(0)
    batches = [draw_batch(data, CONFIG.teacher.lengths, CONFIG.text, 2, generator) for _ in range(300)]
    lengths = {batch.latent.shape[2] for batch in batches}
    assert {8, 16} < lengths and all(length % 2 == 0 for length in lengths)
    dropped = np.concatenate([batch.captions for batch in batches]) == EMPTY
    assert dropped.mean() == pytest.approx(CONFIG.text.drop, abs=0.03)


def test_networks_may_compute_in_bfloat16() -> None:
    hardware = dataclasses.replace(CONFIG.hardware, precision=Precision.BFLOAT16)
    config = dataclasses.replace(CONFIG, hardware=hardware)
    trainers = [TeacherTrainer(of, dataset()) for of in (CONFIG, config)]
    losses = [[trainer.train_step(step, 1.0)["loss"] for step in range(6)] for trainer in trainers]
    assert losses[0] != losses[1]  # the first step of a network whose last layer is still zero is the same
    assert losses[1] == pytest.approx(losses[0], rel=0.05)  # bfloat16 keeps 8 bits, 0.4 % a value, over 6 steps
    teacher = teacher_of(3)
    full, half = (Distiller(of, dataset(), teacher).train_step(0, 1.0) for of in (CONFIG, config))
    assert np.isfinite(list(half.values())).all()
    assert half["denoising"] == pytest.approx(full["denoising"], rel=0.05)
