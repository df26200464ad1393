"""What else a method is given: the image to start from, and the network where it has one of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_fidelity import Image
from napari_fidelity.core.blocks import planes
from napari_fidelity.core.errors import OptionError, ShapeError
from napari_fidelity.core.scaling import fit_scaling
from napari_fidelity.operators import (
    Downsample,
    Identity,
)

if TYPE_CHECKING:
    from conftest import MakeNetwork, Scene


@pytest.mark.parametrize(
    ("axes", "shape", "settings", "start"),
    [
        ("ZYX", (3, 6, 8), {}, (3, 12, 16)),
        ("ZYX", (3, 6, 8), {}, (12, 16)),
        ("ZYX", (3, 6, 8), {"spatial": "ZYX"}, (6, 12, 16)),
        ("YXS", (6, 8, 3), {}, (12, 16, 3)),
        ("YXS", (6, 8, 3), {}, (1, 12, 16)),
        ("TCYX", (2, 3, 6, 8), {"channels": "each", "scope": "volume", "scaling": "minmax"}, (2, 3, 12, 16)),
        ("TCYX", (2, 3, 6, 8), {"channels": "joint"}, (3, 12, 16)),
    ],
)
def test_start(
    axes: str,
    shape: tuple[int, ...],
    settings: dict[str, Any],
    start: tuple[int, ...],
    scene: Scene,
    solve: Any,
    solver: Any,
) -> None:
    data = (scene(*shape) * 3000 + 100).astype(np.float32)
    x = (scene(*start) * 3000 + 100).astype(np.float32)
    image = Image(data, axes)
    solve(image, Downsample(scale=2), method=solver(start=x), **settings)
    spatial, channels = settings.get("spatial", "YX"), settings.get("channels", "joint")
    mode, scope = settings.get("scaling", "auto"), settings.get("scope", "series")
    scaling = fit_scaling(image, mode, scope, channels=channels)
    whole = len(start) == len(shape) and start[0] > 1
    parts = planes(Image(x, axes), spatial, channels) if whole else [x] * len(solver.calls)
    for call, block, part in zip(solver.calls, planes(image, spatial, channels), parts, strict=True):
        own = scaling.at(block.index)
        expected = own.apply(getattr(part, "data", part) if whole else part)
        np.testing.assert_allclose(np.asarray(call["start"], np.float64), expected, atol=1e-6)


def test_start_of_another_shape(scene: Scene, solve: Any, solver: Any) -> None:
    with pytest.raises(ShapeError, match=r"shape of the result, \(2, 12, 16\) \(ZYX\).*found: \(12, 17\)"):
        solve(Image(scene(2, 6, 8), "ZYX"), Downsample(scale=2), method=solver(start=np.zeros((12, 17))))


def test_a_network_that_nobody_looks_at_is_refused(
    network: MakeNetwork, scene: Scene, solve: Any, solver: Any
) -> None:
    for model in (network(scale=1), "edsr-s-x1"):
        with pytest.raises(OptionError, match=r"Solve takes no network.*Leave the model out"):
            solve(scene(8, 8), Identity(), model=model)


def test_a_method_brings_its_own_model(network: MakeNetwork, scene: Scene, solve: Any, solver: Any) -> None:
    result = solve(scene(5, 8, 8), Identity(), method=solver(own_model="edsr-s-x1"))
    assert result.provenance["recipe"]["model"]["name"] == "edsr-s-x1"
    assert len(result.provenance["recipe"]["model"]["sha256"]) == 64
    assert solver.calls[0]["model"].info.id == "edsr-s-x1"
    given = network(scale=1)
    # neither folded nor adapted: the denoiser does that
    solve(
        Image(scene(5, 8, 8), "CYX"),
        Identity(),
        method=solver(own_model="edsr-s-x1"),
        model=given,
        channels="joint",
    )
    assert solver.calls[-1]["model"] is given
    assert solver.calls[-1]["y"].shape == (1, 5, 8, 8)
