"""The Check button: A(x) beside y."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_fidelity.core.arrays import Image
from napari_fidelity.core.errors import ImageError
from napari_fidelity.operators import Downsample, GaussianBlur
from napari_fidelity.pipeline import simulate
from napari_fidelity.widgets._check import Check
from napari_fidelity.widgets._layers import Source, add_result

if TYPE_CHECKING:
    from collections.abc import Callable

A = Downsample(scale=2) @ GaussianBlur(sigma=1.0)


def test_the_measurement_is_made_again_in_its_place(
    make_napari_viewer: Callable[..., Any], scene: Any, qtbot: Any
) -> None:
    viewer = make_napari_viewer()
    x = scene(2, 24, 20)
    y = A.A(torch.from_numpy(x)[None])[0].numpy()
    measured = viewer.add_image(y, name="y", scale=(3, 0.5, 0.5))
    source = Source.of(measured)
    image = Image(x, "ZYX", {"Z": 3, "Y": 0.25, "X": 0.25}, origin={"Z": 0, "Y": -0.125, "X": -0.125})
    result = add_result(viewer, source, image, name="x")
    hidden = viewer.add_image(y, name="other")
    check = Check(viewer)
    job = check.start(result, measured, A)
    with qtbot.waitSignal(check.said, timeout=30_000) as said:
        job.start()
    made = viewer.layers["A(x)"]
    np.testing.assert_allclose(made.data, y, atol=1e-5)
    for corner in ((0, 0, 0), (1, 11, 9)):
        np.testing.assert_allclose(made.data_to_world(corner), measured.data_to_world(corner), atol=1e-9)
    assert "differs from 'y' by" in said.args[0]
    assert (measured.visible, made.visible, hidden.visible, result.visible) == (True, True, False, False)
    assert check.start(result, measured, A) is None  # the second press goes back
    assert (hidden.visible, result.visible) == (True, True)


def test_without_a_result_it_says_so(make_napari_viewer: Callable[..., Any]) -> None:
    with pytest.raises(ImageError, match="no result to check"):
        Check(make_napari_viewer()).start(None, None, A)


def test_simulation_takes_slices_and_colours(scene: Any) -> None:
    x = np.stack([scene(2, 12, 10, seed=i) for i in range(3)], -1)
    steps = simulate(Image(x, "ZYXS"), A)
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as end:
            image = end.value
            break
    assert seen == [(0, 2), (1, 2)]
    assert image.axes == "ZYXS"
    expected = A.A(torch.from_numpy(np.moveaxis(x, -1, 1).copy()))
    np.testing.assert_allclose(np.moveaxis(image.data, -1, 1), expected.numpy(), atol=1e-5)
    assert image.pixel_size["Y"] == pytest.approx(2)
    assert image.origin["Y"] == pytest.approx(0.5)


def test_slices_that_were_not_reached_do_not_count(
    make_napari_viewer: Callable[..., Any], scene: Any, qtbot: Any
) -> None:
    viewer = make_napari_viewer()
    x = scene(2, 24, 20)
    y = A.A(torch.from_numpy(x)[None])[0].numpy()
    measured = viewer.add_image(y, name="y")
    x[1] = np.nan
    image = Image(x, "ZYX", {"Z": 1, "Y": 0.5, "X": 0.5}, origin={"Z": 0, "Y": -0.25, "X": -0.25})
    result = add_result(viewer, Source.of(measured), image, name="x")
    check = Check(viewer)
    job = check.start(result, measured, A)
    with qtbot.waitSignal(check.ended, timeout=30_000) as ended:
        job.start()
    made, difference = ended.args[0].value
    assert np.isnan(made.data[1]).all()
    assert difference < 1e-5
