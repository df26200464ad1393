"""Layers beside each other, in turn, and two in one: each by one click, and undone by the next."""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QPushButton, QSizePolicy, QSlider, QVBoxLayout, QWidget

from napari_fidelity.widgets._dock import layer_combo, note_label, set_note
from napari_fidelity.widgets._links import Links
from napari_fidelity.widgets._split import SplitView
from napari_fidelity.widgets._ticks import comparable

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Layer
    from qtpy.QtGui import QHideEvent

_BLINK = 500  # ms: two layers a second
_GAP = 4  # px between the boxes of the grid
_STEPS = 1000  # of the split view's slider
_SIDE = "Show the ticked layers in a grid, and no others; press again to go back"
_TURN = "Show the ticked layers in turn, at one place, twice a second: the eye sees what changes"
_SPLIT = "Show one layer left and another right of a border that you can move"


class Before:
    """Which layers and names were visible and how the grid was set; keeps no layer alive."""

    def __init__(self, viewer: ViewerModel) -> None:
        self.visible = weakref.WeakKeyDictionary({layer: layer.visible for layer in viewer.layers})
        self.named = weakref.WeakKeyDictionary({layer: _name_shown(layer) for layer in viewer.layers})
        grid = grid_of(viewer)
        names = ("stride", "shape", "spacing", "enabled")
        self.grid = {name: getattr(grid, name) for name in names if hasattr(grid, name)}
        self.zoomed = 1.0  # by how much side by side has changed the zoom

    def restore(self, viewer: ViewerModel) -> None:
        """Bring it back, for the layers that are still there; others stay as they are."""
        grid = grid_of(viewer)
        for name, value in self.grid.items():
            if getattr(grid, name) != value:
                setattr(grid, name, value)
        if self.zoomed != 1:
            camera_of(viewer).zoom /= self.zoomed
        for layer in list(viewer.layers):
            visible = self.visible.get(layer)
            if visible is not None and layer.visible != visible:
                layer.visible = visible
            _show_name(layer, self.named.get(layer, False))


