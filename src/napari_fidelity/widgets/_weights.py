"""Weights of the pixels in a method's data term: all alike, edges less, or from a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from napari_fidelity.core.errors import ImageError
from napari_fidelity.widgets._dock import layer_combo, narrow, rows
from napari_fidelity.widgets._guess import full_data
from napari_fidelity.widgets._ticks import is_trust_map

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from napari.layers import Layer
    from numpy.typing import NDArray


_KINDS = {
    "all alike": "none",
    "edges count less": "edges",
    "uncertain pixels count less": "map",
    "from a layer": "layer",
}  # words and what they mean to `mask`


class Weights(QWidget):
    """Weight of each pixel of the image in the data term: all alike, edges less, or from a layer."""

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.combo = narrow(QComboBox())
        for label, kind in _KINDS.items():
            self.combo.addItem(label, kind)
        self.combo.setToolTip(
            "<qt>Weight of each pixel when the result is compared with the measurement: all alike, edges less "
            "(Lucas 2020, eq. 2), uncertain pixels less, as a map of the dock Uncertainty says, or the values of "
            "a layer such as a region of interest.</qt>"
        )
        self.layer = layer_combo(
            viewer, "Its values are the weights, 0 to 1 (others are divided by the largest)", accept=_is_map
        )
        self.map = layer_combo(viewer, "The map of uncertainty", accept=is_trust_map)
        self.layer.native.setVisible(False)
        self.map.native.setVisible(False)
        self._given: NDArray[Any] | None = None
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(rows(Weights=self.combo))
        column.addWidget(self.layer.native)
        column.addWidget(self.map.native)
        self.combo.currentIndexChanged.connect(self._chosen)

    def mask(self, image_shape: Sequence[int], measured_shape: Sequence[int]) -> Any:
        """Return what the method's option ``mask`` takes.

        Raises
        ------
        ImageError
            If the layer fits neither the restored image nor the measurement.
        """
        kind = self.combo.currentData()
        if kind == "given":
            return self._given
        if kind not in ("layer", "map"):
            return kind
        layer = (self.map if kind == "map" else self.layer).value
        if layer is None:
            raise ImageError("No layer is chosen for the weights", do="Add one, or choose 'all alike'")
        data = np.asarray(full_data(layer))
        if kind == "map":
            from napari_fidelity.uncertainty.mask import mask_from

            data = mask_from(data)
        return _weights_of(data, layer.name, tuple(image_shape), tuple(measured_shape))

    def use_map(self, layer: Layer) -> None:
        """Let uncertain pixels count less, as a map says."""
        self.reset_choices()
        self.map.value = layer
        self.combo.setCurrentIndex(self.combo.findData("map"))

    def set_mask(self, mask: Any) -> None:
        """Show a method's ``mask``."""
        at = self.combo.findData("given")
        if isinstance(mask, str):
            self._given = None
            if at >= 0:
                self.combo.removeItem(at)
            self.combo.setCurrentIndex(self.combo.findData(mask))
            return
        self._given = mask
        if at < 0:
            self.combo.addItem("as in the recipe", "given")
        self.combo.setCurrentIndex(self.combo.findData("given"))

    def reset_choices(self) -> None:
        """Offer the layers there are now."""
        self.layer.reset_choices()
        self.map.reset_choices()

    def _chosen(self) -> None:
        self.layer.native.setVisible(self.combo.currentData() == "layer")
        self.map.native.setVisible(self.combo.currentData() == "map")


def _weights_of(
    data: NDArray[Any], name: str, image_shape: tuple[int, ...], measured_shape: tuple[int, ...]
) -> NDArray[Any]:
    values = np.squeeze(data).astype(np.float32)
    if values.ndim > 2 and values.shape[-2:] == image_shape:  # of a stack, slice by slice
        image_shape = values.shape
    if values.shape == measured_shape != image_shape:
        index = [np.arange(n) * m // n for n, m in zip(image_shape, measured_shape, strict=True)]
        values = values[np.ix_(*index)]
    if values.shape != image_shape:
        raise ImageError(
            f"The layer '{name}' does not fit as weights",
            found=f"shape {values.shape}; the image will have {image_shape}, the measurement has {measured_shape}",
            do="Choose a layer of one of these sizes",
        )
    if not np.isfinite(values).all() or values.min() < 0 or values.max() <= 0:
        raise ImageError(
            f"The weights in '{name}' must be finite, none negative, not all zero",
            found=f"{values.min():g} to {values.max():g}",
            do="Choose a layer with values from 0 (does not count) to 1",
        )
    return values / max(1.0, float(values.max()))


def _is_map(layer: Any) -> bool:
    from napari.layers import Image, Labels

    return isinstance(layer, Image | Labels) and not getattr(layer, "rgb", False)
