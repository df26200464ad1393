"""Which pixels of the measurement are missing."""

from __future__ import annotations

import zlib
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import ComboBox
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from napari_fidelity.core.errors import OperatorError, OptionError
from napari_fidelity.widgets._controls import choice, labelled, number_edit
from napari_fidelity.widgets._dock import narrow, note_label, set_note
from napari_fidelity.widgets._fields import parse_number, quiet_wheel
from napari_fidelity.widgets._from_layer import Background, times
from napari_fidelity.widgets._reading import in_memory

if TYPE_CHECKING:
    from collections.abc import Hashable

    from napari.components import ViewerModel
    from napari.layers import Layer
    from numpy.typing import NDArray

    from napari_fidelity.operators import Mask

_WAYS = {
    "nan": ("that are NaN", "Pixels that are no number in the measurement itself."),
    "painted": (
        "painted in a layer",
        "Pixels that are not 0 in a Labels or Image layer: add a Labels layer and paint over what is missing.",
    ),
    "zero": ("zero in a layer", "Pixels that are 0 in a Labels or Image layer: a mask of what was recorded."),
    "value": ("of one value", "Pixels of the measurement that have one value, such as 0 or 65535."),
    "given": ("as given", "The mask that came with the sample or the recipe."),
}
_SLICE = "The mask of the slice that is shown counts for all slices."
_SMALL = 2**20  # pixels from which a mask can be made in no time


