"""Regions of a map that lie above a threshold: where a result is doubtful, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.errors import OptionError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

_SAMPLES = 2_000_000  # values that a percentile is taken of, at most


@dataclass(frozen=True)
class Region:
    """A connected part of a map above a threshold.

    Attributes
    ----------
    label
        Its number in the array of labels, from 1 on.
    pixels
        How many pixels it has.
    mean, largest
        Of the map's absolute values in it.
    centre
        Its centre of mass, in pixels along every axis of the map.
    """

    label: int
    pixels: int
    mean: float
    largest: float
    centre: tuple[float, ...]


def threshold_at(values: NDArray[Any], percentile: float) -> float:
    """Return the absolute value below which so many per cent of a map lie; 0 for a map without finite values.

    Of a large map, every n-th value is taken.

    Raises
    ------
    OptionError
        If the percentile does not lie between 0 and 100.
    """
    if not 0 <= percentile <= 100:
        raise OptionError("A percentile lies between 0 and 100", found=f"{percentile:g}")
    flat = np.ravel(values)
    some = flat[:: max(1, flat.size // _SAMPLES)]
    finite = np.abs(some[np.isfinite(some)])
    return float(np.percentile(finite, percentile)) if finite.size else 0.0


def doubtful_regions(
    values: NDArray[Any], threshold: float, *, least: int = 1, spatial_axes: Sequence[int] | None = None
) -> tuple[NDArray[np.int32], list[Region]]:
    """Label the connected regions in which a map exceeds a threshold.

    Pixels are connected by edges and corners. Along axes that are not spatial (time, channels, slices restored
    one by one) nothing is connected, and the labels go on.

    Parameters
    ----------
    values
        The map; of a signed one the absolute values count. What is not finite is not doubtful.
    threshold
        Regions lie above it.
    least
        Pixels of the smallest region that counts.
    spatial_axes
        Axes along which regions extend; all if left out.

    Returns
    -------
    labels : numpy.ndarray
        Of the map's shape: 0 outside all regions, 1 in the largest.
    regions : list of Region
        In the order of their labels, the largest first.

    Raises
    ------
    OptionError
        If ``least`` is smaller than 1 or the threshold is not finite.
    ShapeError
        If an axis does not exist or is named twice.
    """
    if least < 1 or not np.isfinite(threshold):
        raise OptionError(
            "Regions have at least one pixel, and their threshold is a number",
            found=f"{least} pixels, threshold {threshold:g}",
        )
    axes = _axes(values, spatial_axes)
    labels = np.zeros(values.shape, np.int32)
    regions: list[Region] = []
    for where in _blocks(values.shape, axes):
        _label(values, labels, where, axes, threshold, least, regions)
    regions.sort(key=lambda region: (-region.pixels, region.label))
    order = np.zeros(len(regions) + 1, np.int32)
    order[[region.label for region in regions]] = np.arange(1, len(regions) + 1)
    return order[labels], [replace(region, label=n) for n, region in enumerate(regions, 1)]


def _axes(values: NDArray[Any], spatial: Sequence[int] | None) -> list[int]:
    axes = list(range(values.ndim)) if spatial is None else sorted(spatial)
    if len(set(axes)) < len(axes) or not set(axes) <= set(range(values.ndim)) or not axes:
        raise ShapeError("These are no axes of the map", found=f"{axes} of {values.ndim}")
    return axes


def _blocks(shape: Sequence[int], axes: Sequence[int]) -> Iterator[tuple[Any, ...]]:
    """Yield the index of every part in which pixels can be connected."""
    spans = [[slice(None)] if axis in axes else range(n) for axis, n in enumerate(shape)]
    yield from product(*spans)


def _label(
    values: NDArray[Any],
    labels: NDArray[np.int32],
    where: tuple[Any, ...],
    axes: Sequence[int],
    threshold: float,
    least: int,
    regions: list[Region],
) -> None:
    """Label one part; add its regions to those there are."""
    from scipy import ndimage

    size = np.abs(values[where])
    with np.errstate(invalid="ignore"):
        above = np.isfinite(size) & (size > threshold)
    if not above.any():
        return
    found, count = ndimage.label(above, np.ones((3,) * len(axes), bool))
    pixels = np.bincount(found.ravel(), minlength=count + 1)
    kept = [number for number in range(1, count + 1) if pixels[number] >= least]
    if not kept:
        return
    new = np.zeros(count + 1, np.int32)
    new[kept] = len(regions) + 1 + np.arange(len(kept))
    labels[where] = new[found]
    means = ndimage.mean(size, found, kept)
    largest = ndimage.maximum(size, found, kept)
    centres = ndimage.center_of_mass(above, found, kept)
    for number, mean, most, centre in zip(kept, means, largest, centres, strict=True):
        place: list[float] = [0.0 if isinstance(at, slice) else float(at) for at in where]
        for axis, at in zip(axes, centre, strict=True):
            place[axis] = float(at)
        regions.append(Region(int(new[number]), int(pixels[number]), float(mean), float(most), tuple(place)))


def share(regions: Sequence[Region], values: NDArray[Any]) -> float:
    """Return which part of a map's finite pixels lies in regions, from 0 to 1."""
    finite = int(np.isfinite(values).sum()) if prod(values.shape) else 0
    return sum(region.pixels for region in regions) / finite if finite else 0.0
