"""Channels with intensities of their own, and memory that would not do, in reconstructions."""

from __future__ import annotations

import numpy as np
import pytest

import napari_fidelity as nf
from napari_fidelity.core.device import limit_memory
from napari_fidelity.core.errors import MemoryNeededError
from napari_fidelity.denoisers import TV
from napari_fidelity.methods import DIP, RED, FineTune
from napari_fidelity.operators import Fourier, GaussianBlur, Identity
from napari_fidelity.pipeline import Recipe

TV_RED = RED(denoiser=TV())


def scene(size: int = 48) -> np.ndarray:
    i, j = np.mgrid[:size, :size] / size
    return (0.3 + 0.3 * (i > 0.5) + 0.2 * j).astype(np.float32)


def error(image: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(np.mean((image - truth) ** 2)) / np.ptp(truth))


def test_channels_of_other_brightness_are_reconstructed_each_on_its_own() -> None:
    rng, gains = np.random.default_rng(0), (1.0, 100.0)
    truth = np.stack([gain * scene() for gain in gains])
    noisy = truth + 0.08 * np.array(gains)[:, None, None] * rng.standard_normal(truth.shape)
    result = nf.reconstruct(nf.Image(noisy, "CYX"), operator=Identity(), method=TV_RED)
    for channel in range(2):
        assert error(result.image.data[channel], truth[channel]) < 0.5 * error(noisy[channel], truth[channel])


def test_what_auto_means() -> None:
    five, colour = nf.Image(np.zeros((5, 8, 8)), "CYX"), nf.Image(np.zeros((8, 8, 3)), "YXS")
    parts = nf.Image(np.zeros((2, 8, 8)), "CYX")
    blur = GaussianBlur(sigma=1.0)
    assert Recipe(operator=blur, method=TV_RED).channels_of(five) == "each"
    assert Recipe(operator=blur, method=TV_RED).channels_of(colour) == "joint"
    assert Recipe(operator=blur, method=TV_RED, channels="joint").channels_of(five) == "joint"
    assert Recipe(operator=blur, method=FineTune()).channels_of(five) == "joint"
    assert Recipe(operator=Fourier(mask=np.ones((8, 8))), method=TV_RED).channels_of(parts) == "joint"


def test_refused_before_it_begins() -> None:
    image = np.random.default_rng(0).random((256, 256))
    try:
        limit_memory(50_000_000)
        with pytest.raises(MemoryNeededError, match="256 × 256 pixels needs about"):
            nf.reconstruct(image, operator=Identity(), method=DIP())
    finally:
        limit_memory(None)
