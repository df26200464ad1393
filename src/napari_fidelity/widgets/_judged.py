"""Which result is judged, and what is known of how it was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_fidelity.widgets._dock import layer_combo, note_label, set_note
from napari_fidelity.widgets._method_panel import MethodPanel
from napari_fidelity.widgets._prior_panel import PriorPanel
from napari_fidelity.widgets._reproduce import record_of
from napari_fidelity.widgets._ticks import comparable, is_map

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_fidelity.pipeline import Recipe

_NONE = "(the method below makes it)"


class JudgedPanel(QWidget):
    """A combo box of results, and what is known of the chosen one.

    Attributes
    ----------
    changed
        Another one was chosen, or none: the layer.
    """

    changed = Signal(object)

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._last: Layer | None = None
        self.layer = layer_combo(
            viewer,
            "The image to be judged: a result of Correct or Reconstruct, or one made elsewhere. Without one, the "
            "method below makes it of the measurement",
            accept=lambda layer: comparable(layer) and not is_map(layer),
            none=_NONE,
        )
        self.note = note_label()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.layer.native)
        column.addWidget(self.note)
        self.layer.native.currentIndexChanged.connect(self._look)  # magicgui says nothing when none is chosen

    def refresh(self) -> None:
        """Offer the layers there are now."""
        before = self.layer.native.blockSignals(True)
        self.layer.reset_choices()
        self.layer.native.blockSignals(before)
        self._look()

    def show_layer(self, layer: Layer | None) -> None:
        """Choose a layer, or none, without telling anybody."""
        before = self.layer.native.blockSignals(True)
        self.layer.value = self._last = layer if layer in self.layer.choices else None
        self.layer.native.blockSignals(before)

    def _look(self, _: int = 0) -> None:
        if self.layer.value is not self._last:
            self._last = self.layer.value
            self.changed.emit(self._last)

    def say(self, text: str) -> None:
        """Say what is known of the chosen one."""
        set_note(self.note, text)


def is_result(layer: Layer | None) -> bool:
    """Whether a layer is an image of this plugin that can be judged."""
    return layer is not None and "recipe" in record_of(layer) and not is_map(layer)


def made_in_words(recipe: Recipe, layer: Layer) -> str:
    """Say how a result was made."""
    words = {**MethodPanel.methods, **PriorPanel.methods}
    kind = recipe.method.kind
    how = words[kind][0] if kind in words else kind
    network = f" with {recipe.model.name.replace(chr(92), '/').rpartition('/')[2]}" if recipe.model else ""
    return f"{how}{network} of '{record_of(layer).get('source', {}).get('layer', '?')}'."
