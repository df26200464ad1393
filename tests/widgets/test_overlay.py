"""What the canvas shows of a result and of its source is the same picture, to the pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_fidelity.core.step import drain
from napari_fidelity.widgets._layers import Source, add_result

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_fidelity.core.arrays import Image

PLACES: dict[str, dict[str, Any]] = {
    "rotated": {"rotate": 30, "scale": (0.5, 0.5), "units": ("um", "um")},
    "sheared": {"shear": [0.4], "scale": (1, 2), "translate": (5, 3)},
    "affine": {"affine": [[1.1, 0.3, 3.0], [-0.2, 0.9, -7.0], [0, 0, 1]], "scale": (2, 1)},
}


def finer(image: Image, factor: int) -> Image:
    """Every pixel cut into equal ones: the picture stays as it was."""
    data = image.data
    for i, axis in enumerate(image.axes):
        data = data.repeat(factor, i) if axis in "YX" else data
    size = {a: v / factor if a in "YX" else v for a, v in image.pixel_size.items()}
    shift = (1 / factor - 1) / 2
    origin = {a: v + shift * image.pixel_size[a] if a in "YX" else v for a, v in image.origin.items()}
    return image.replace(data=data, pixel_size=size, origin=origin)


def picture(viewer: Any, layer: Any) -> NDArray[np.int16]:
    for other in viewer.layers:
        other.visible = other is layer
    return np.asarray(viewer.screenshot(flash=False, canvas_only=True))[..., :3].astype(np.int16)


@pytest.mark.parametrize("rgb", [False, True], ids=["gray", "RGB"])
@pytest.mark.parametrize("place", PLACES)
def test_result_and_source_cover_each_other(make_napari_viewer: Callable[..., Any], place: str, rgb: bool) -> None:
    viewer = make_napari_viewer(show=True)
    shape = (12, 16, 3) if rgb else (12, 16)
    values = np.random.default_rng(0).integers(20, 255, shape).astype(np.uint8)
    layer = viewer.add_image(values, rgb=rgb, **PLACES[place])
    source = Source.of(layer)
    image = drain(source.read())
    result = add_result(viewer, source, finer(image.replace(data=image.data.astype(np.float32)), 3), name="finer")
    # A layer with another unit of length changes the world's units under both of them.
    if "units" in PLACES[place]:
        viewer.add_image(np.zeros((2, 2)), units=("nm", "nm"))
    viewer.reset_view()
    there, here = picture(viewer, layer), picture(viewer, result)
    assert (there.max(axis=-1) > 15).mean() > 0.1
    differing = np.abs(there - here).max(axis=-1) > 3
    assert differing.mean() < 0.004  # the borders of pixels, where the renderer rounds

    shifted = add_result(viewer, source, image, name="shifted by a third of a pixel")
    shifted.translate = np.asarray(shifted.translate) + np.asarray(shifted.scale) / 3
    assert (np.abs(there - picture(viewer, shifted)).max(axis=-1) > 3).mean() > 5 * differing.mean() + 0.01