class MissingForm(QWidget):
    """Chooses what tells missing pixels."""

    changed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self._source: Layer | None = None
        self._given: NDArray[Any] | None = None
        self._made: tuple[Hashable, Mask, float] | None = None
        self._reading, self._making = Background(self), Background(self)
        self.way = choice(_WAYS, "what tells missing pixels", "What tells which pixels are missing.")
        self.layer = ComboBox(choices=self._choices, nullable=False)
        narrow(self.layer.native).setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.layer.native.setToolTip(
            "<qt>The layer that shows which pixels are missing; as large as the measurement.</qt>"
        )
        self.layer.native.setAccessibleName("layer of the mask")
        quiet_wheel(self.layer.native)
        self.value = number_edit("value", "The value, in the layer's own intensities.")
        self.value.setText("0")
        self._layer_row = labelled({"layer": self.layer.native})
        self._value_row = labelled({"value": self.value})
        self.note = note_label()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        for widget in (labelled({"pixels": self.way}), self._layer_row, self._value_row, self.note):
            column.addWidget(widget)
        self.setFocusProxy(self.way)
        self._offer_given()
        self._show_rows()
        self.way.currentIndexChanged.connect(self._way_chosen)
        self.layer.changed.connect(lambda _: self.changed.emit())
        self.value.textChanged.connect(lambda _: self.changed.emit())
        self._reading.ready.connect(self.changed)
        self._making.ready.connect(self.changed)

    def mask(self) -> Mask | None:
        """Return the mask; ``None`` if missing pixels are NaN.

        Raises
        ------
        OperatorError
            If the layer is missing or has another size than the measurement, or no pixel would be left.
        """
        way = self.way.currentData()
        if way == "nan":
            set_note(self.note, "")
            return None
        if way == "given":
            assert self._given is not None
            layer, plane, value = None, self._given, 0.0
        elif way == "value":
            layer, plane, value = self._source, self._plane(self._source), self._typed()
        else:
            layer, plane, value = self._chosen(), self._plane(self._chosen()), 0.0
            self._check_size(self._chosen(), plane)
        # a mask is painted in place: only its content tells whether it is still the same
        key = (way, value, plane.shape, zlib.crc32(np.ascontiguousarray(plane).data))
        if self._made is None or self._made[0] != key:
            made = self._making.get(
                key,
                "" if layer is None else layer.name,
                partial(_mask, way, np.array(plane), value),
                at_once=plane.size <= _SMALL,
            )
            self._made = (key, *made)
        self._say(self._made[2])
        return self._made[1]

    def set_mask(self, mask: NDArray[Any] | None) -> None:
        """Show a mask that comes from no layer; ``None`` for NaN."""
        self._given = mask
        self._offer_given()
        self.way.setCurrentIndex(self.way.findData("nan" if mask is None else "given"))
        self._show_rows()

    def set_source(self, layer: Layer | None) -> None:
        """Take the measurement's layer."""
        self._source = layer

    def reset_choices(self) -> None:
        """Offer the layers there are now."""
        self.layer.reset_choices()

    def _way_chosen(self) -> None:
        self._show_rows()
        self.changed.emit()

    def _show_rows(self) -> None:
        way = self.way.currentData()
        self._layer_row.setVisible(way in ("painted", "zero"))
        self._value_row.setVisible(way == "value")

    def _offer_given(self) -> None:
        at = self.way.findData("given")
        if self._given is None and at >= 0:
            self.way.removeItem(at)
        elif self._given is not None and at < 0:
            self.way.addItem(_WAYS["given"][0], "given")

    def _typed(self) -> float:
        value = parse_number(self.value.text())
        if isinstance(value, str):
            raise OptionError("'value' is a number", found=f"'{value}'", do="Type the intensity of missing pixels")
        return float(value)

    def _chosen(self) -> Layer:
        layer: Layer | None = self.layer.value
        if layer is None:
            raise OperatorError(
                "No layer is chosen for the mask", do="Add a Labels layer and paint what is missing"
            )
        return layer

    def _plane(self, layer: Layer | None) -> NDArray[Any]:
        """Return the plane of a layer that the viewer shows."""
        from napari_fidelity.widgets._layers import Cut, world_units

        if layer is None:
            raise OperatorError(
                "There is no measurement to look for missing pixels in", do="Choose an image layer"
            )
        cut = Cut.of(layer, self._viewer.dims.point, units=world_units(self._viewer))
        key = (id(cut.data), *sorted(cut.index.items()))
        plane: NDArray[Any] = self._reading.get(key, layer.name, cut.read, at_once=in_memory(cut.data))
        return plane

    def _check_size(self, layer: Layer, plane: NDArray[Any]) -> None:
        from napari_fidelity.widgets._guess import full_data, guess_axes

        if self._source is None:
            return
        axes = guess_axes(self._source)
        measured = tuple(int(full_data(self._source).shape[axes.index(axis)]) for axis in "YX")
        if plane.shape[:2] != measured:
            raise OperatorError(
                f"The mask '{layer.name}' and the measurement differ in size",
                found=f"{times(plane.shape[:2])} and {times(measured)} px",
                do="Choose a layer that is as large as the measurement",
            )

    def _say(self, share: float) -> None:
        stack = self._source is not None and self._source.ndim > 2
        set_note(self.note, f"{100 * share:.3g} % of the pixels are missing." + (f" {_SLICE}" if stack else ""))

    def _choices(self, _: object) -> list[tuple[str, Any]]:
        from napari.layers import Image, Labels

        layers = [layer for layer in self._viewer.layers if isinstance(layer, Image | Labels)]
        layers.sort(key=lambda layer: not isinstance(layer, Labels))  # painted layers first
        found = [(layer.name, layer) for layer in layers if layer is not self._source]
        return found or [("no layer to choose", None)]


def _mask(way: str, plane: NDArray[Any], value: float) -> tuple[Mask, float]:
    """Return the mask and which share of the pixels it hides; a pixel of several colours counts as one."""
    from napari_fidelity.operators import Mask

    if way == "given":
        seen = plane
    else:
        colours = plane[..., None] if plane.ndim == 2 else plane[..., :3]
        marked = (colours == value).all(axis=-1)
        seen = marked if way == "painted" else ~marked
    return Mask(mask=np.asarray(seen, np.float32)), 1 - float(np.count_nonzero(seen)) / seen.size
