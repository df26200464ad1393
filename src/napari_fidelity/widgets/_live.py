"""The result layer of a run: there from the first image on, refreshed while the result improves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.widgets._geometry import result_axes
from napari_fidelity.widgets._layers import add_result, handed_over

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.components import ViewerModel
    from napari.layers import Layer
    from numpy.typing import NDArray

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.widgets._layers import Source


@dataclass(frozen=True)
class Frame:
    """Axes, lengths and place of a measurement, without its data."""

    axes: str
    sizes: Mapping[str, int]
    pixel_size: Mapping[str, float]
    origin: Mapping[str, float]

    @classmethod
    def of(cls, image: Image) -> Frame:
        """Return the frame of an image."""
        return cls(image.axes, image.sizes, image.pixel_size, image.origin)

    def shown(self, block: Image, position: Mapping[str, int]) -> str:
        """Return the axes of the whole result that a block is part of."""
        return result_axes(self.axes, block.axes, position)

    def filled(
        self, block: Image, position: Mapping[str, int], axes: str, values: NDArray[Any], where: tuple[Any, ...]
    ) -> Image:
        """Return the whole result with one block alone; what has not been restored yet is NaN."""
        own = {axis: length for axis, length in block.sizes.items() if axis not in position}
        lengths = {**self.sizes, **own}
        data = np.full([lengths[axis] for axis in axes], np.nan, np.float32)
        data[where] = values
        return block.replace(
            data=data,
            axes=axes,
            pixel_size={**self.pixel_size, **block.pixel_size},
            origin={**self.origin, **block.origin},
        )


class LiveLayer:
    """Shows the blocks of a growing result in one layer of the viewer.

    The layer may be deleted at any time: later blocks are then no longer shown, and the final image is added as
    a new layer, so that no result is lost.
    """

    def __init__(self, viewer: ViewerModel, source: Source, name: str) -> None:
        self.viewer, self.source, self.name = viewer, source, name
        self.layer: Layer | None = None
        self._data: Any = None
        self._begun = False

    @property
    def shown(self) -> bool:
        """Whether the layer is in the viewer, with nobody else's data in it."""
        layer = self.layer
        return layer is not None and layer in self.viewer.layers and layer.data is self._data

    def show(self, block: Image, position: Mapping[str, int], measured: Frame) -> None:
        """Show the image of one block.

        Parameters
        ----------
        block
            What the method thinks of the block now.
        position
            Where it lies along the other axes, by letter; along one that the block has too, where it begins.
        measured
            The frame of the measurement it is a part of.
        """
        axes = measured.shown(block, position)
        values, where = _placed(block, axes, position)
        if not self._begun:
            self._begun = True
            whole = measured.filled(block, position, axes, values, where)
            self._add(whole)
        elif self.shown and self.layer is not None:
            self.layer.data[where] = values
            self.layer.refresh(thumbnail=False, extent=False)

    def finish(self, image: Image) -> Layer:
        """Show the final image with its provenance; returns the layer, a new one if it was deleted."""
        if not self.shown or self.layer is None:
            self._begun = True
            return self._add(image)
        self._data = handed_over(image.data, self.source.data)
        self.layer.data = self._data
        self.layer.metadata = self.source.on_grid(image)["metadata"]
        if "contrast_limits" not in self.source.look:
            self.layer.reset_contrast_limits()
        return self.layer

    def _add(self, image: Image) -> Layer:
        self.layer = add_result(self.viewer, self.source, image, name=self.name)
        self._data = self.layer.data
        return self.layer


def _placed(block: Image, axes: str, position: Mapping[str, int]) -> tuple[NDArray[Any], tuple[Any, ...]]:
    """Return a block's values in the order of the layer's axes, and the index they belong at."""
    order = [block.axes.index(axis) for axis in axes if axis in block.axes]
    lengths = block.sizes

    def along(axis: str) -> int | slice:
        first = position.get(axis)
        if first is None:
            return slice(None)
        return slice(first, first + lengths[axis]) if axis in lengths else first

    return block.data.transpose(order), tuple(along(axis) for axis in axes)
