"""How a layer lies in the world, and how a result of it does that has other axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.widgets._units import layer_units

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.layers import Layer
    from numpy.typing import NDArray

_NEW = {"scale": 1.0, "translate": 0.0, "units": "pixel", "axis_labels": "channel"}  # of an axis that is added


def geometry_of(layer: Layer) -> dict[str, Any]:
    """Return how a layer lies in the world, as ``viewer.add_image`` takes it."""
    geometry: dict[str, Any] = {
        "scale": np.array(layer.scale, float),
        "translate": np.array(layer.translate, float),
        "affine": np.array(layer.affine.affine_matrix, float),
        "rotate": np.array(layer.rotate, float),
        "shear": np.array(layer.shear, float),
    }
    units = layer_units(layer)
    # One layer without the others' units would switch unit-aware display off for all of them.
    geometry |= {"units": units} if units else {}
    labels = getattr(layer, "axis_labels", None)
    return geometry | ({"axis_labels": tuple(labels)} if labels else {})


def result_axes(axes: str, image_axes: str, kept: Mapping[str, int]) -> str:
    """Return the axes of the layer that an image becomes.

    They are those of its source, with the image's own channels: an image formation model may mix channels into
    one, or make several of one.

    Parameters
    ----------
    axes
        Of the source.
    image_axes
        Of the image, which may lack axes in ``kept``.
    kept
        Axes of the source of which only one position was wanted.
    """
    left = "".join(axis for axis in axes if axis not in "CS" or axis in image_axes or axis in kept)
    if "C" not in image_axes or "C" in left:
        return left
    if "S" in axes:
        return axes.replace("S", "C")
    first = min(left.index("Y"), left.index("X"))
    return left[:first] + "C" + left[first:]


def with_axes(geometry: Mapping[str, Any], before: str, after: str) -> dict[str, Any]:
    """Return a geometry for other axes: those of both stay as they are, new ones begin at 0 with steps of 1."""
    old, new = before.replace("S", ""), after.replace("S", "")
    if old == new:
        return dict(geometry)
    pairs = [(new.index(axis), old.index(axis)) for axis in new if axis in old]
    there, here = (list(side) for side in zip(*pairs, strict=True))
    changed: dict[str, Any] = {}
    for name, value in geometry.items():
        if name in _NEW:
            entries = [_NEW[name]] * len(new)
            for i, j in pairs:
                entries[i] = value[j]
            changed[name] = np.array(entries) if isinstance(value, np.ndarray) else tuple(entries)
            continue
        size = len(new) + (name == "affine")
        value = shear_matrix(value) if name == "shear" else value
        matrix = np.eye(size)
        matrix[np.ix_(there, there)] = value[np.ix_(here, here)]
        if name == "affine":
            matrix[there, -1] = value[here, -1]
        changed[name] = matrix
    return changed


def shear_matrix(shear: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a layer's shear as a matrix; an upper triangular one is known by the numbers above its diagonal."""
    if shear.ndim == 2:
        return shear
    ndim = int((1 + (1 + 8 * len(shear)) ** 0.5) / 2)
    matrix = np.eye(ndim)
    matrix[np.triu_indices(ndim, k=1)] = shear
    return matrix
