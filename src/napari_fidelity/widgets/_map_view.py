"""Looking at a map: which one, its colours, its numbers, and the image below it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_fidelity.widgets._controls import choice
from napari_fidelity.widgets._dock import layer_combo, note_label, set_note
from napari_fidelity.widgets._map_look import COLOURS, colours_of, lies_over, paint, signed
from napari_fidelity.widgets._map_numbers import numbers_html, void_words
from napari_fidelity.widgets._reproduce import judged_of, measurement_of, record_of
from napari_fidelity.widgets._ticks import comparable, is_trust_map

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_VOID = "QLabel { border-left: 4px solid #d33; padding-left: 6px; }"


class MapView(QWidget):
    """The map that is looked at.

    Attributes
    ----------
    changed
        Another map was chosen, or there is none.
    weights_requested
        The map is to be the weights of a fine-tuning.
    """

    changed = Signal()
    weights_requested = Signal(object)

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.viewer = viewer
        self._before: dict[str, Any] = {}
        self.layer = layer_combo(viewer, "The map to look at", accept=is_trust_map)
        self.void, self.numbers = note_label(), QLabel()
        self.void.setStyleSheet(_VOID)
        self.numbers.setWordWrap(True)
        self.numbers.setTextFormat(Qt.TextFormat.RichText)
        self.numbers.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.colours = choice(COLOURS, "colours", "Colours of the map; equal steps look equal in all of them.")
        self.bar = QCheckBox("colour &bar")
        self.bar.setToolTip("Show in the corner of the image which colour is which number")
        self.bar.setChecked(True)
        self.over = QCheckBox("o&ver the result")
        self.over.setToolTip(
            "Lay the map over the image it judges, and let the image through where the map is small"
        )
        self.weights = QPushButton("Fine-tune by this &map…")
        self.weights.setToolTip(
            "Open Correct with this map as the weights of the pixels: uncertain ones count less in the fit to the "
            "data"
        )
        self.weights.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._lay_out()
        self.layer.changed.connect(self._chosen)
        self.colours.currentIndexChanged.connect(self._paint)
        self.bar.toggled.connect(self._show_bar)
        self.over.toggled.connect(self._lay_over)
        self.weights.clicked.connect(lambda: self.weights_requested.emit(self.layer.value))
        self.refresh()

    def _lay_out(self) -> None:
        ticks = QHBoxLayout()
        ticks.setContentsMargins(0, 0, 0, 0)
        ticks.addWidget(self.bar)
        ticks.addWidget(self.over)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        for widget in (self.layer.native, self.void, self.numbers, self.colours):
            column.addWidget(widget)
        column.addLayout(ticks)
        column.addWidget(self.weights)

    def refresh(self) -> None:
        """Offer the maps there are now."""
        before = self.layer.value
        self.layer.reset_choices()
        if self.layer.value is not before or before is None:
            self._chosen()

    def choose(self, layer: Layer | None) -> None:
        """Look at a map, if it is one."""
        if layer is not None and layer in self.layer.choices:
            self.layer.value = layer

    def _chosen(self, _: Any = None) -> None:
        layer = self.layer.value
        for widget in (self.colours, self.bar, self.over, self.weights):
            widget.setEnabled(layer is not None)
        self._show_numbers(layer)
        if layer is not None:
            self._show_look(layer)
        self.changed.emit()

    def show_again(self) -> None:
        """Show what is known of the map by now."""
        self._show_numbers(self.layer.value)

    def _show_numbers(self, layer: Layer | None) -> None:
        record = record_of(layer)
        text = "" if layer is None else numbers_html(record, layer.data)
        self.numbers.setText(text)
        self.numbers.setVisible(bool(text))
        set_note(self.void, void_words(record))

    def _show_look(self, layer: Layer) -> None:
        """Show how the map looks, without changing it; the colour bar goes from the other maps to it."""
        widgets = (self.colours, self.over)
        for widget in widgets:
            widget.blockSignals(True)
        at = self.colours.findData(colours_of(layer))
        if at >= 0:
            self.colours.setCurrentIndex(at)
        self.colours.setVisible(not signed(layer))  # those have colours of their own
        self.over.setChecked(lies_over(layer))
        for widget in widgets:
            widget.blockSignals(False)
        self._show_bar(self.bar.isChecked())

    def _paint(self, _: Any = None) -> None:
        layer = self.layer.value
        if layer is not None:
            paint(layer, self.colours.currentData(), over=self.over.isChecked())

    def _show_bar(self, shown: bool) -> None:
        """Show the colour bar of the map that is looked at: several in a row do not say whose they are."""
        for layer in self.layer.choices:
            if hasattr(layer, "colorbar"):
                layer.colorbar.visible = shown and layer is self.layer.value

    def _lay_over(self, over: bool) -> None:
        """Put the map on top of its image, or take it off again."""
        layer = self.layer.value
        if layer is None:
            return
        self._paint()
        below = judged_of(self.viewer, layer) or measurement_of(self.viewer, layer)
        layer.visible = True
        if not over or below is None:
            return
        below.visible = True
        layers = self.viewer.layers
        for other in layers[layers.index(below) + 1 :]:
            if other is not layer and other.visible and comparable(other):
                other.visible = False  # it would hide the image
        if layers.index(layer) < layers.index(below):
            layers.move(layers.index(layer), layers.index(below) + 1)
