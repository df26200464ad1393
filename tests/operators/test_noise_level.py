from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_fidelity.core.errors import ImageError
from napari_fidelity.operators import (
    GaussianNoise,
    PoissonGaussianNoise,
    PoissonNoise,
    estimate_noise,
)  # fmt: skip
from napari_fidelity.training.synthetic import cells, dead_leaves, filaments, gratings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Scene = NDArray[np.float64]

N = 256


def smooth() -> Scene:
    return gaussian_filter(np.random.default_rng(0).random((N, N)), 6)


def oversampled() -> Scene:
    """Texture everywhere, as fine as a point-spread function of σ = 1.5 px lets through."""
    return gaussian_filter(np.random.default_rng(1).random((N, N)), 1.5)


def ramp() -> Scene:
    return np.linspace(0, 1, N)[None, :].repeat(N, axis=0)


SCENES = {
    "smooth": smooth,
    "oversampled": oversampled,
    "ramp": ramp,
    "gratings": lambda: gratings(np.random.default_rng(0), (N, N), 1)[0],
    "filaments": lambda: filaments(np.random.default_rng(0), (N, N), 1)[0],
    "cells": lambda: cells(np.random.default_rng(0), (N, N), 1)[0],
    "leaves": lambda: dead_leaves(np.random.default_rng(0), (N, N), 1)[0],
}


@cache
def normalised(name: str) -> Scene:
    image = np.asarray(SCENES[name](), np.float64)
    return (image - image.min()) / (image.max() - image.min())


@pytest.fixture(params=SCENES)
def scene(request: pytest.FixtureRequest) -> Scene:
    return normalised(request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("level", [0.01, 0.02, 0.05, 0.1, 0.2])
def test_gaussian_level(scene: Scene, level: float, rng: np.random.Generator) -> None:
    noise = estimate_noise(scene + level * rng.standard_normal(scene.shape))
    assert isinstance(noise, GaussianNoise)
    assert noise.sigma == pytest.approx(level, rel=0.05)


@pytest.mark.parametrize("photons", [20, 100])
def test_poisson_gain(scene: Scene, photons: float, rng: np.random.Generator) -> None:
    y = 2.5 * rng.poisson(photons * (0.05 + 0.95 * scene))
    noise = estimate_noise(y, "poisson")
    assert isinstance(noise, PoissonNoise)
    assert noise.gain == pytest.approx(2.5, rel=0.1)


@pytest.mark.parametrize("name", ["ramp", "cells", "leaves", "smooth"])
def test_camera(name: str, rng: np.random.Generator) -> None:
    image = normalised(name)
    y = 0.5 * rng.poisson(20 + 300 * image) + 100 + 2 * rng.standard_normal(image.shape)
    noise = estimate_noise(np.round(y).astype(np.uint16), "poisson_gaussian")
    assert isinstance(noise, PoissonGaussianNoise)
    assert noise.gain == pytest.approx(0.5, rel=0.1)
    # only this difference is in the data
    assert noise.sigma**2 - noise.gain * noise.offset == pytest.approx(2**2 - 0.5 * 100, rel=0.15)
    assert estimate_noise(y, "poisson").offset == pytest.approx(100 - 2**2 / 0.5, rel=0.1)


def test_read_noise_without_offset(rng: np.random.Generator) -> None:
    y = 2 * rng.poisson(20 + 100 * ramp()) + 30 * rng.standard_normal((N, N))
    noise = estimate_noise(y, "poisson_gaussian")
    assert (noise.offset, noise.gain) == (0, pytest.approx(2, rel=0.25))  # type: ignore[attr-defined]
    assert noise.sigma == pytest.approx(30, rel=0.05)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("dtype", "top"), [(np.uint8, 255), (np.uint16, 4095), (np.float32, 1.0), (np.int32, 1e6)]
)
def test_in_the_images_own_units(dtype: type, top: float, rng: np.random.Generator) -> None:
    y = top * (0.2 + 0.6 * smooth() / smooth().max() + 0.04 * rng.standard_normal((N, N)))
    rounded = y if dtype is np.float32 else np.round(y)
    assert estimate_noise(rounded.astype(dtype)).sigma == pytest.approx(0.04 * top, rel=0.05)  # type: ignore[attr-defined]


