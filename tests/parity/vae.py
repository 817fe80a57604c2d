"""The codec, from its three published forms: weight-normalised, plain, and the official checkpoint folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from parity import parts
from parity.golden import Golden, GoldenFile
from soundctm.checkpoints.pickles import read_pickle, tensors_of
from soundctm.codecs.dac import GaussianDAC

GROUP = "vae"


def check(golden: Golden) -> None:
    cases = golden.file("vae/cases")
    for codec in _codecs(golden, cases):
        if "hop" in cases.meta and codec.hop_samples != cases.meta["hop"]:
            raise ValueError(f"hop is {codec.hop_samples}, the folder says {cases.meta['hop']}")
        _check_encoder(codec, cases)
        _check_decoder(codec, cases)


def load(golden: Golden) -> GaussianDAC:
    """The codec of the official checkpoint folder, with its statistics."""
    ckpt = golden.folder / "vae" / "ckpt"
    saved = read_pickle(ckpt / "gaussiandac" / "weights.pth")
    stats = tensors_of(read_pickle(ckpt / "z_stats.pth"), "z_stats.pth")
    return parts.codec(saved["metadata"]["kwargs"], saved["state_dict"], stats)


def _codecs(golden: Golden, cases: GoldenFile) -> Iterator[GaussianDAC]:
    stats: Mapping[str, Tensor] = {name: cases.read(name) for name in ("z_mean", "z_std")}
    for name in ("weights_weightnorm", "weights_plain"):
        file = golden.file(f"vae/{name}")
        yield parts.codec(_kwargs(golden, file, cases), file.read_all(), stats)
    saved = load(golden)
    cases.compare(GROUP, "z_mean", saved.z_mean)
    cases.compare(GROUP, "z_std", saved.z_std)
    yield saved


def _kwargs(golden: Golden, *files: GoldenFile) -> Mapping[str, Any]:
    for file in files:
        if "kwargs" in file.meta:
            kwargs: Mapping[str, Any] = file.meta["kwargs"]
            return kwargs
    settings: Mapping[str, Any] = golden.settings["vae"]
    return settings


def _check_encoder(codec: GaussianDAC, cases: GoldenFile) -> None:
    waveform, noise = cases.read("waveform"), cases.read("posterior_noise")
    encoded = codec.encoder(codec.pad(waveform))
    posterior = codec.posterior(waveform)
    z = posterior.sample(noise)
    found = {
        "waveform_padded": codec.pad(waveform),
        "encoder_out": encoded,
        "moments": codec.pre_conv(encoded),
        "mean": posterior.mean,
        "logvar": posterior.logvar,
        "std": posterior.std,
        "kl_per_sample": posterior.kl(),
        "forward_kl_loss": posterior.kl().mean()[None],
        "z": z,
        "z_standardised": codec.encode(waveform, noise),
        "post_conv_out": codec.post_conv(z),
        "decoded": codec.decode_raw(z),
        "forward_audio_trimmed": codec.decode_raw(z)[..., : waveform.shape[-1]],
        "decoded_from_mean": codec.decode_raw(posterior.mean),
    }
    for name, value in found.items():
        cases.compare(GROUP, name, value)


def _check_decoder(codec: GaussianDAC, cases: GoldenFile) -> None:
    latent = cases.read("norm_latent")
    cases.compare(GROUP, "denorm_latent", codec.restore(latent))
    cases.compare(GROUP, "denorm_decoded", codec.decode(latent, None))
    cases.compare(GROUP, "decoded_len1", codec.decode_raw(cases.read("z_len1")))
