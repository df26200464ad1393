"""Slices of layers that belong together, read in a worker."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.errors import ImageError, ShapeError
from napari_fidelity.widgets._guess import guess_axes
from napari_fidelity.widgets._news import News
from napari_fidelity.widgets._planes import slice_index
from napari_fidelity.widgets._units import world_units

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from napari.components import ViewerModel
    from napari.layers import Layer
    from numpy.typing import NDArray

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.widgets._layers import Source

    Index = Mapping[str, int]


class Stopped(Exception):
    """The user asked to stop while a layer was being read."""


def shown_source(viewer: ViewerModel, layer: Layer, every_slice: bool = False) -> Source:
    """Return a layer at the slice the viewer shows.

    Parameters
    ----------
    viewer, layer
        A layer of this viewer.
    every_slice
        Whether the first slice will do where the layer has none there.

    Raises
    ------
    ImageError
        If the layer holds no image, or has no slice where the viewer stands.
    """
    from napari_fidelity.widgets._layers import Source

    axes = guess_axes(layer)
    try:
        index = slice_index(layer, viewer.dims.point, axes, units=world_units(viewer))
    except ImageError:
        if not every_slice:
            raise
        index = {axis: 0 for axis in axes if axis in "TZC"}
    return Source.of(layer, axes, index)


def beside(viewer: ViewerModel, layer: Layer, measured: Source) -> Source:
    """Return a layer on the grid of a result, at the slices that the result is made of.

    Parameters
    ----------
    viewer
        Where there are slices that the measurement does not have, the one it shows is taken.
    layer
        An image layer.
    measured
        What the result is made from.

    Raises
    ------
    ImageError
        If the layer holds no image, or has no slice where the viewer stands.
    """
    from napari_fidelity.widgets._layers import Source

    whole = Source.of(layer)
    axes = measured.axes if len(measured.axes) == len(whole.axes) else guess_axes(layer)
    lengths = dict(zip(axes, whole.data.shape, strict=True))
    known = {axis: at if lengths[axis] > at else 0 for axis, at in measured.index.items() if axis in lengths}
    others = "".join(axis for axis in axes if axis not in measured.axes)
    if others:  # such as the slice of a stack for a single image
        known |= slice_index(layer, viewer.dims.point, axes, others, world_units(viewer))
    return replace(Source.of(layer, axes), index=known)


def read(source: Source) -> Generator[News, str | None, Image]:
    """Read a layer and say how far it is; :class:`Stopped` once a reason to stop is sent."""
    reading = source.read()
    while True:
        try:
            done, total = next(reading)
        except StopIteration as end:
            image: Image = end.value
            return image
        if (yield News("read", done=done, total=total, text=f"Reading '{source.name}'")):
            raise Stopped


def pixels(source: Source) -> NDArray[Any]:
    """Read one slice: ``(H, W)`` or ``(H, W, 3)``."""
    reading = read(source)
    while True:
        try:
            next(reading)
        except StopIteration as end:
            image: Image = end.value
            break
    order = [image.axes.index(axis) for axis in "YXS" if axis in image.axes]
    others = [i for i in range(image.data.ndim) if i not in order]
    view: NDArray[Any] = image.data.transpose(*others, *order)[(0,) * len(others)]
    return view


def put(data: NDArray[Any], axes: str, index: Index, slice_: NDArray[Any]) -> None:
    """Write one slice, ``(H, W)`` or ``(H, W, 3)``, to its place in an array."""
    left = [axis for axis in axes if axis in "YXS"]
    where = tuple(slice(None) if axis in left else index[axis] for axis in axes)
    data[where] = slice_.transpose(["YXS".index(axis) for axis in left])


def positions(source: Source) -> list[Index]:
    """Return the positions of all slices of a layer."""
    lengths = {axis: n for axis, n in zip(source.axes, source.data.shape, strict=True) if axis in "TZC"}
    return [dict(zip(lengths, at, strict=True)) for at in product(*(range(n) for n in lengths.values()))]


def at(source: Source, index: Index) -> Source:
    """Return a layer at the slice of another one: the same position along axes of the same letter.

    Where it has but one position that one is meant; along axes the other does not have, the one the viewer shows.

    Raises
    ------
    ShapeError
        If it has no such position.
    """
    found = {}
    for axis, length in zip(source.axes, source.data.shape, strict=True):
        if axis not in "TZC":
            continue
        found[axis] = 0 if length == 1 else index.get(axis, source.index.get(axis, 0))
        if found[axis] >= length:
            raise ShapeError(
                f"'{source.name}' has no slice {in_words({axis: found[axis]})}", found=f"{length} slices"
            )
    return replace(source, index=found)


def in_words(index: Index) -> str:
    """Return a position as napari's sliders have it: ``t = 3, z = 0``."""
    return ", ".join(f"{axis.lower()} = {position}" for axis, position in index.items())


def on_own_grid(source: Source, data: NDArray[Any]) -> Image:
    """Return an image on a layer's own grid."""
    from napari_fidelity.core.arrays import Image

    size, origin = source.sampling.pixel_size, source.sampling.origin
    first = {axis: start + size[axis] * source.index.get(axis, 0) for axis, start in origin.items()}
    return Image(data, source.axes, size, source.sampling.unit, first)


def gray(image: NDArray[Any], axes: str) -> NDArray[Any]:
    """Return the mean of the colours where there are any, in float32 or float64."""
    data = image.astype(np.result_type(image.dtype, np.float32), copy=False)
    mean: NDArray[Any] = data.mean(axes.index("S")) if "S" in axes else data
    return mean
