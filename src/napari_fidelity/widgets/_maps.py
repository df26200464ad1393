"""Differences to the reference and residuals as images: made in a worker, added as layers in the GUI thread."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.errors import FidelityError, ShapeError
from napari_fidelity.widgets._guess import KEY
from napari_fidelity.widgets._news import News
from napari_fidelity.widgets._slices import Stopped, at, gray, on_own_grid, positions, put, read

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari.components import ViewerModel
    from napari.layers import Layer
    from numpy.typing import NDArray

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.widgets._comparison import Comparison
    from napari_fidelity.widgets._layers import Source

    Making = Generator[News, str | None, "Maps"]

_MOST = 99.9  # percentile of the absolute values that the colours reach to
# Blue below, white at, red above zero: ColorBrewer's RdBu.
_DIVERGING = ("#053061", "#2166ac", "#67a9cf", "#f7f7f7", "#ef8a62", "#b2182b", "#67001f")


@dataclass(frozen=True, eq=False)
class Map:
    """A signed image, and the layer whose place in the world it takes."""

    name: str
    source: Source
    image: Image
    largest: float


@dataclass(eq=False)
class Maps:
    """The images that could be made, and why others could not."""

    made: list[Map] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def differences(comparison: Comparison) -> Making:
    """Return each image minus the reference, RGB as the mean of its colours: signs of three colours say little."""
    maps = Maps()
    try:
        reference = _part(comparison, comparison.reference)
        against = yield from read(reference)
        for source in comparison.images:
            part = _part(comparison, source)
            image = yield from read(part)
            _collect(maps, source.name, lambda: _difference(part, image, reference, against))  # noqa: B023
    except Stopped:
        maps.problems.append("Stopped before the end")
    return maps


def residuals(comparison: Comparison) -> Making:
    """Return ``A x − y`` of each image on the measurement's grid, RGB as the mean of its colours."""
    maps = Maps()
    on = _part(comparison, comparison.measurement)
    slices = positions(on) if comparison.settings.every_slice else [on.index]
    for source in comparison.images:
        if comparison.is_measurement(source):
            continue
        data = np.full(on.shape, np.nan, np.float32)
        try:
            for done, index in enumerate(slices):
                text = f"Residual of '{source.name}'"
                if (yield News("residual", done=done, total=len(slices), text=text)):
                    maps.problems.append("Stopped before the end")
                    return maps
                left = comparison.left_over(at(source, index), replace(on, index=index))
                place = index if comparison.settings.every_slice else dict.fromkeys(index, 0)
                put(data, on.axes, place, left)
        except FidelityError as error:
            maps.problems.append(f"'{source.name}': {error}")
            continue
        _collect(maps, source.name, lambda: _map(f"A({source.name}) − {on.name}", on, on_own_grid(on, data)))  # noqa: B023
    return maps


def add_maps(viewer: ViewerModel, maps: Maps) -> list[Layer]:
    """Add the images as layers, all with the same colours for the same numbers."""
    from napari_fidelity.widgets._layers import add_result

    largest = max((each.largest for each in maps.made), default=0.0) or 1.0
    look = {
        "colormap": diverging(), "contrast_limits": (-largest, largest), "gamma": 1.0, "opacity": 1.0,
        "blending": "translucent",
    }  # fmt: skip
    layers = []
    for each in maps.made:
        source = replace(each.source, look={**each.source.look, **look}, limits_range=(-4 * largest, 4 * largest))
        layers.append(add_result(viewer, source, each.image, name=each.name))
    return layers


def _part(comparison: Comparison, source: Source | None) -> Source:
    assert source is not None  # the dock has asked for it
    return replace(source, index={}) if comparison.settings.every_slice else source


def _collect(maps: Maps, name: str, make: Callable[[], Map]) -> None:
    try:
        maps.made.append(make())
    except FidelityError as error:
        maps.problems.append(f"'{name}': {error}")


def _difference(source: Source, image: Image, reference: Source, against: Image) -> Map:
    data, other = gray(image.data, image.axes), gray(against.data, against.axes)
    axes, own = image.axes.replace("S", ""), against.axes.replace("S", "")
    for i in reversed(range(len(own))):
        if own[i] not in axes and other.shape[i] == 1:
            other, own = other.squeeze(i), own[:i] + own[i + 1 :]
    if set(own) - set(axes):
        raise ShapeError("The reference has axes that the layer lacks", found=f"{own} and {axes}")
    other = other.transpose([own.index(axis) for axis in axes if axis in own])
    other = np.expand_dims(other, [i for i, axis in enumerate(axes) if axis not in own])
    lengths = zip(axes, other.shape, data.shape, strict=True)
    if not all(n == m or (n == 1 and axis not in "YX") for axis, n, m in lengths):
        raise ShapeError("The layer and the reference differ in shape", found=f"{data.shape} and {other.shape}")
    left = image.replace(data=np.asarray(data - other, np.float32), axes=axes)
    return _map(f"{source.name} − {reference.name}", source, left)


def _map(name: str, source: Source, image: Image) -> Map:
    plain = replace(source, axes=source.axes.replace("S", ""))
    if "S" in image.axes:
        image = image.replace(data=gray(image.data, image.axes), axes=plain.axes)
    largest = _largest(image.data)
    return Map(name, plain, image.replace(metadata={**image.metadata, KEY: {"map": name}}), largest)


def _largest(data: NDArray[Any]) -> float:
    finite = np.abs(data[np.isfinite(data)])
    return float(np.percentile(finite, _MOST)) or float(finite.max()) if finite.size else 0.0


def diverging() -> Any:
    """Return the colours of signed numbers: blue below, white at, red above zero."""
    from napari.utils.colormaps import Colormap

    return Colormap(_DIVERGING, name="blue-white-red")
