"""Planes are those that napari shows, and planes of two layers meet by world coordinates."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels

from napari_fidelity.core.errors import ImageError
from napari_fidelity.widgets._layers import Cut, plane, resample_onto, show_slice, slice_index, world_units

STACK = np.arange(2 * 3 * 4 * 6 * 8, dtype=np.uint16).reshape(2, 3, 4, 6, 8)


def world_of(layer: Any, data: Any) -> Any:
    """A function of the world that is linear along rows and columns, at each pixel of a 2-D layer."""
    places = np.array([[layer.data_to_world((y, x)) for x in range(data[1])] for y in range(data[0])])
    return 3 * places[..., -2] - 2 * places[..., -1] + 1


STACKS: dict[str, dict[str, Any]] = {
    "plain": {},
    "scaled": {"scale": (2, 3, 1, 0.5, 0.2), "translate": (1, -5, 0, 2, 3)},
    "units": {"scale": (2, 300, 1, 0.5, 0.2), "units": ("s", "nm", "pixel", "um", "um")},
    "turned": {"rotate": np.eye(5)[[1, 0, 2, 3, 4]], "scale": (2, 3, 1, 1, 1)},
    "sheared": {"shear": np.eye(5) + np.diag((0.4, 0, 0.2, 0), 1), "translate": (0, 2, 0, 0, 0)},
}


@pytest.mark.parametrize("how", STACKS.values(), ids=STACKS)
def test_planes_are_those_napari_shows(how: dict[str, Any]) -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(STACK, **how)
    # Another layer sets the world's units: the finest of each kind.
    viewer.add_image(np.zeros((6, 8)), scale=(1, 1), units=("nm", "nm") if "units" in how else None)
    for steps in [(0, 0, 0), (1, 2, 3), (0, 1, 2)]:
        for axis, step in enumerate(steps):
            viewer.dims.set_current_step(axis, step)
        found = plane(layer, viewer.dims.point, "TZCYX", world_units(viewer))
        np.testing.assert_array_equal(found.data, layer._data_view)
        np.testing.assert_array_equal(found.data, STACK[tuple(found.position[axis] for axis in "TZC")])


@pytest.mark.parametrize("how", STACKS.values(), ids=STACKS)
def test_the_sliders_can_be_moved_to_a_slice(how: dict[str, Any]) -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(STACK, **how)
    viewer.add_image(np.zeros((6, 8)), units=("nm", "nm") if "units" in how else None)
    viewer.add_image(np.zeros((2, 2, 3, 4, 6, 8)), opacity=0.5)
    show_slice(viewer, layer, "TZCYX", {"T": 1, "C": 2})
    show_slice(viewer, layer, "TZCYX", {"Z": 2})
    position = slice_index(layer, viewer.dims.point, "TZCYX", units=world_units(viewer))
    assert position == {"T": 1, "Z": 2, "C": 2}
    np.testing.assert_array_equal(layer._data_view, STACK[1, 2, 2])


def test_the_axes_that_are_asked_for() -> None:
    layer = Image(STACK, scale=(1, 2, 1, 1, 1))
    assert slice_index(layer, (1, 4, 3, 0, 0), "TZCYX") == {"T": 1, "Z": 2, "C": 3}
    assert slice_index(layer, (1, 400, 3, 0, 0), "TZCYX", "TC") == {"T": 1, "C": 3}
    with pytest.raises(ImageError, match="has no slice"):
        slice_index(layer, (1, 400, 3, 0, 0), "TZCYX", "Z")


def test_layers_with_fewer_dimensions_are_everywhere() -> None:
    flat = Image(STACK[0, 0, 0], scale=(2, 3))
    found = plane(flat, (5, 7, 0, 1, 1))
    assert found.position == {}
    np.testing.assert_array_equal(found.data, flat.data)


def test_every_kind_of_layer() -> None:
    labels = Labels(np.arange(12).reshape(3, 2, 2))
    np.testing.assert_array_equal(plane(labels, (2, 0, 0)).data, labels.data[2])
    rgba = Image(np.arange(3 * 4 * 5 * 4, dtype=np.uint8).reshape(3, 4, 5, 4), rgb=True)
    np.testing.assert_array_equal(plane(rgba, (1, 0, 0)).data, rgba.data[1, ..., :3])
    pyramid = Image([STACK[0, :, 0], STACK[0, :, 0, ::2, ::2]], multiscale=True)
    np.testing.assert_array_equal(plane(pyramid, (1, 0, 0)).data, STACK[0, 1, 0])
    turned = Image(STACK[0, 0], axis_labels=("y", "x", "z"))
    assert plane(turned, (0, 0, 7)).data.shape == (4, 6)


def test_lazy_layers_compute_one_plane() -> None:
    computed = []

    def compute(block: Any, block_info: Any = None) -> Any:
        computed.append(block_info[0]["chunk-location"])
        return block

    data = da.zeros((10, 4, 4), chunks=(1, 4, 4)).map_blocks(compute, dtype=float, meta=np.zeros(0))
    layer = Image(data, contrast_limits=(0, 1))
    computed.clear()
    cut = Cut.of(layer, (7, 0, 0))
    assert computed == []
    assert cut.read().shape == (4, 4)
    assert computed == [(7, 0, 0)]


FINE: dict[str, Any] = {"scale": (0.5, 0.25), "translate": (-0.25, -0.375)}
PLACES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "scaled": ({"scale": (1, 1)}, FINE),
    "rotated": ({"rotate": 30, "scale": (1.5, 1.5)}, {"scale": (0.3, 0.4)}),
    "sheared": ({"shear": [0.2], "scale": (2, 2)}, {"rotate": -20, "translate": (1, 0.5)}),
    "affine": ({"affine": [[1.2, 0.1, -3], [0.2, 1.5, -2], [0, 0, 1]]}, {"scale": (0.5, 0.5)}),
}


@pytest.mark.parametrize("place", PLACES)
def test_two_planes_meet_in_the_world(place: str) -> None:
    here, there = PLACES[place]
    layer, target = Image(np.zeros((12, 14)), **here), Image(np.zeros((9, 11)), **there)
    layer.data = world_of(layer, (12, 14))
    found, expected = resample_onto(layer, target, (0, 0)), world_of(target, (9, 11))
    at = np.array([[layer.world_to_data(target.data_to_world((y, x))) for x in range(11)] for y in range(9)])
    ends = np.array([12, 14]) - 1
    between = ((at >= 0) & (at <= ends)).all(-1)
    outside = ((at < -0.501) | (at > ends + 0.501)).any(-1)
    assert between.sum() > 5
    np.testing.assert_allclose(found[between], expected[between], atol=1e-6)
    assert np.isnan(found[outside]).all()
    assert np.isfinite(found[~outside]).all()


def test_units_and_other_dimensions_count() -> None:
    volume = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    layer = Image(volume, scale=(2, 0.5, 0.5), units=("um", "um", "um"))
    target = Image(np.zeros((4, 5), np.uint8), scale=(500, 500), units=("nm", "nm"))
    viewer = ViewerModel()
    viewer.add_layer(layer)
    viewer.add_layer(target)
    viewer.dims.set_current_step(0, 1)
    found = resample_onto(layer, target, viewer.dims.point, world_units(viewer))
    np.testing.assert_allclose(found, volume[1], rtol=1e-6)
    back = resample_onto(target, layer, viewer.dims.point, world_units(viewer))
    np.testing.assert_array_equal(back, target.data)


def test_one_grid_needs_no_interpolation() -> None:
    data = np.random.default_rng(0).random((5, 6, 3)).astype(np.float32)
    data[2, 3] = np.nan
    layer = Image(data, rgb=True, rotate=17, scale=(0.1, 0.3), translate=(1e5, 1e5))
    target = Image(np.zeros((5, 6)), rotate=17, scale=(0.1, 0.3), translate=(1e5, 1e5))
    np.testing.assert_array_equal(resample_onto(layer, target, (0, 0)), data)
    assert resample_onto(layer, Image(np.zeros((3, 3))), (0, 0)).shape == (3, 3, 3)