def test_saturated_pixels_are_left_out(rng: np.random.Generator) -> None:
    spots = np.zeros((N, N))
    spots[rng.integers(0, N, 60), rng.integers(0, N, 60)] = 1
    image = 30 + 100 * ramp() + 40000 * gaussian_filter(spots, 4)
    y = np.clip(np.round(image + 8 * rng.standard_normal(image.shape)), 0, 255)
    assert (y == 255).mean() > 0.05
    assert estimate_noise(y.astype(np.uint8)).sigma == pytest.approx(8, rel=0.05)  # type: ignore[attr-defined]


def test_a_clipped_background_is_left_out(rng: np.random.Generator) -> None:
    y = np.clip(np.where(ramp() < 0.4, 0.0, 0.6) + 0.05 * rng.standard_normal((N, N)), 0, 1)
    assert estimate_noise(y).sigma == pytest.approx(0.05, rel=0.05)  # type: ignore[attr-defined]


def test_missing_pixels_are_left_out(rng: np.random.Generator) -> None:
    y = ramp() + 0.05 * rng.standard_normal((N, N))
    y[:100] = np.nan
    assert estimate_noise(y).sigma == pytest.approx(0.05, rel=0.05)  # type: ignore[attr-defined]


def test_channels_are_pooled(rng: np.random.Generator) -> None:
    levels = np.array([3.0, 4.0, 5.0])
    y = 100 * ramp()[..., None] + levels * rng.standard_normal((N, N, 3))
    assert estimate_noise(y).sigma == pytest.approx(np.sqrt((levels**2).mean()), rel=0.03)  # type: ignore[attr-defined]
    y = 2 * rng.poisson(10 + 100 * ramp()[..., None] * [1, 0.5, 0.2])
    assert estimate_noise(y, "poisson").gain == pytest.approx(2, rel=0.05)  # type: ignore[attr-defined]


def test_a_large_image_takes_little_time_and_memory(rng: np.random.Generator) -> None:
    from time import perf_counter

    y = rng.poisson(50, (3000, 3000)).astype(np.uint16)
    started = perf_counter()
    noise = estimate_noise(y, "poisson")
    assert perf_counter() - started < 10  # 0.6 s on one core
    assert noise.gain == pytest.approx(1, rel=0.1)  # type: ignore[attr-defined]


def test_a_clean_image_has_no_noise() -> None:
    assert estimate_noise(ramp()).sigma < 1e-6  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("image", "kind", "said"),
    [
        (np.full((64, 64), 7), "gaussian", "flat"),
        (np.full((64, 64), np.nan), "gaussian", "flat"),
        (np.zeros((5, 300)), "gaussian", "too small.*5 × 300 px.*type the noise"),
        (np.random.default_rng(0).random((12, 12)), "poisson", "too small"),
        (np.zeros((0, 4)), "gaussian", "H, W"),
        (np.zeros(9), "gaussian", "H, W"),
        (np.zeros((9, 9), complex), "gaussian", "complex"),
        (np.random.default_rng(0).integers(0, 2, (64, 64)) * 255, "gaussian", "saturated or missing"),
        (500 + np.random.default_rng(0).normal(0, 9, (N, N)) + 300 * ramp(), "poisson", "Choose Gaussian"),
        (1e-3 * ramp() ** 0, "poisson_gaussian", "flat"),
    ],
)
def test_what_cannot_be_estimated(image: NDArray[np.float64], kind: str, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        estimate_noise(image, kind)  # type: ignore[arg-type]
