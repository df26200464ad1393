"""The plane of a layer that the viewer stands at, and planes of two layers on one grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_fidelity.core.errors import ImageError
from napari_fidelity.widgets._guess import full_data, guess_axes
from napari_fidelity.widgets._units import factors, layer_units, world_units

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari.components import ViewerModel
    from napari.layers import Layer
    from numpy.typing import NDArray

_NEAR = 1e-6  # pixels: closer than this, two grids are the same


class Plane(NamedTuple):
    """One plane of a layer: rows × columns (× RGB), and its position along the other axes."""

    data: NDArray[Any]
    position: dict[str, int]


@dataclass(frozen=True, eq=False)
class Cut:
    """Where a plane lies, taken from a layer in no time; the data is read later, in a worker.

    Attributes
    ----------
    name, data, axes
        As of :class:`~napari_fidelity.widgets._layers.Source`.
    index
        Position along all axes but rows, columns and RGB.
    matrix
        From pixels to the world, homogeneous.
    units
        Of the layer's dimensions.
    point
        The world position the plane was asked for, in these units.
    """

    name: str
    data: Any
    axes: str
    index: dict[str, int]
    matrix: NDArray[np.float64]
    units: tuple[Any, ...] | None
    point: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        layer: Layer,
        point: Sequence[float],
        axes: str | None = None,
        units: Sequence[Any] | None = None,
    ) -> Cut:
        """Find the plane of an image or labels layer at a world position.

        Parameters
        ----------
        layer
            Its ``axes`` are guessed if not given.
        point
            Such as ``viewer.dims.point``.
        axes
            One letter for each dimension of its data.
        units
            Of the point, such as ``world_units(viewer)``; the layer's own if left out.

        Raises
        ------
        ImageError
            If the layer has nothing there.
        """
        axes = guess_axes(layer) if axes is None else axes
        here = _in_units_of(layer, point, units)
        index = _index(layer, axes, here)
        return cls(layer.name, full_data(layer), axes, index, _matrix(layer), layer_units(layer), here)

    def read(self) -> NDArray[Any]:
        """Read the plane: rows × columns, with RGB last and without alpha."""
        whole = {"S": slice(0, 3)}
        where = tuple(self.index.get(axis, whole.get(axis, slice(None))) for axis in self.axes)
        found = np.asarray(self.data[where])
        left = [axis for axis in self.axes if axis not in self.index]
        return found.transpose([left.index(axis) for axis in "YXS" if axis in left])

    def onto(self, target: Cut) -> NDArray[np.floating[Any]]:
        """Return this plane on another one's grid: each pixel takes the value at its centre's place in the world.

        Linear between pixels; NaN outside the layer.
        """
        data = self.read()
        data = data.astype(np.result_type(data.dtype, np.float32), copy=False)
        matrix, offset = self._relation(target)
        shape = tuple(target.data.shape[target.axes.index(axis)] for axis in "YX")
        here = shape == data.shape[:2] and np.abs(offset).max() < _NEAR
        if here and np.abs((matrix - np.eye(2)) * shape).max() < _NEAR:
            return data
        from scipy.ndimage import affine_transform

        channels = data[..., None] if data.ndim == 2 else data
        moved = [
            affine_transform(channel, matrix, offset, shape, order=1, mode="nearest")
            for channel in np.moveaxis(channels, -1, 0)
        ]
        result: NDArray[np.floating[Any]] = np.stack(moved, axis=-1)
        result[~_inside(matrix, offset, shape, data.shape[:2])] = np.nan
        return result[..., 0] if data.ndim == 2 else result

    def _relation(self, target: Cut) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return matrix and offset that lead from the target's rows and columns to this plane's."""
        ndim, other = len(self.matrix) - 1, len(target.matrix) - 1
        shared = min(ndim, other)
        world = np.zeros((ndim, 3))  # of the target's (row, column, 1)
        world[:, 2] = self._beyond(shared)
        fixed = np.array([target.index.get(axis, 0.0) for axis in target.axes.replace("S", "")])
        columns = [target.matrix[:-1, target.axes.index(axis)] for axis in "YX"]
        steps = np.stack([*columns, target.matrix[:-1, :-1] @ fixed + target.matrix[:-1, -1]], axis=1)
        ratio = np.array(factors(target.units, self.units, shared))
        world[ndim - shared :] = ratio[:, None] * steps[other - shared :]
        inverse = np.linalg.inv(self.matrix)
        pixels = inverse[:-1, :-1] @ world
        pixels[:, 2] += inverse[:-1, -1]
        rows = pixels[[self.axes.index("Y"), self.axes.index("X")]]
        return rows[:, :2], rows[:, 2]

    def _beyond(self, shared: int) -> NDArray[np.float64]:
        """Return the world position along the dimensions that the target does not have."""
        ndim = len(self.matrix) - 1
        position = np.zeros(ndim)
        known = min(ndim, len(self.point))
        position[ndim - known :] = self.point[len(self.point) - known :]
        position[ndim - shared :] = 0
        return position


