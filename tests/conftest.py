"""What several test folders share: a smooth scene, small networks, and a measurement of the one for the other."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

# The tensors here are tiny: several threads only wait for each other, minutes long on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests that run in several processes (pytest-xdist) do not write each other's napari settings.
if "PYTEST_XDIST_WORKER" in os.environ and "NAPARI_CONFIG" in os.environ:
    settings = Path(os.environ["NAPARI_CONFIG"])
    os.environ["NAPARI_CONFIG"] = str(settings.parent / os.environ["PYTEST_XDIST_WORKER"] / settings.name)

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from napari_fidelity.core.registry import OWN_ARCHITECTURES, OWN_MODELS, OWN_OPERATORS
from napari_fidelity.io import save_model
from napari_fidelity.networks.edsr import EDSR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Scene = Callable[..., NDArray[np.float32]]
    MakeNetwork = Callable[..., EDSR]
    MakeVideo = Callable[..., "Window"]


class Window(torch.nn.Module):
    """A small ×2 network for video: the batch is time, and each frame is made of those around it, mirrored."""

    scale = 2

    def __init__(self, frames: int = 5, n_channels: int = 1) -> None:
        super().__init__()
        self.frames, self.n_channels = frames, n_channels
        self.first_layer = torch.nn.Conv2d(frames * n_channels, frames * n_channels, 3, padding=1)
        self.last_layer = torch.nn.Conv2d(frames * n_channels, n_channels, 3, padding=1)
        middle = torch.zeros_like(self.last_layer.weight)
        for channel in range(n_channels):
            middle[channel, frames // 2 * n_channels + channel, 1, 1] = 1
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            torch.nn.init.dirac_(self.first_layer.weight)
            self.last_layer.weight.copy_(middle + 0.02 * torch.randn(middle.shape, generator=generator))
            self.first_layer.bias.zero_()
            self.last_layer.bias.zero_()
        self.eval()

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        beside = range(-(self.frames // 2), self.frames // 2 + 1)
        last = max(len(y) - 1, 1)
        windows = [[(last - abs((t + d) % (2 * last) - last)) % len(y) for d in beside] for t in range(len(y))]
        stacked = torch.stack([y[window].flatten(0, 1) for window in windows])
        features = torch.nn.functional.interpolate(self.first_layer(stacked), scale_factor=2, mode="bilinear")
        return self.last_layer(features)


def make_scene(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).random(shape)
    smooth = gaussian_filter(noise, [0] * (len(shape) - 2) + [1.5, 1.5])
    low, high = smooth.min(), smooth.max()
    return ((smooth - low) / (high - low) * 0.8 + 0.1).astype(np.float32)


def make_network(n_channels: int = 1, scale: int = 2, n_feats: int = 8, n_blocks: int = 1) -> EDSR:
    network = EDSR(n_channels=n_channels, n_feats=n_feats, n_blocks=n_blocks, scale=scale)
    return network.start_as_interpolation(torch.Generator().manual_seed(0)).eval()


@pytest.fixture(scope="session")
def scene() -> Scene:
    """Smooth random images in [0.1, 0.9], float32: ``scene(24, 24)``."""
    return make_scene


@pytest.fixture(scope="session")
def network() -> MakeNetwork:
    """Small EDSRs that begin as interpolation: ``network(n_channels=1, scale=2)``."""
    return make_network


@pytest.fixture(autouse=True)
def registrations_end() -> Iterator[None]:
    """What a test registers is gone afterwards, and what was registered before is there again."""
    registries = (OWN_ARCHITECTURES, OWN_MODELS, OWN_OPERATORS)
    before = [registry.all() for registry in registries]
    yield
    for registry, things in zip(registries, before, strict=True):
        if registry.all() != things:
            registry.clear()
            for name, thing in things.items():
                registry.add(name, thing)


@pytest.fixture(autouse=True)
def _logging_ends() -> Iterator[None]:
    """A command sets how much is logged: what a test runs does not silence the next one."""
    logger = logging.getLogger("napari_fidelity")
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


@pytest.fixture
def nothing_registered(registrations_end: None) -> None:
    """A process in which nothing was registered."""
    for registry in (OWN_ARCHITECTURES, OWN_MODELS, OWN_OPERATORS):
        registry.clear()


@pytest.fixture(scope="session")
def video() -> MakeVideo:
    """Small networks for video: ``video(frames=5, n_channels=1)``."""
    return Window


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of a small gray ×2 network."""
    path: Path = tmp_path_factory.mktemp("model") / "small-x2.safetensors"
    save_model(make_network(), path, licence="CC0")
    return path
