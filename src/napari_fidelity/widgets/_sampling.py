"""The planes of layers that the viewer shows, points along a line in the world, and what layers hold there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.errors import ImageError
from napari_fidelity.widgets._planes import Cut
from napari_fidelity.widgets._units import factors, world_units

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer, Shapes
    from numpy.typing import NDArray


def shown_cut(viewer: ViewerModel, layer: Layer) -> Cut:
    """Return the plane of a layer that the viewer shows.

    Raises
    ------
    ImageError
        If the viewer shows other than rows and columns, or stands where the layer has nothing.
    """
    cut = Cut.of(layer, viewer.dims.point, units=world_units(viewer))
    first = viewer.dims.ndim - layer.ndim
    if set(viewer.dims.displayed) != {first + cut.axes.index(axis) for axis in "YX"}:
        raise ImageError(
            "The viewer does not show rows and columns", do="Go back to 2-D, with the usual order of axes"
        )
    return cut


def vertices(line: Shapes) -> NDArray[Any] | None:
    """Return the corners of the selected line, or else of the last one."""
    lines = [i for i, kind in enumerate(line.shape_type) if kind in ("line", "path") and len(line.data[i]) > 1]
    if not lines:
        return None
    selected = [i for i in lines if i in line.selected_data]
    return np.asarray(line.data[(selected or lines)[-1]], float)


def flat(cut: Cut) -> NDArray[np.float64]:
    """Return the way from a plane's rows and columns to the last two dimensions of the world, homogeneous."""
    letters = cut.axes.replace("S", "")
    fixed = np.array([cut.index.get(axis, 0.0) for axis in letters])
    start = cut.matrix[:-1, :-1] @ fixed + cut.matrix[:-1, -1]
    flat = np.eye(3)
    flat[:2, 0] = cut.matrix[-3:-1, letters.index("Y")]
    flat[:2, 1] = cut.matrix[-3:-1, letters.index("X")]
    flat[:2, 2] = start[-2:]
    return flat


def along(corners: NDArray[np.float64], count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return points at equal distances along a polyline, and these distances."""
    lengths = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    at = np.concatenate([[0.0], np.cumsum(lengths)])
    distance = np.linspace(0, at[-1], count)
    points = np.stack([np.interp(distance, at, corners[:, i]) for i in range(corners.shape[1])], axis=1)
    return points, distance


def to_pixels(cut: Cut, world: NDArray[np.float64], units: Any) -> NDArray[np.float64]:
    """Return rows and columns of world positions."""
    ndim = len(cut.matrix) - 1
    own = world[:, -ndim:] * factors(units, cut.units, ndim)
    pixels = (own - cut.matrix[:-1, -1]) @ np.linalg.inv(cut.matrix[:-1, :-1]).T
    return pixels[:, [cut.axes.index("Y"), cut.axes.index("X")]]


def sampled(plane: NDArray[Any], rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return intensities between pixels, linearly; NaN outside; the mean of the colours."""
    height, width = plane.shape[:2]
    r, c = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    r0, c0 = np.floor(r).astype(int), np.floor(c).astype(int)
    r1, c1 = np.minimum(r0 + 1, height - 1), np.minimum(c0 + 1, width - 1)

    def at(i: NDArray[Any], j: NDArray[Any]) -> NDArray[np.float64]:
        values = plane[i, j].astype(float)
        return values[:, :3].mean(axis=1) if values.ndim == 2 else values

    r, c = r - r0, c - c0
    values = (at(r0, c0) * (1 - c) + at(r0, c1) * c) * (1 - r) + (at(r1, c0) * (1 - c) + at(r1, c1) * c) * r
    outside = (rows < -0.5) | (rows > height - 0.5) | (columns < -0.5) | (columns > width - 0.5)
    values[outside] = np.nan
    return np.asarray(values)