class ArrangePanel(QWidget):
    """Three buttons, of which one at most is on.

    Parameters
    ----------
    viewer
        Whose layers they are.
    layers
        Returns the layers to look at.
    """

    def __init__(self, viewer: ViewerModel, layers: Callable[[], list[Layer]]) -> None:
        super().__init__()
        self.viewer, self._layers = viewer, layers
        self._before: Before | None = None
        self._turn: weakref.ref[Layer] | None = None
        self.split = SplitView(viewer, self)
        self.timer = QTimer(self)
        self.timer.setInterval(_BLINK)
        self.timer.timeout.connect(self._next)
        self._make()
        self._lay_out()
        self._links = Links(self)
        events = viewer.layers.events
        self._links.connect(self.refresh, events.inserted, events.removed, events.reordered)

    def _make(self) -> None:
        self.side_button = _toggle("Side &by side", _SIDE, self._side)
        self.blink_button = _toggle("Bl&ink", _TURN, self._blink)
        self.split_button = _toggle("Spli&t view", _SPLIT, self._split)
        self.left = layer_combo(self.viewer, "The layer to the left of the border", accept=comparable)
        self.right = layer_combo(self.viewer, "The layer to the right of the border", accept=comparable)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, _STEPS)
        self.slider.setPageStep(_STEPS // 10)
        self.slider.setSingleStep(_STEPS // 100)
        self.slider.setValue(_STEPS // 2)
        self.slider.setAccessibleName("Border of the split view")
        self.slider.setToolTip("Where the border is; the arrow keys move it too")
        self.slider.valueChanged.connect(lambda value: self.split.set_border(value / _STEPS))
        self.left.changed.connect(self._pair_chosen)
        self.right.changed.connect(self._pair_chosen)
        self.split.failed.connect(lambda text: set_note(self.note, text))
        self.split.ready.connect(self._shown)

    def _lay_out(self) -> None:
        self.note = note_label()
        buttons = QHBoxLayout()
        buttons.setSpacing(4)
        for button in self._buttons:
            buttons.addWidget(button, 1)
        self._pair = QWidget()
        form = QFormLayout(self._pair)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("left", self.left.native)
        form.addRow("right", self.right.native)
        form.addRow(self.slider)
        self._pair.hide()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(buttons)
        column.addWidget(self._pair)
        column.addWidget(self.note)

    @property
    def _buttons(self) -> tuple[QPushButton, QPushButton, QPushButton]:
        return self.side_button, self.blink_button, self.split_button

    def hideEvent(self, event: QHideEvent) -> None:
        """Go back when the dock is closed: nobody could stop the blinking any more."""
        super().hideEvent(event)
        if not event.spontaneous():
            self.stop()

    def stop(self) -> None:
        """Undo what is on."""
        for button in self._buttons:
            if button.isChecked():
                button.setChecked(False)

    def refresh(self, event: object = None) -> None:
        """Take note of layers that came, went, were ticked or unticked."""
        pair, shown = self.split.pair, self.split.layer
        needed = [*(pair or ()), *([shown] if shown is not None else [])]
        if any(layer not in self.viewer.layers for layer in needed):
            self.stop()  # before another layer takes its place in the boxes below
        self.left.reset_choices()
        self.right.reset_choices()
        if self.side_button.isChecked():
            self._show_only(self._layers())
        if self.blink_button.isChecked() and not self._layers():
            self.stop()

    def _begin(self, button: QPushButton, least: int) -> list[Layer]:
        """Remember how things are, after undoing what was on; return the layers, none if they are too few."""
        for other in self._buttons:
            if other is not button and other.isChecked():
                other.setChecked(False)
        layers = self._layers()
        if len(layers) < least:
            button.setChecked(False)
            set_note(self.note, "Tick two layers at least.")
            return []
        set_note(self.note, "")
        self._before = Before(self.viewer)
        return layers

    def _end(self) -> None:
        set_note(self.note, "")
        before, self._before = self._before, None
        if before is not None:
            before.restore(self.viewer)

    def _show_only(self, layers: list[Layer], *, images: bool = False) -> None:
        """Show these layers and no others, or no other images."""
        for layer in list(self.viewer.layers):
            wanted = layer in layers
            if layer.visible != wanted and (wanted or not images or comparable(layer)):
                layer.visible = wanted
            if wanted and layer is not self.split.layer:
                _show_name(layer, True)

    def _side(self, on: bool) -> None:
        if not on:
            self._end()
            return
        layers = self._begin(self.side_button, 2)
        if layers:
            self._show_only(layers)
            self._tile()

    def _tile(self) -> None:
        """Turn the grid on, with the field of view there was: its boxes are smaller than the canvas."""
        grid = grid_of(self.viewer)
        boxes = max(grid.actual_shape(self.viewer.layers))
        grid.stride, grid.shape = 1, (-1, -1)
        if hasattr(grid, "spacing"):
            with suppress(ValueError):  # napari 0.6.0 takes a share of the layers' size, of 1 at most
                grid.spacing = _GAP
        grid.enabled = True
        if self._before is not None:
            self._before.zoomed = boxes / max(grid.actual_shape(self.viewer.layers))
            camera_of(self.viewer).zoom *= self._before.zoomed

    def _blink(self, on: bool) -> None:
        if not on:
            self.timer.stop()
            self._turn = None
            self._end()
            return
        if self._begin(self.blink_button, 2):
            grid_of(self.viewer).enabled = False
            self._next()
            self.timer.start()

    def _next(self) -> None:
        """Show the next of the ticked layers that are left."""
        layers = self._layers()
        if not layers:
            self.stop()
            return
        last = self._turn() if self._turn is not None else None
        layer = layers[(layers.index(last) + 1) % len(layers) if last in layers else 0]
        self._turn = weakref.ref(layer)
        self._show_only([layer], images=True)
        set_note(self.note, f"Now: {layer.name}")

    def _split(self, on: bool) -> None:
        self._pair.setVisible(on)
        if not on:
            self.split.stop()
            self._end()
            return
        layers = self._begin(self.split_button, 2)
        if layers:
            grid_of(self.viewer).enabled = False
            self._choose(*layers[-2:])
            self._show_pair()

    def _choose(self, left: Layer, right: Layer) -> None:
        with self.left.changed.blocked(), self.right.changed.blocked():
            self.left.value, self.right.value = left, right

    def _pair_chosen(self, _: Any = None) -> None:
        if self.split_button.isChecked() and None not in (self.left.value, self.right.value):
            self._show_pair()

    def _show_pair(self) -> None:
        self.split.set_border(self.slider.value() / _STEPS)
        self.split.show(self.left.value, self.right.value)

    def _shown(self) -> None:
        set_note(self.note, "")
        if self.split.layer is not None:
            # what sticks out below would pass for a part of it
            self._show_only([self.split.layer], images=True)


def grid_of(viewer: ViewerModel) -> Any:
    """Return the viewer's grid, wherever this napari has it."""
    canvas: Any = getattr(viewer, "canvas", None)
    return canvas.grid if hasattr(canvas, "grid") else viewer.grid


def camera_of(viewer: ViewerModel) -> Any:
    """Return the viewer's camera, wherever this napari has it."""
    scene: Any = getattr(viewer, "scene", None)
    return scene.camera if hasattr(scene, "camera") else viewer.camera


def _name_shown(layer: Layer) -> bool:
    """Whether napari writes the layer's name into the canvas; napari before 0.9 never does."""
    overlay = getattr(layer, "name_overlay", None)
    return overlay is not None and bool(overlay.visible)


def _show_name(layer: Layer, shown: bool) -> None:
    if _name_shown(layer) != shown and hasattr(layer, "name_overlay"):
        layer.name_overlay.visible = shown


def _toggle(text: str, tooltip: str, switched: Callable[[bool], None]) -> QPushButton:
    button = QPushButton(text)
    button.setCheckable(True)
    button.setToolTip(tooltip)
    button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    button.toggled.connect(switched)
    return button
