"""From the official training options, as a golden folder names them, to our settings.

An option whose value this version does not know is a ValueError, and so a problem of the folder's check.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parity.golden import Golden
from soundctm_training.distillation.settings import (
    DenoisingScale,
    DenoisingTarget,
    Distance,
    Distillation,
    MatchPoint,
    huber_constant,
    official_settings,
)
from soundctm_training.lengths import LengthMix

_NO_LENGTHS = LengthMix((), (), 0, 0.0)  # a golden case brings its batch
_KNOWN: dict[str, dict[Any, Any]] = {
    "loss_type": {
        "feature_space": Distance.TEACHER, "l2": Distance.L2, "l1": Distance.L1, "ictm": Distance.PSEUDO_HUBER,
    },
    "match_point": {"zs": MatchPoint.S, "z0": MatchPoint.ZERO},
    "dsm_loss_target": {"z_0": DenoisingTarget.Z_0, "z_target": DenoisingTarget.Z_TARGET},
    "diffusion_weight_schedule": {"karras_weight": DenoisingScale.EDM, "uniform": DenoisingScale.NONE},
    "apply_adaptive_weight": {True: True, False: False},
    "diffusion_training": {True: True, False: False},
    # with one reading each
    "inner_parametrization": {"edm": None},
    "parametrization": {"euler": None},
    "time_continuous": {False: None},
    "weight_schedule": {"uniform": None},
    "schedule_sampler": {"uniform": None},
    "diffusion_schedule_sampler": {"halflognormal": None},
    "sample_s_strategy": {"uniform": None},
    "unform_sampled_cfg_distill": {True: None},
    "cfg_single_distill": {False: None},
    "tango_data_augment": {False: None},
    "diffusion_model_type": {"dit": None},
}  # fmt: skip
# used by name below and in training.py, or without a part in a step whose draws are given (`unet_mode` has no effect
# on a DiT, the number of solver steps and the captions are the case's)
_PLAIN = {
    "start_scales", "end_scales", "sigma_data", "sigma_min", "sigma_max", "rho", "num_heun_step",
    "num_heun_step_random", "heun_step_strategy", "heun_step_multiplier", "unet_mode", "diffusion_mult",
    "single_target_cfg", "w_min", "w_max", "w_range", "consistency_weight", "denoising_weight",
    "text_audio_pair_dataset", "augment_num", "sampling_rate", "latent_channels", "latent_f_size", "latent_t_size",
}  # fmt: skip
OPTIONS = _PLAIN | _KNOWN.keys()


def reading(golden: Golden, key: str, *own: Mapping[str, Any]) -> Any:
    """What the option's value means to us. Raises KeyError for an absent option, ValueError for an unknown value."""
    value, known = golden.setting(key, *own), _KNOWN[key]
    if value not in known:
        raise ValueError(f"{key} {value!r}; known: {', '.join(map(repr, known))}")
    return known[value]


def settings_of(golden: Golden, *own: Mapping[str, Any]) -> Distillation:
    """The official settings with a case's options. `own`: its metas, the first one outranking the others."""
    for key, known in _KNOWN.items():
        if set(known.values()) != {None} or any(key in source for source in golden.sources(*own)):
            reading(golden, key, *own)
    size = [int(golden.setting(f"latent_{axis}", *own)) for axis in ("channels", "f_size", "t_size")]
    low, high = omega_range(golden, *own)
    return official_settings(
        _NO_LENGTHS,
        grid_points=int(golden.setting("start_scales", *own)),
        omega_min=low,
        omega_max=high,
        distance=reading(golden, "loss_type", *own),
        match_point=reading(golden, "match_point", *own),
        huber_c=huber_constant(size[0] * size[1] * size[2]),
        consistency_weight=float(golden.setting("consistency_weight", *own)),
        denoising_weight=float(golden.setting("denoising_weight", *own)),
        denoising_high_share=float(golden.setting("diffusion_mult", *own)),
        denoising_target=reading(golden, "dsm_loss_target", *own),
        denoising_scale=reading(golden, "diffusion_weight_schedule", *own),
        adaptive_lambda=reading(golden, "apply_adaptive_weight", *own),
    )


def omega_range(golden: Golden, *own: Mapping[str, Any]) -> tuple[float, float]:
    """From the first source that has `w_min` and `w_max`, or both as `w_range`. Raises KeyError."""
    for source in golden.sources(*own):
        if "w_min" in source and "w_max" in source:
            return float(source["w_min"]), float(source["w_max"])
        if "w_range" in source:
            low, high = source["w_range"]
            return float(low), float(high)
    raise KeyError("neither w_min and w_max nor w_range in the case's meta, settings, train_args_base")
