"""Measurements that are no pictures of the image: line integrals, spatial frequencies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_fidelity import Image
from napari_fidelity.core.errors import OperatorError
from napari_fidelity.core.step import drain
from napari_fidelity.methods import Project
from napari_fidelity.operators import (
    Fourier,
    GaussianNoise,
    Radon,
    sampling_mask,
)
from napari_fidelity.pipeline import Recipe, memory_needed, simulate

if TYPE_CHECKING:
    from conftest import Scene


def disc(size: int, value: float) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    return (value * (np.hypot(rows, columns) < size / 3)).astype(np.float32)


@pytest.mark.parametrize("scaling", ["auto", "percentile", "minmax", "none"])
def test_tomography(scaling: Any, solve: Any, solver: Any) -> None:
    truth = Image(np.stack([disc(16, 3000), disc(16, 500)]), "ZYX", {"Z": 4, "Y": 0.5, "X": 0.5}, "mm")
    operator = Radon(angles=40, size=16, detectors=24)
    sinogram = drain(simulate(truth, operator))
    assert (sinogram.sizes, sinogram.pixel_size) == ({"Z": 2, "Y": 40, "X": 24}, {"Z": 4, "Y": 0.5, "X": 0.5})
    result = solve(sinogram, operator, scaling=scaling, noise=GaussianNoise(sigma=10))
    assert (result.image.sizes, result.image.pixel_size) == (truth.sizes, truth.pixel_size)
    np.testing.assert_allclose(result.image.data, truth.data, atol=150)
    gain = float(sinogram.data[0].max() / solver.calls[0]["y"].max())
    assert solver.calls[0]["noise"].sigma == pytest.approx(10 / gain, rel=1e-5)
    # no offset: what was zero stays zero
    assert float(solver.calls[0]["y"].min()) == 0
    if scaling == "none":
        assert gain == pytest.approx(1)
    else:
        assert 0.6 < 3000 / gain <= 1


@pytest.mark.parametrize("unit", [1e-25, 1e25])
def test_tomography_in_any_unit(unit: float, solve: Any, solver: Any) -> None:
    operator = Radon(angles=12)
    sinogram = drain(simulate(Image(disc(16, 3000), "YX"), operator))
    solve(sinogram, operator)
    solve(sinogram.replace(data=sinogram.data.astype(np.float64) * unit), operator)
    np.testing.assert_allclose(solver.calls[1]["y"], solver.calls[0]["y"], rtol=1e-3)


def test_tomography_scaled_slice_by_slice(solve: Any, solver: Any) -> None:
    truth = Image(np.stack([disc(16, 3000), disc(16, 500), disc(16, 0)]), "ZYX")
    sinogram = drain(simulate(truth, Radon(angles=12)))
    result = solve(sinogram, Radon(angles=12), scope="slice")
    bright, dim, dark = (float(call["y"].max()) for call in solver.calls)
    assert bright == pytest.approx(dim, rel=1e-4)
    assert dark == 0
    assert not result.image.data[2].any()


def test_a_channel_each(scene: Scene, solve: Any, solver: Any) -> None:
    truth = Image(np.stack([disc(16, 3000), disc(16, 500)]), "CYX")
    sinogram = drain(simulate(truth, Radon(angles=12)))
    assert sinogram.axes == "CYX"
    for channels, shapes in (("joint", [(1, 2, 12, 16)]), ("each", [(1, 1, 12, 16)] * 2)):
        solver.calls.clear()
        result = solve(sinogram, Radon(angles=12), channels=channels)
        assert [tuple(call["y"].shape) for call in solver.calls] == shapes
        assert result.image.axes == "CYX"
        np.testing.assert_allclose(result.image.data.mean((1, 2)), truth.data.mean((1, 2)), rtol=0.05)


COILS = np.random.default_rng(0).normal(size=(2, 2, 8, 8)).astype(np.float32)


@pytest.mark.parametrize(
    ("axes", "shape", "coils", "image", "measured"),
    [
        ("YX", (8, 8), None, "real", "CYX"),
        ("TYX", (2, 8, 8), None, "real", "TCYX"),
        ("CYX", (2, 8, 8), None, "complex", "CYX"),
        ("ZYX", (3, 8, 8), COILS, "real", "ZCYX"),
        ("TCYX", (2, 2, 8, 8), COILS, "complex", "TCYX"),
    ],
)
def test_spatial_frequencies(
    axes: str, shape: tuple[int, ...], coils: Any, image: Any, measured: str, scene: Scene, solve: Any
) -> None:
    operator = Fourier(mask=np.ones((8, 8)), coils=coils, image=image)
    truth = Image(scene(*shape) * 700, axes, {"Y": 0.5, "X": 0.25}, "mm")
    y = drain(simulate(truth, operator))
    assert y.axes == measured
    assert y.sizes["C"] == (2 if coils is None else 4)
    needed = memory_needed(Recipe(operator=operator, method=Project()), y, "cpu")
    result = solve(y, operator)
    # what has one channel needs no axis for it
    assert result.image.axes == axes
    assert result.image.pixel_size == {axis: 1 if axis == "Z" else 0.25 for axis in axes if axis in "ZYX"}
    np.testing.assert_allclose(result.image.data, truth.data, rtol=1e-3, atol=1)
    assert needed.image == 4 * result.image.data.size


def test_brightness_of_subsampled_frequencies(scene: Scene, solve: Any, solver: Any) -> None:
    truth = Image(scene(32, 32) * 50_000, "YX")
    operator = Fourier(mask=sampling_mask((32,), 4), image="real")
    solve(drain(simulate(truth, operator)), operator)
    assert 0.6 < float(operator.A_dagger(solver.calls[0]["y"]).max()) <= 1


@pytest.mark.parametrize("axes", ["YX", "YXS"])
def test_an_odd_number_of_channels_is_refused(axes: str, scene: Scene, solve: Any) -> None:
    image = Image(scene(*{"YX": (8, 8), "YXS": (8, 8, 3)}[axes]), axes)
    with pytest.raises(OperatorError, match="groups of 2"):
        solve(image, Fourier(mask=np.ones(8)))
