"""Whole volumes: what a method is given of them, and where the result lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_fidelity import Image, restore
from napari_fidelity.core.errors import ImageError, OptionError, ShapeError
from napari_fidelity.core.step import drain
from napari_fidelity.methods import Apply, FineTune, Project
from napari_fidelity.operators import (
    Downsample,
    GaussianBlur,
    Identity,
    Mask,
    Radon,
)
from napari_fidelity.pipeline import Recipe, memory_needed, simulate

if TYPE_CHECKING:
    from conftest import MakeNetwork, Scene


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
    axes: str,
    shape: tuple[int, ...],
    channels: Any,
    block: tuple[int, ...],
    count: int,
    scale: Any,
    scene: Scene,
    solve: Any,
    solver: Any,
) -> None:
    data = (scene(*shape) * 3000 + 100).astype(np.uint16)
    image = Image(data, axes, {"Z": 2.0, "Y": 0.4, "X": 0.2}, "µm", {"Z": 5.0})
    operator = Downsample(scale=scale) if scale != 1 else Identity()
    result = solve(image, operator, spatial="ZYX", channels=channels)
    assert [tuple(call["y"].shape) for call in solver.calls] == [block] * count
    factors = dict(zip("ZYX", scale if isinstance(scale, tuple) else (scale,) * 3, strict=True))
    assert result.image.sizes == {axis: n * factors.get(axis, 1) for axis, n in image.sizes.items()}
    for axis in "ZYX":
        assert result.image.pixel_size[axis] == pytest.approx(image.pixel_size[axis] / factors[axis])
        shift = image.pixel_size[axis] * (1 / factors[axis] - 1) / 2
        assert result.image.origin[axis] == pytest.approx(image.origin[axis] + shift)
    again = drain(simulate(result.image, operator, "ZYX"))
    assert (again.axes, again.pixel_size) == (axes, pytest.approx(dict(image.pixel_size)))
    np.testing.assert_allclose(again.data, data, atol=2)
    assert result.provenance["recipe"]["spatial"] == "ZYX"


def test_a_volume_is_blurred_along_its_depth(scene: Scene) -> None:
    data = np.zeros((9, 9, 9), np.float32)
    data[4, 4, 4] = 1
    flat, deep = (drain(simulate(Image(data, "ZYX"), GaussianBlur(sigma=1), spatial)) for spatial in ("YX", "ZYX"))
    assert flat.data[3].max() == 0
    assert deep.data[3].max() == pytest.approx(deep.data[4, 3].max(), rel=1e-5)


def test_a_stopped_series_of_volumes(scene: Scene, solver: Any) -> None:
    image = Image(scene(3, 2, 6, 8), "TZYX")
    result = restore(
        image, operator=Identity(), method=solver(), spatial="ZYX", device="cpu", scaling="none",
        on_step=lambda step: "enough" if step.block == 1 else None,
    )  # fmt: skip
    assert "2 of 3 volumes are done" in result.stop_reason
    assert np.isnan(result.image.data[2]).all()


def test_what_a_3d_mask_hides_is_unobserved(scene: Scene, solve: Any, solver: Any) -> None:
    y = scene(3, 6, 8)
    seen = np.ones_like(y)
    seen[1, 2:4, 3:5] = 0
    hidden = np.where(seen == 0, np.nan, y)
    for axes in ("ZYX", "YXZ"):
        order = ["ZYX".index(axis) for axis in axes]
        solve(Image(hidden.transpose(order), axes), Mask(mask=seen), spatial="ZYX")
        assert np.array_equal(solver.calls[-1]["weights"][0, 0].numpy(), seen)
        assert torch.isfinite(solver.calls[-1]["y"]).all()


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
    settings: dict[str, Any],
    axes: str,
    error: type[Exception],
    message: str,
    network: MakeNetwork,
    scene: Scene,
    solver: Any,
) -> None:
    method = settings.get("method")
    model = network(scale=1) if method else None
    settings = {"operator": Identity(), "method": solver(), "model": model, **settings}
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
