"""From a layer to an image and back: results lie on their source to the pixel, and keep what it says about itself.

What other modules need of layers is found here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.widgets._guess import KEY, guess_axes
from napari_fidelity.widgets._planes import Cut, Plane, plane, resample_onto, show_slice, slice_index
from napari_fidelity.widgets._source import Source
from napari_fidelity.widgets._units import Sampling, world_units

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.components import ViewerModel
    from napari.layers import Layer
    from numpy.typing import NDArray

    from napari_fidelity.core.arrays import Image

__all__ = [
    "KEY",
    "Cut",
    "Plane",
    "Sampling",
    "Source",
    "add_result",
    "find_formation",
    "guess_axes",
    "handed_over",
    "plane",
    "resample_onto",
    "show_slice",
    "slice_index",
    "world_units",
]


def add_result(viewer: ViewerModel, source: Source, image: Image, *, name: str) -> Layer:
    """Add a result as a new layer over its source.

    The layer takes the image's array as it is, without a copy. A name that is taken gets a number: no layer is
    ever overwritten.

    Parameters
    ----------
    viewer
        Where to add it.
    source
        The layer that the image was made from.
    image
        The result, with pixel size and origin.
    name
        Of the new layer.
    """
    image = source.whole(image)
    layer = viewer.add_image(handed_over(image.data, source.data), name=name, **source.on_grid(image))
    low, high = layer.contrast_limits
    # Without this the slider would end at the limits themselves.
    layer.contrast_limits_range = (min(low, source.limits_range[0]), max(high, source.limits_range[1]))
    if layer.rgb and layer.ndim == 2 and layer.data.dtype.kind == "f":
        layer.events.thumbnail.connect(_colour_thumbnail)
        layer.events.thumbnail()
    return layer


def _colour_thumbnail(event: Any) -> None:
    """Draw an RGB thumbnail within the contrast limits, as the canvas does; napari itself takes 1 for white."""
    layer = event.source
    low, high = layer.contrast_limits
    step = max(-(-n // 32) for n in layer.data.shape[:2])
    small = np.clip(np.nan_to_num((layer.data[::step, ::step] - low) / (high - low)), 0, 1)
    opaque = np.full((*small.shape[:2], 1), layer.opacity)
    with layer.events.thumbnail.blocker():  # those who show it hear of this event after us
        layer.thumbnail = np.uint8(255 * np.concatenate([small, opaque], axis=2))


def find_formation(layer: Layer) -> Mapping[str, Any] | None:
    """Return how the measurement was formed that a layer is, or was made from; ``None`` where nobody noted it."""
    entry = layer.metadata.get(KEY)
    while isinstance(entry, dict):
        if entry.get("formation"):
            formation: Mapping[str, Any] = entry["formation"]
            return formation
        source = entry.get("source")
        entry = source.get(KEY) if isinstance(source, dict) else None
    return None


def handed_over(data: NDArray[Any], measured: Any) -> NDArray[Any]:
    """Return an array for a layer of its own.

    Images are read-only views; a layer can be written to, so it gets the array itself, unless that is the
    measurement's.
    """
    if isinstance(measured, np.ndarray) and np.may_share_memory(data, measured):
        return np.array(data)
    owner: Any = data.base
    if not isinstance(owner, np.ndarray) or not owner.flags.writeable:
        return data
    return owner if (owner.shape, owner.strides) == (data.shape, data.strides) else data
