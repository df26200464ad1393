"""Whole volumes, and measurements that are no pictures of the image: line integrals, spatial frequencies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pytest
import torch

from napari_fidelity import Image, restore
from napari_fidelity.core.blocks import planes
from napari_fidelity.core.errors import ImageError, OperatorError, OptionError, ShapeError
from napari_fidelity.core.options import Array  # noqa: TC001 - pydantic reads it
from napari_fidelity.core.scaling import fit_scaling
from napari_fidelity.core.step import Record, Result, Step
from napari_fidelity.methods import Apply, FineTune, Project
from napari_fidelity.operators import (
    Downsample,
    Fourier,
    GaussianBlur,
    GaussianNoise,
    Identity,
    Mask,
    Radon,
    sampling_mask,
)
from napari_fidelity.pipeline import Recipe, memory_needed, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import MakeNetwork, Scene

CALLS: list[dict[str, Any]] = []


class Solve(Project):
    """The least-norm solution, in one step; remembers what it was given."""

    reads_measurement: ClassVar[bool] = False
    start: Literal["measurement"] | Array = "measurement"

    def steps(self, y: torch.Tensor, operator: Any, model: Any = None, **given: Any) -> Iterator[Any]:
        CALLS.append({"y": y, "start": self.start, "model": model, **given})
        x = operator.A_dagger(y)
        step = Step(0, 1, 0.0, {}, lambda: x)
        reply = yield step
        return Result(x, (Record.of(step),), reply or "solved", 0.0)


@pytest.fixture(autouse=True)
def _forget() -> None:
    CALLS.clear()


def solve(image: Any, operator: Any, **settings: Any) -> Result[Image]:
    seen: list[Image] = []
    settings = {"method": Solve(), "device": "cpu", **settings}
    result = restore(image, operator=operator, on_step=lambda step: seen.append(step.estimate()), **settings)
    for part in seen:
        assert part.pixel_size == {axis: result.image.pixel_size[axis] for axis in part.pixel_size}
        assert set(part.axes) <= set(result.image.axes)
    return result


def simulated(image: Image, operator: Any, spatial: Any = "YX") -> Image:
    steps = simulate(image, operator, spatial)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


# -- volumes -----------------------------------------------------------------------------------------------------

VOLUMES = [
    ("ZYX", (4, 6, 8), "joint", (1, 1, 4, 6, 8), 1),
    ("TZYX", (2, 4, 6, 8), "joint", (1, 1, 4, 6, 8), 2),
    ("TZCYX", (2, 4, 3, 6, 8), "joint", (1, 3, 4, 6, 8), 2),
    ("TZCYX", (2, 4, 3, 6, 8), "each", (1, 1, 4, 6, 8), 6),
    ("ZYXS", (4, 6, 8, 3), "joint", (1, 3, 4, 6, 8), 1),
    ("XYZ", (8, 6, 4), "joint", (1, 1, 4, 6, 8), 1),
]


@pytest.mark.parametrize(("axes", "shape", "channels", "block", "count"), VOLUMES)
@pytest.mark.parametrize("scale", [1, (1, 2, 2), 2])
def test_volumes(
    axes: str, shape: tuple[int, ...], channels: Any, block: tuple[int, ...], count: int, scale: Any, scene: Scene
) -> None:
    data = (scene(*shape) * 3000 + 100).astype(np.uint16)
    image = Image(data, axes, {"Z": 2.0, "Y": 0.4, "X": 0.2}, "µm", {"Z": 5.0})
    operator = Downsample(scale=scale) if scale != 1 else Identity()
    result = solve(image, operator, spatial="ZYX", channels=channels)
    assert [tuple(call["y"].shape) for call in CALLS] == [block] * count
    factors = dict(zip("ZYX", scale if isinstance(scale, tuple) else (scale,) * 3, strict=True))
    assert result.image.sizes == {axis: n * factors.get(axis, 1) for axis, n in image.sizes.items()}
    for axis in "ZYX":
        assert result.image.pixel_size[axis] == pytest.approx(image.pixel_size[axis] / factors[axis])
        shift = image.pixel_size[axis] * (1 / factors[axis] - 1) / 2
        assert result.image.origin[axis] == pytest.approx(image.origin[axis] + shift)
    again = simulated(result.image, operator, "ZYX")
    assert (again.axes, again.pixel_size) == (axes, pytest.approx(dict(image.pixel_size)))
    np.testing.assert_allclose(again.data, data, atol=2)
    assert result.provenance["recipe"]["spatial"] == "ZYX"


def test_a_volume_is_blurred_along_its_depth(scene: Scene) -> None:
    data = np.zeros((9, 9, 9), np.float32)
    data[4, 4, 4] = 1
    flat, deep = (simulated(Image(data, "ZYX"), GaussianBlur(sigma=1), spatial) for spatial in ("YX", "ZYX"))
    assert flat.data[3].max() == 0
    assert deep.data[3].max() == pytest.approx(deep.data[4, 3].max(), rel=1e-5)


def test_a_stopped_series_of_volumes(scene: Scene) -> None:
    image = Image(scene(3, 2, 6, 8), "TZYX")
    result = restore(
        image, operator=Identity(), method=Solve(), spatial="ZYX", device="cpu", scaling="none",
        on_step=lambda step: "enough" if step.block == 1 else None,
    )  # fmt: skip
    assert "2 of 3 volumes are done" in result.stop_reason
    assert np.isnan(result.image.data[2]).all()


def test_what_a_3d_mask_hides_is_unobserved(scene: Scene) -> None:
    y = scene(3, 6, 8)
    seen = np.ones_like(y)
    seen[1, 2:4, 3:5] = 0
    hidden = np.where(seen == 0, np.nan, y)
    for axes in ("ZYX", "YXZ"):
        order = ["ZYX".index(axis) for axis in axes]
        solve(Image(hidden.transpose(order), axes), Mask(mask=seen), spatial="ZYX")
        assert np.array_equal(CALLS[-1]["weights"][0, 0].numpy(), seen)
        assert torch.isfinite(CALLS[-1]["y"]).all()


@pytest.mark.parametrize(
    ("settings", "axes", "error", "message"),
    [
        ({"method": FineTune()}, "ZYX", OptionError, "FineTune works slice by slice.*Set spatial to YX"),
        ({}, "TYX", ImageError, "no depth"),
        ({"operator": Radon(angles=3)}, "ZYX", OptionError, "Radon does not work on volumes in 3-D.*YX"),
        ({"scope": "slice"}, "ZYX", OptionError, "one by one"),
        ({"method": Apply()}, "ZYX", ShapeError, r"needs a tensor \(N, C, H, W\)"),
    ],
)
def test_volumes_refused(
    settings: dict[str, Any], axes: str, error: type[Exception], message: str, network: MakeNetwork, scene: Scene
) -> None:
    method = settings.get("method")
    model = network(scale=1) if method else None
    settings = {"operator": Identity(), "method": Solve(), "model": model, **settings}
    image = Image(scene(3, 8, 8), axes)
    with pytest.raises(error, match=message):
        restore(image, spatial="ZYX", device="cpu", **settings)
    if error is not ShapeError and "scope" not in settings:
        recipe = Recipe(operator=settings["operator"], method=settings["method"], spatial="ZYX")
        with pytest.raises(error, match=message):
            memory_needed(recipe, image, "cpu", network=model)


def test_memory_of_a_volume() -> None:
    image = Image(np.broadcast_to(np.zeros((), np.uint8), (2, 4, 3, 60, 80)), "TZCYX")
    flat, deep = (
        memory_needed(Recipe(operator=Downsample(scale=2), method=Project(), spatial=spatial), image, "cpu")
        for spatial in ("YX", "ZYX")
    )
    assert flat.image == 4 * 2 * 4 * 3 * 120 * 160
    assert deep.image == 2 * flat.image


# -- what shares no grid with the image --------------------------------------------------------------------------


def disc(size: int, value: float) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    return (value * (np.hypot(rows, columns) < size / 3)).astype(np.float32)


@pytest.mark.parametrize("scaling", ["auto", "percentile", "minmax", "none"])
def test_tomography(scaling: Any) -> None:
    truth = Image(np.stack([disc(16, 3000), disc(16, 500)]), "ZYX", {"Z": 4, "Y": 0.5, "X": 0.5}, "mm")
    operator = Radon(angles=40, size=16, detectors=24)
    sinogram = simulated(truth, operator)
    assert (sinogram.sizes, sinogram.pixel_size) == ({"Z": 2, "Y": 40, "X": 24}, {"Z": 4, "Y": 0.5, "X": 0.5})
    result = solve(sinogram, operator, scaling=scaling, noise=GaussianNoise(sigma=10))
    assert (result.image.sizes, result.image.pixel_size) == (truth.sizes, truth.pixel_size)
    np.testing.assert_allclose(result.image.data, truth.data, atol=150)
    gain = float(sinogram.data[0].max() / CALLS[0]["y"].max())
    assert CALLS[0]["noise"].sigma == pytest.approx(10 / gain, rel=1e-5)
    # no offset: what was zero stays zero
    assert float(CALLS[0]["y"].min()) == 0
    if scaling == "none":
        assert gain == pytest.approx(1)
    else:
        assert 0.6 < 3000 / gain <= 1


@pytest.mark.parametrize("unit", [1e-25, 1e25])
def test_tomography_in_any_unit(unit: float) -> None:
    operator = Radon(angles=12)
    sinogram = simulated(Image(disc(16, 3000), "YX"), operator)
    solve(sinogram, operator)
    solve(sinogram.replace(data=sinogram.data.astype(np.float64) * unit), operator)
    np.testing.assert_allclose(CALLS[1]["y"], CALLS[0]["y"], rtol=1e-3)


def test_tomography_scaled_slice_by_slice() -> None:
    truth = Image(np.stack([disc(16, 3000), disc(16, 500), disc(16, 0)]), "ZYX")
    sinogram = simulated(truth, Radon(angles=12))
    result = solve(sinogram, Radon(angles=12), scope="slice")
    bright, dim, dark = (float(call["y"].max()) for call in CALLS)
    assert bright == pytest.approx(dim, rel=1e-4)
    assert dark == 0
    assert not result.image.data[2].any()


def test_a_channel_each(scene: Scene) -> None:
    truth = Image(np.stack([disc(16, 3000), disc(16, 500)]), "CYX")
    sinogram = simulated(truth, Radon(angles=12))
    assert sinogram.axes == "CYX"
    for channels, shapes in (("joint", [(1, 2, 12, 16)]), ("each", [(1, 1, 12, 16)] * 2)):
        CALLS.clear()
        result = solve(sinogram, Radon(angles=12), channels=channels)
        assert [tuple(call["y"].shape) for call in CALLS] == shapes
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
    axes: str, shape: tuple[int, ...], coils: Any, image: Any, measured: str, scene: Scene
) -> None:
    operator = Fourier(mask=np.ones((8, 8)), coils=coils, image=image)
    truth = Image(scene(*shape) * 700, axes, {"Y": 0.5, "X": 0.25}, "mm")
    y = simulated(truth, operator)
    assert y.axes == measured
    assert y.sizes["C"] == (2 if coils is None else 4)
    needed = memory_needed(Recipe(operator=operator, method=Project()), y, "cpu")
    result = solve(y, operator)
    # what has one channel needs no axis for it
    assert result.image.axes == axes
    assert result.image.pixel_size == {axis: 1 if axis == "Z" else 0.25 for axis in axes if axis in "ZYX"}
    np.testing.assert_allclose(result.image.data, truth.data, rtol=1e-3, atol=1)
    assert needed.image == 4 * result.image.data.size


def test_brightness_of_subsampled_frequencies(scene: Scene) -> None:
    truth = Image(scene(32, 32) * 50_000, "YX")
    operator = Fourier(mask=sampling_mask((32,), 4), image="real")
    solve(simulated(truth, operator), operator)
    assert 0.6 < float(operator.A_dagger(CALLS[0]["y"]).max()) <= 1


@pytest.mark.parametrize("axes", ["YX", "YXS"])
def test_an_odd_number_of_channels_is_refused(axes: str, scene: Scene) -> None:
    image = Image(scene(*{"YX": (8, 8), "YXS": (8, 8, 3)}[axes]), axes)
    with pytest.raises(OperatorError, match="groups of 2"):
        solve(image, Fourier(mask=np.ones(8)))


# -- the image to start from -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axes", "shape", "settings", "start"),
    [
        ("ZYX", (3, 6, 8), {}, (3, 12, 16)),
        ("ZYX", (3, 6, 8), {}, (12, 16)),
        ("ZYX", (3, 6, 8), {"spatial": "ZYX"}, (6, 12, 16)),
        ("YXS", (6, 8, 3), {}, (12, 16, 3)),
        ("YXS", (6, 8, 3), {}, (1, 12, 16)),
        ("TCYX", (2, 3, 6, 8), {"channels": "each", "scope": "volume", "scaling": "minmax"}, (2, 3, 12, 16)),
        ("TCYX", (2, 3, 6, 8), {}, (3, 12, 16)),
    ],
)
def test_start(
    axes: str, shape: tuple[int, ...], settings: dict[str, Any], start: tuple[int, ...], scene: Scene
) -> None:
    data = (scene(*shape) * 3000 + 100).astype(np.float32)
    x = (scene(*start) * 3000 + 100).astype(np.float32)
    image = Image(data, axes)
    solve(image, Downsample(scale=2), method=Solve(start=x), **settings)
    spatial, channels = settings.get("spatial", "YX"), settings.get("channels", "joint")
    mode, scope = settings.get("scaling", "auto"), settings.get("scope", "series")
    scaling = fit_scaling(image, mode, scope, channels=channels)
    whole = len(start) == len(shape) and start[0] > 1
    parts = planes(Image(x, axes), spatial, channels) if whole else [x] * len(CALLS)
    for call, block, part in zip(CALLS, planes(image, spatial, channels), parts, strict=True):
        own = scaling.at(block.index)
        expected = own.apply(getattr(part, "data", part) if whole else part)
        np.testing.assert_allclose(np.asarray(call["start"], np.float64), expected, atol=1e-6)


def test_start_of_another_shape(scene: Scene) -> None:
    with pytest.raises(ShapeError, match=r"shape of the result, \(2, 12, 16\) \(ZYX\).*found: \(12, 17\)"):
        solve(Image(scene(2, 6, 8), "ZYX"), Downsample(scale=2), method=Solve(start=np.zeros((12, 17))))


# -- networks of methods that do not show them the measurement ---------------------------------------------------


class OwnModel(Solve):
    def default_model(self) -> str:
        return "edsr-s-x1"


def test_a_network_that_nobody_looks_at_is_refused(network: MakeNetwork, scene: Scene) -> None:
    for model in (network(scale=1), "edsr-s-x1"):
        with pytest.raises(OptionError, match=r"Solve takes no network.*Leave the model out"):
            solve(scene(8, 8), Identity(), model=model)


def test_a_method_brings_its_own_model(network: MakeNetwork, scene: Scene) -> None:
    result = solve(scene(5, 8, 8), Identity(), method=OwnModel())
    assert result.provenance["recipe"]["model"]["name"] == "edsr-s-x1"
    assert len(result.provenance["recipe"]["model"]["sha256"]) == 64
    assert CALLS[0]["model"].info.id == "edsr-s-x1"
    given = network(scale=1)
    # neither folded nor adapted: the denoiser does that
    solve(Image(scene(5, 8, 8), "CYX"), Identity(), method=OwnModel(), model=given)
    assert CALLS[-1]["model"] is given
    assert CALLS[-1]["y"].shape == (1, 5, 8, 8)
