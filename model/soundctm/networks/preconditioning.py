"""EDM preconditioning and the jump G (Karras et al. 2022, table 1; SoundCTM eq. 6).

Shapes: z [B, C, T]; t, s, omega [B]. The network never sees s in its input scaling.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from soundctm.networks.dit import TextContext


class RawNetwork(Protocol):
    """F: scaled latent, log levels and conditions -> [B, C, T]."""

    def __call__(
        self, x: Tensor, c_noise_t: Tensor, c_noise_s: Tensor | None, omega: Tensor | None, context: TextContext
    ) -> Tensor: ...


def c_in(t: Tensor, sigma_data: float) -> Tensor:
    return (t**2 + sigma_data**2).rsqrt()


def c_skip(t: Tensor, sigma_data: float) -> Tensor:
    return sigma_data**2 / (t**2 + sigma_data**2)


def c_out(t: Tensor, sigma_data: float) -> Tensor:
    return t * sigma_data * (t**2 + sigma_data**2).rsqrt()


def c_noise(level: Tensor) -> Tensor:
    """What the network is told of a noise level: a quarter of its natural logarithm."""
    return level.log() / 4


def denoise(
    network: RawNetwork, z: Tensor, t: Tensor, s: Tensor | None, omega: Tensor | None, context: TextContext,
    sigma_data: float,
) -> Tensor:
    """g(z, t, s) = c_skip(t) z + c_out(t) F(c_in(t) z, t, s). Without s and omega: the teacher's denoiser D."""
    rows = (-1, 1, 1)
    raw = network(
        c_in(t, sigma_data).view(rows) * z, c_noise(t), None if s is None else c_noise(s), omega, context
    )
    return c_skip(t, sigma_data).view(rows) * z + c_out(t, sigma_data).view(rows) * raw


def jump(
    network: RawNetwork, z: Tensor, t: Tensor, s: Tensor, omega: Tensor, context: TextContext, sigma_data: float
) -> Tensor:
    """G(z, t, s) = s/t z + (1 - s/t) g(z, t, s): eq. 6. At s = t this is z, exactly."""
    ratio = (s / t).view(-1, 1, 1)
    return ratio * z + (1 - ratio) * denoise(network, z, t, s, omega, context, sigma_data)
