"""The models that come with the package: small, described, and better than interpolation."""

from __future__ import annotations

import math
from importlib.resources import files

import numpy as np
import pytest
import torch

from napari_fidelity.core.step import drain
from napari_fidelity.denoisers import NetworkDenoiser
from napari_fidelity.io.models import list_models, load_model
from napari_fidelity.methods import FineTune
from napari_fidelity.networks.adapters import for_gray
from napari_fidelity.operators import Downsample, GaussianNoise, Identity, resize
from napari_fidelity.training import Motion, validation_images

IDS = {"edsr-s-x4": 4, "edsr-s-x2": 2, "edsr-s-x1": 1, "drunet-s": 1, "vsr-s": 4}
BYTES = {"edsr": 3_000_000, "drunet": 7_000_000, "vsr": 1_200_000}


def test_they_are_there() -> None:
    assert IDS.keys() <= {info.id for info in list_models()}


@pytest.mark.parametrize("name", IDS)
def test_small_and_described(name: str) -> None:
    folder = files("napari_fidelity") / "bundled"
    assert len((folder / f"{name}.safetensors").read_bytes()) <= BYTES[name.split("-")[0]]
    card = (folder / f"{name}.md").read_text(encoding="utf-8")
    assert card.startswith(f"# {name}\n")
    assert "not measured" not in card
    info = load_model(name).info
    assert (info.id, info.scale, info.n_channels, info.licence) == (name, IDS[name], 3, "BSD-3-Clause")
    assert info.card["operator"] == Downsample(scale=IDS[name]).to_plain()


@pytest.mark.parametrize(
    ("name", "scale", "gain"),
    [
        ("edsr-s-x4", None, 1.0),
        ("edsr-s-x2", None, 1.5),
        ("vsr-s", None, 0.8),
        ("vsr-s", 3, 0.8),
        ("vsr-s", 2, 1.0),
    ],
)
def test_better_than_bicubic_on_what_training_never_saw(name: str, scale: int | None, gain: float) -> None:
    model = load_model(name, scale=scale)
    scale = model.scale
    side = 256 // scale * scale
    x = torch.from_numpy(validation_images()[0])[None, :, :side, :side]
    y = Downsample(scale=scale).A(x)
    with torch.no_grad():
        network = model(y)
    assert psnr(network, x) > psnr(resize(y, x.shape[2:]), x) + gain


def test_the_video_network_gains_by_small_motion() -> None:
    model, operator = load_model("vsr-s"), Downsample(scale=4)
    x = torch.from_numpy(validation_images()[0])[None, :, 40:168, 40:168]
    motion = Motion(shift=1, turn=0.3, zoom=0, still=0)
    clip = operator.A(motion.clips(x, 5, np.random.default_rng(0))[0])
    with torch.no_grad():
        alone, within = model(clip[2:3]), model(clip)[2:3]
    seen = (..., slice(12, -12), slice(12, -12))  # in every frame
    assert psnr(within[seen], x[seen]) > psnr(alone[seen], x[seen])


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("level", [5, 15])
def test_the_denoiser_is_not_taught_the_noise(level: int, gray: bool) -> None:
    x = torch.from_numpy(validation_images()[0])[None, :, 100:196, 60:156]
    x = x.mean(1, keepdim=True) if gray else x
    sigma = level / 255
    y = x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    network, operator = load_model("edsr-s-x1"), Identity()
    network = for_gray(network) if gray else network
    with torch.no_grad():
        alone = psnr(network(y), x)
    assert alone > psnr(y, x) + 3
    tuned = drain(FineTune().steps(y, operator, network, noise=GaussianNoise(sigma=sigma)))
    assert psnr(tuned.image, x) > alone


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("level", [5, 25, 50])
def test_the_denoiser_of_reconstructions_goes_by_the_level_it_is_told(level: int, gray: bool) -> None:
    x = torch.from_numpy(validation_images()[0])[None, :, 100:196, 60:156]
    x = x.mean(1, keepdim=True) if gray else x
    sigma = level / 255
    y = x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    network = load_model("drunet-s")
    told, half, twice = (psnr(NetworkDenoiser().denoise(y, s * sigma, network), x) for s in (1, 0.5, 2))
    assert told > psnr(y, x) + 3
    assert told > max(half, twice)


def psnr(output: torch.Tensor, target: torch.Tensor) -> float:
    return -10 * math.log10(float((output.clamp(0, 1) - target)[..., 4:-4, 4:-4].square().mean()))
