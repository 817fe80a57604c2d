"""A minute configuration and data set, so that every training loop runs in a second."""

from __future__ import annotations

import numpy as np
import torch

from soundctm.spec import Conditioning, DiffusionSpec, DiTSpec
from soundctm_training.config import (
    CodecConfig,
    DecoderTraining,
    TeacherTraining,
    TextTraining,
    TrainingConfig,
)
from soundctm_training.dataset import Dataset, Pool, TextTable
from soundctm_training.distillation.settings import Distillation
from soundctm_training.lengths import LengthMix

LENGTHS = LengthMix(frames=(8, 16), shares=(0.5, 0.5), batch_frames=32, odd_share=0.5)
CONFIG = TrainingConfig(
    name="small",
    description="for tests",
    omega_default=3.0,
    codec=CodecConfig(channels=6, slow_dim=16, slow_blocks=1, fast_dim=16, fast_blocks=1, spread=0.2, fit_clips=4),
    decoder=DecoderTraining(
        batch=2, crop_frames=4, latent_noise=0.05, learning_rate=1e-3, windows=(512, 1024), ema=0.9
    ),
    network=DiTSpec(
        io_channels=6,
        embed_dim=64,
        depth=2,
        num_heads=2,
        cond_dim=16,
        context_dim=64,
        conditioning=Conditioning.ADAPTIVE_NORM,
        patch_frames=2,
        feed_forward_mult=2,
        qk_norm=True,
        pooled_text=True,
    ),
    diffusion=DiffusionSpec(),
    text=TextTraining(drop=0.1, token_noise=0.1, sentence_noise=0.1, token_drop=0.1),
    teacher=TeacherTraining(
        learning_rate=3e-3, warmup_steps=2, weight_decay=0.0, level_mean=-0.4, level_std=1.2, ema=0.9, lengths=LENGTHS
    ),
    distillation=Distillation(
        learning_rate=1e-3,
        warmup_steps=1,
        grid_points=8,
        solver_steps=(0.5, 0.5),
        top_t=0.3,
        end_s=0.3,
        next_s=0.2,
        omega_min=1.0,
        omega_max=4.0,
        target_ema=0.9,
        final_ema=0.9,
        feature_weight=1.0,
        latent_weight=1.0,
        denoising_weight=1.0,
        denoising_rows=0.5,
        lambda_max=10.0,
        last_layer="transformer.project_out.weight",
        lengths=LENGTHS,
    ),
)


def dataset(seed: int = 0) -> Dataset:
    """Latents of deviation 0.5 whose mean tells the caption; two captions beside the empty one."""
    generator = np.random.default_rng(seed)
    pools = {}
    for frames in LENGTHS.frames:
        captions = generator.integers(1, 3, size=12).astype(np.int32)
        latents = 0.3 * generator.standard_normal((12, 6, frames)) + 0.4 * (2.0 * captions[:, None, None] - 3.0)
        pools[frames] = Pool(latents.astype(np.float16), captions)
    tokens = torch.from_numpy(generator.standard_normal((3, 4, 16)).astype(np.float32))
    masks = torch.tensor([[True, True, False, False], [True] * 4, [True, True, True, False]])
    return Dataset(pools, TextTable(tokens, masks, ("", "low", "high")))
