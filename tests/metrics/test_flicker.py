"""Flicker of time series whose noise and motion are known."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.ndimage import shift

from napari_fidelity.core.errors import NonFiniteError, ShapeError
from napari_fidelity.metrics import flicker
from napari_fidelity.metrics.flicker import course, enlarged, flicker_beside, static_region

if TYPE_CHECKING:
    from conftest import Scene

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("frames", [2, 3, 12])
@pytest.mark.parametrize("sigma", [0.02, 5.0])
def test_of_a_static_scene_it_is_the_noise(frames: int, sigma: float, scene: Scene) -> None:
    series = 100 * scene(96, 96) + np.random.default_rng(1).normal(0, sigma, (frames, 96, 96))
    found = flicker(series)
    assert found.value == pytest.approx(sigma, rel=0.02)
    assert found.static > 0.98
    assert math.isnan(found.relative)


def test_a_brighter_scene_has_more_photon_noise_and_is_static_all_the_same() -> None:
    brightness = np.linspace(5, 200, 96)[None] * np.ones((96, 1))
    photons = np.random.default_rng(2).poisson(brightness, (10, 96, 96))
    found = flicker(photons)
    assert found.static > 0.98
    assert found.value == pytest.approx(math.sqrt(brightness.mean()), rel=0.03)


def test_what_moves_is_left_out(scene: Scene) -> None:
    still = 100 * scene(96, 96)
    true = np.repeat(still[None], 8, axis=0)
    for t in range(8):
        true[t, 30:50, 5 + 8 * t : 25 + 8 * t] = 160
    moving = np.ptp(true, axis=0) > 0
    measured = true + RNG.normal(0, 2, true.shape)
    static = static_region(course(measured))
    assert (static & moving).sum() < 0.02 * moving.sum()
    assert (static & ~moving).sum() > 0.95 * (~moving).sum()
    assert flicker(measured).value == pytest.approx(2, rel=0.03)
    assert flicker(measured, true).value == pytest.approx(2, rel=0.03)  # the truth says where it moves as well


def test_where_everything_moves_little_is_static(scene: Scene) -> None:
    still = 100 * scene(96, 96)
    moved = np.stack([shift(still, (3 * t, 2 * t), mode="grid-wrap") for t in range(8)])
    found = flicker(moved + RNG.normal(0, 0.5, moved.shape))
    assert math.isnan(found.value) or found.value < 0.1 * moved.std()
    assert found.static < 0.05


def test_it_is_set_beside_that_of_the_measurement_on_the_same_grid(scene: Scene) -> None:
    small = 100 * scene(48, 40) + RNG.normal(0, 3, (10, 48, 40))
    large = np.stack([enlarged(frame, (96, 80)) for frame in small])
    same = flicker(large, small)
    assert same.relative == pytest.approx(1)
    assert same.value < 3  # interpolation averages noise
    steady = flicker(large.mean(axis=0) + 0.5 * (large - large.mean(axis=0)), small)
    assert steady.relative == pytest.approx(0.5)
    assert steady.value == pytest.approx(same.value / 2)


def test_the_truth_says_what_moves_before_the_measurement_and_that_before_the_series(scene: Scene) -> None:
    still = np.repeat(100 * scene(48, 48)[None], 6, axis=0)
    moving = {name: still + RNG.normal(0, 1, still.shape) for name in ("restored", "measured", "true")}
    for rows, frames in zip((slice(0, 12), slice(12, 24), slice(24, 36)), moving.values(), strict=True):
        frames[:, rows] += 30 * np.arange(6)[:, None, None]  # each says that another part moves
    restored, measured, true = (partial(iter, frames) for frames in moving.values())
    for guide, beside in (("true", (true, measured)), ("measured", (None, measured)), ("restored", (None, None))):
        static = static_region(course(moving[guide]))
        found = flicker_beside(restored, *beside)
        assert found.value == flicker(moving["restored"], static=static).value
        assert math.isnan(found.relative) == (beside[1] is None)
    assert flicker_beside(restored, true, None).value > 10 > flicker_beside(restored, None, None).value


def test_a_whole_frame_that_flickers_is_found(scene: Scene) -> None:
    steps = np.array([0, 4, 0, 4, 0, 4])[:, None, None]
    true = np.repeat(100 * scene(64, 64)[None], 6, axis=0)
    assert flicker(true + steps, true).value == pytest.approx(np.std(steps, ddof=1))
    assert flicker(true, true).value == 0


def test_colour_counts_as_the_mean_of_its_channels() -> None:
    noise = np.random.default_rng(3).normal(0, [1, 2, 3], (20, 64, 64, 3))
    assert flicker(50 + noise).value == pytest.approx(math.sqrt((1 + 4 + 9) / 3), rel=0.03)


def test_a_region_can_be_given(scene: Scene) -> None:
    series = np.repeat(scene(32, 32)[None], 4, axis=0)
    series[:, :16] += RNG.normal(0, 1, (4, 16, 32)).astype(np.float32)
    below = np.repeat([[False], [True]], 2, axis=1)
    assert flicker(series, static=below).value == pytest.approx(0, abs=1e-6)
    assert flicker(series, static=~below).value == pytest.approx(1, rel=0.05)


def test_what_cannot_be_is_refused(scene: Scene) -> None:
    with pytest.raises(ShapeError, match="two frames or more"):
        flicker(scene(1, 8, 8))
    with pytest.raises(ShapeError, match="as many frames"):
        flicker(scene(3, 8, 8), scene(2, 8, 8))
    with pytest.raises(NonFiniteError, match="2 others"):
        flicker(np.array([[[1, 2]], [[np.nan, np.inf]]]))
    with pytest.raises(ShapeError, match="of one shape"):
        course([np.zeros((2, 2)), np.zeros((2, 3))])
