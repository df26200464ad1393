"""The list of image layers of which the user ticks some."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QListWidget, QListWidgetItem

from napari_fidelity.widgets._guess import KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from napari.components import ViewerModel
    from napari.layers import Layer

_LINES = 6  # layers shown before the list scrolls


class LayerTicks(QListWidget):
    """A box to tick for each image layer, topmost first as in napari's list; it keeps no layer alive.

    New layers come ticked, but for maps such as differences.
    """

    ticked = Signal()
    """Layers were ticked or unticked, or those that were came or went."""

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.viewer = viewer
        self._wanted: weakref.WeakKeyDictionary[Layer, bool] = weakref.WeakKeyDictionary()
        self._shown: list[weakref.ref[Layer]] = []
        self.setAccessibleName("Layers to compare")
        self.setToolTip("The layers to compare: tick them with the mouse or the space bar")
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.itemChanged.connect(self._changed)
        self.refresh()

    def refresh(self) -> None:
        """List the layers there are now."""
        before = self.layers()
        shown = [layer for layer in reversed(self.viewer.layers) if comparable(layer)]
        self._shown = [weakref.ref(layer) for layer in shown]
        row = self.currentRow()
        self.blockSignals(True)
        self.clear()
        for layer in shown:
            item = QListWidgetItem(layer.name)
            item.setToolTip(layer.name)
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            wanted = self._wanted.setdefault(layer, not is_map(layer))
            item.setCheckState(Qt.CheckState.Checked if wanted else Qt.CheckState.Unchecked)
            self.addItem(item)
        self.setCurrentRow(min(max(row, 0), self.count() - 1))
        self.blockSignals(False)
        self._fit()
        if [id(layer) for layer in self.layers()] != [id(layer) for layer in before]:
            self.ticked.emit()

    def layers(self) -> list[Layer]:
        """Return the ticked layers that are still there, in the viewer's order: the lowest first."""
        found = []
        for i, reference in enumerate(self._shown):
            layer, item = reference(), self.item(i)
            if layer is not None and item is not None and item.checkState() == Qt.CheckState.Checked:
                found.append(layer)
        return [layer for layer in reversed(found) if layer in self.viewer.layers]

    def tick(self, layers: Iterable[Layer]) -> None:
        """Tick these layers and no others."""
        chosen = {id(layer) for layer in layers}
        self._set(lambda layer: id(layer) in chosen)

    def sizeHint(self) -> QSize:
        """Ask for the height of the layers there are."""
        return QSize(120, self.height())

    def _set(self, wanted: Callable[[Layer], bool]) -> None:
        for reference in self._shown:
            layer = reference()
            if layer is not None:
                self._wanted[layer] = wanted(layer)
        self.refresh()

    def _changed(self, item: QListWidgetItem) -> None:
        layer = self._shown[self.row(item)]()
        if layer is not None:
            self._wanted[layer] = item.checkState() == Qt.CheckState.Checked
        self.ticked.emit()

    def _fit(self) -> None:
        line = max(self.sizeHintForRow(0), self.fontMetrics().height() + 4)
        self.setFixedHeight(min(max(self.count(), 2), _LINES) * line + 2 * self.frameWidth() + 2)


def comparable(layer: Layer) -> bool:
    """Whether a layer holds an image that is not a helper of the dock."""
    from napari.layers import Image

    return isinstance(layer, Image) and "view" not in _record(layer)


def is_map(layer: Layer) -> bool:
    """Whether a layer shows differences, residuals, or how far a result can be trusted."""
    return bool({"map", "output"} & _record(layer).keys())


def is_trust_map(layer: Layer) -> bool:
    """Whether a layer says how far a result can be trusted, in numbers with colours of their own."""
    output = _record(layer).get("output", {})
    return comparable(layer) and output.get("quantity", "intensity") != "intensity"


def _record(layer: Layer) -> dict[str, Any]:
    record = layer.metadata.get(KEY)
    return record if isinstance(record, dict) else {}


def partner_of(layers: Sequence[Layer]) -> tuple[Layer | None, Layer | None]:
    """Return the measurement among some layers, and the reference it was made of; the last pair there is.

    A measurement notes its image formation and, where it is a sample, the name of its reference; a result notes
    the name of its measurement.
    """
    named = {layer.name: layer for layer in layers}
    measurement = None
    for layer in layers:
        record = _record(layer)
        source = record.get("source")
        if "formation" in record:
            measurement = layer
        elif "recipe" in record and isinstance(source, dict) and source.get("layer") in named:
            measurement = named[source["layer"]]
    reference = None if measurement is None else named.get(str(_record(measurement).get("of")))
    return measurement, reference