def shown_cut(viewer: ViewerModel, layer: Layer) -> tuple[Cut, str]:
    """Return the plane of a layer that the viewer shows, and where it lies in words: `` in the slice Z = 3``.

    Raises
    ------
    ImageError
        If the layer has nothing there.
    """
    cut = Cut.of(layer, viewer.dims.point, units=world_units(viewer))
    at = ", ".join(f"{axis} = {i}" for axis, i in cut.index.items())
    return cut, f" in the slice {at}" if at else ""


def plane(
    layer: Layer, point: Sequence[float], axes: str | None = None, units: Sequence[Any] | None = None
) -> Plane:
    """Return the plane of a layer at a world position; parameters as for :meth:`Cut.of`.

    It reads the data: for layers that are not in memory, take a :class:`Cut` and read it in a worker.
    """
    cut = Cut.of(layer, point, axes, units)
    return Plane(cut.read(), cut.index)


def resample_onto(
    layer: Layer, target: Layer, point: Sequence[float], units: Sequence[Any] | None = None
) -> NDArray[np.floating[Any]]:
    """Return a layer's plane on the grid of another layer's plane, by world coordinates; see :meth:`Cut.onto`."""
    return Cut.of(layer, point, units=units).onto(Cut.of(target, point, units=units))


def slice_index(
    layer: Layer, point: Sequence[float], axes: str, along: str = "TZC", units: Sequence[Any] | None = None
) -> dict[str, int]:
    """Return which slice of a layer napari shows at a world position.

    Parameters
    ----------
    layer, point, axes, units
        As for :meth:`Cut.of`.
    along
        The axes that are asked for.

    Raises
    ------
    ImageError
        If the layer has nothing there.
    """
    here = _in_units_of(layer, point, units)
    return _index(layer, axes, here, "".join(axis for axis in axes if axis in along and axis in "TZC"))


def show_slice(viewer: ViewerModel, layer: Layer, axes: str, index: Mapping[str, int]) -> None:
    """Move the sliders to where napari shows these slices of a layer.

    Parameters
    ----------
    viewer
        Whose sliders are moved.
    layer, axes
        The layer and one letter for each dimension of its data.
    index
        The wanted position along some axes; along the others the viewer stays where it is.
    """
    units = world_units(viewer)
    letters = axes.replace("S", "")
    sliced = [i for i, axis in enumerate(letters) if axis not in "YX"]
    now = _positions(layer, axes, _in_units_of(layer, viewer.dims.point, units))
    wanted = np.array([index.get(letters[i], now[i]) for i in sliced])
    inverse = np.linalg.inv(_matrix(layer))
    point = np.linalg.solve(inverse[np.ix_(sliced, sliced)], wanted - inverse[sliced, -1])
    ratio = factors(layer_units(layer), units, layer.ndim)
    for i, value in zip(sliced, point, strict=True):
        viewer.dims.set_point(viewer.dims.ndim - layer.ndim + i, value * ratio[i])


def _in_units_of(layer: Layer, point: Sequence[float], units: Sequence[Any] | None) -> NDArray[np.float64]:
    """Return a world position in the units of a layer, whose dimensions are the last of the world's."""
    here = np.array(point, np.float64)
    shared = min(len(here), layer.ndim)
    here[len(here) - shared :] *= factors(units, layer_units(layer), shared)
    return here


def _index(layer: Layer, axes: str, point: NDArray[np.float64], along: str = "TZC") -> dict[str, int]:
    index = {}
    found = np.round(_positions(layer, axes, point))
    for axis, position, length in zip(axes.replace("S", ""), found, full_data(layer).shape, strict=False):
        if axis not in along:
            continue
        if not 0 <= position < length:
            raise ImageError(
                f"The viewer stands where '{layer.name}' has no slice",
                found=f"position {position:g} of {length} along {axis}",
                do="Move the slider below the image to where the layer is seen",
            )
        index[axis] = int(position)
    return index


def _positions(layer: Layer, axes: str, point: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where napari slices a layer: rows and columns have no say in it, even if the layer is tilted."""
    asked = np.zeros(layer.ndim)
    known = min(layer.ndim, len(point))
    asked[layer.ndim - known :] = point[len(point) - known :]
    asked[[axes.index("Y"), axes.index("X")]] = 0.0
    return np.asarray(layer.world_to_data(asked), np.float64)


def _matrix(layer: Layer) -> NDArray[np.float64]:
    """Return the way from pixels to the world, homogeneous."""
    ndim = layer.ndim
    origin = np.asarray(layer.data_to_world(np.zeros(ndim)))
    matrix = np.eye(ndim + 1)
    matrix[:-1, -1] = origin
    for i, unit in enumerate(np.eye(ndim)):
        matrix[:-1, i] = np.asarray(layer.data_to_world(unit)) - origin
    return matrix


def _inside(
    matrix: NDArray[np.float64], offset: NDArray[np.float64], shape: tuple[int, ...], within: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Return which pixels of the grid have their centre on the area of the other one's pixels."""
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    inside = np.ones(shape, bool)
    for (down, across), start, length in zip(matrix, offset, within, strict=True):
        at = down * rows + across * columns + start
        inside &= (at >= -0.5 - _NEAR) & (at <= length - 0.5 + _NEAR)
    return inside
