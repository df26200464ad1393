"""What the axes of the chosen layer are, and how much of each is to be restored."""

from __future__ import annotations

import weakref
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_fidelity.core.errors import FidelityError, ImageError
from napari_fidelity.widgets._guess import full_data, guess_axes
from napari_fidelity.widgets._links import Links
from napari_fidelity.widgets._planes import slice_index
from napari_fidelity.widgets._units import world_units

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.components import ViewerModel
    from napari.layers import Layer

_ROLES = {"T": "time", "Z": "depth", "C": "channel"}
_ONE = {"T": "time point", "Z": "slice", "C": "channel"}
_ROLE_HELP = (
    "What this dimension of the data is. Time points and slices (unless they are one volume) are restored one by "
    "one; the channels of an image are restored together if the network knows that many."
)
_EXTENT_HELP = (
    "All: restore every {one}. Current: only the {one} where the slider below the image stands when you press Run."
)
_HEADS = {
    "Axis": "The dimensions of the data beside rows and columns, first to last",
    "Meaning": "What each dimension is: time, depth or channel",
    "Restore": "All of it, or only where the slider below the image stands",
}


class Choice(NamedTuple):
    """What the user chose for a layer: the role of each dimension, and the axes kept to the current position."""

    axes: str
    current: frozenset[int]


class AxesTable(QWidget):
    """One row for each dimension of the chosen layer beside rows and columns: its role and how much of it."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._layer: Any = _nothing
        self._links = Links(self)
        self._choices: weakref.WeakKeyDictionary[Layer, Choice] = weakref.WeakKeyDictionary()
        self._axes = ""
        self._rows: list[_Row] = []  # those in use
        self._problem: FidelityError | None = None
        self._summary = _words()
        self._memory = _words()
        self._grid = QGridLayout()
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(4)
        self._grid.setVerticalSpacing(2)
        self._heads = [QLabel(text) for text in _HEADS]
        for i, head in enumerate(self._heads):
            head.setToolTip(_HEADS[head.text()])
            self._grid.addWidget(head, 0, i)
            self._grid.setColumnStretch(i, int(i > 0))
        # All there can ever be are made now: later ones would come last when tabbing through the dock.
        self._all_rows = [_Row(self._grid, number) for number, _ in enumerate(_ROLES, 1)]
        for row in self._all_rows:
            row.role.currentIndexChanged.connect(partial(self._role_chosen, row))
            row.extent.currentIndexChanged.connect(self._chosen)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(3)
        column.addWidget(self._summary)
        column.addLayout(self._grid)
        column.addWidget(self._memory)
        self.set_memory("")
        self.set_layer(None)

    def set_layer(self, layer: Layer | None) -> None:
        """Show the axes of a layer; what was chosen for it before is shown again."""
        before = self._layer()
        if layer is before and layer is not None and self._fits(layer):
            return
        if layer is not before:
            self._links.clear()
            self._links.connect(self._layer_changed, *_events(layer))
        self._layer = _nothing if layer is None else weakref.ref(layer)
        self._fill(layer)
        self.changed.emit()

    def axes(self) -> str:
        """Return one letter of ``TZCYXS`` for each dimension of the layer's data.

        Raises
        ------
        ImageError
            If there is no layer, or its dimensions cannot be used.
        """
        if self._problem is not None:
            raise copy(self._problem)  # an error that was raised holds on to what raised it
        return self._axes

    def index(self, viewer: ViewerModel) -> dict[str, int]:
        """Return the position along the axes of which only the current position is to be restored.

        Raises
        ------
        ImageError
            As :meth:`axes`; and if the viewer stands where the layer has nothing.
        """
        axes = self.axes()
        layer = self._layer()
        if layer is None:
            raise ImageError("The layer is gone", do="Choose another one")
        along = "".join(axes[row.dimension] for row in self._rows if row.only_current)
        return slice_index(layer, viewer.dims.point, axes, along, world_units(viewer)) if along else {}

    def set_axes(self, axes: str, index: Mapping[str, int]) -> None:
        """Show the choice of an earlier run: its axes, and only the current position along those in ``index``.

        Axes that do not fit the layer are ignored.
        """
        layer = self._layer()
        if layer is None or not self._usable(axes):
            return
        current = frozenset(i for i, axis in enumerate(axes) if axis in index)
        self._choices[layer] = Choice(axes, current)
        self._fill(layer)
        self.changed.emit()

    def set_memory(self, text: str) -> None:
        """Say what the run will read and hold: "Reads 12 MB, result 200 MB"."""
        self._memory.setText(text)
        self._memory.setVisible(bool(text))

    def _usable(self, axes: str) -> bool:
        alike = len(axes) == len(self._axes) == len(set(axes)) and ("S" in axes) == ("S" in self._axes)
        return alike and {"Y", "X"} <= set(axes) <= set("TZCYXS")

    def _fits(self, layer: Layer) -> bool:
        """Whether the rows still are those of the layer's data."""
        shape = full_data(layer).shape
        return len(shape) == len(self._axes) and all(shape[row.dimension] == row.length for row in self._rows)

    def _layer_changed(self, event: Any) -> None:
        layer = self._layer()
        if layer is None:
            return
        if event.type == "axis_labels" or not self._fits(layer):
            self._choices.pop(layer, None)
            self._fill(layer)
            self.changed.emit()
        else:
            self._summary.setText(_summary(layer, self._axes))

    def _fill(self, layer: Layer | None) -> None:
        self._rows, self._axes, self._problem = [], "", None
        if layer is None:
            self._problem = ImageError("There is no layer", do="Open an image, or choose a layer")
            self._summary.setText("No layer is chosen.")
        else:
            try:
                self._show(layer, self._choices.get(layer) or _default(layer))
            except FidelityError as error:
                self._problem = copy(error)
                self._summary.setText(str(error))
        for head in self._heads:
            head.setVisible(bool(self._rows))
        for row in self._all_rows:
            row.set_visible(row in self._rows)

    def _show(self, layer: Layer, choice: Choice) -> None:
        self._axes = choice.axes
        self._summary.setText(_summary(layer, self._axes))
        labels, shape = getattr(layer, "axis_labels", ()), full_data(layer).shape
        for dimension, axis in enumerate(self._axes):
            if axis not in "YXS":
                row = self._all_rows[len(self._rows)]
                label = _label(labels, dimension, layer.ndim)
                row.show(dimension, label, int(shape[dimension]), axis, dimension in choice.current)
                self._rows.append(row)

    def _role_chosen(self, row: _Row, _: int) -> None:
        """Take over a role; the axis that had it before takes the one that is free now."""
        chosen, before = str(row.role.currentData()), self._axes[row.dimension]
        for other in self._rows:
            if other is not row and self._axes[other.dimension] == chosen:
                other.set_role(before)
        row.set_role(chosen)
        self._chosen()

    def _chosen(self) -> None:
        letters = list(self._axes)
        for row in self._rows:
            letters[row.dimension] = str(row.role.currentData())
        self._axes = "".join(letters)
        layer = self._layer()
        if layer is not None:
            current = frozenset(row.dimension for row in self._rows if row.only_current)
            self._choices[layer] = Choice(self._axes, current)
        self.changed.emit()


class _Row:
    """The widgets of one dimension."""

    def __init__(self, grid: QGridLayout, number: int) -> None:
        self.dimension, self.length = 0, 0
        self.label, self.role, self.extent = QLabel(), _combo(_ROLE_HELP), _combo("")
        self.label.setBuddy(self.role)
        self.role.setMinimumContentsLength(4)  # its longest word is the longest of the table
        for letter, words in _ROLES.items():
            self.role.addItem(words, letter)
        self.extent.addItem("all", False)
        self.extent.addItem("current", True)
        for column, widget in enumerate((self.label, self.role, self.extent)):
            grid.addWidget(widget, number, column)

    @property
    def only_current(self) -> bool:
        return bool(self.extent.currentData())

    def show(self, dimension: int, label: str, length: int, axis: str, current: bool) -> None:
        """Show a dimension without telling anyone."""
        self.dimension, self.length = dimension, length
        what = f"'{label}', of length {length}"
        self.label.setText(label if len(label) <= 7 else f"{label[:6]}…")
        self.label.setToolTip(f"Dimension {dimension + 1} of the data: {what}")
        self.role.setAccessibleName(f"Meaning of {what}")
        self.extent.setAccessibleName(f"How much of {what} to restore")
        with QSignalBlocker(self.extent):
            self.extent.setItemText(0, f"all {length}")
            self.extent.setCurrentIndex(int(current))
        self.extent.setEnabled(length > 1)
        self.set_role(axis)

    def set_role(self, axis: str) -> None:
        """Show a role without telling anyone."""
        with QSignalBlocker(self.role):
            self.role.setCurrentIndex(list(_ROLES).index(axis))
        self.extent.setToolTip(_EXTENT_HELP.format(one=_ONE[axis]))

    def set_visible(self, visible: bool) -> None:
        for widget in (self.label, self.role, self.extent):
            widget.setVisible(visible)


def _events(layer: Layer | None) -> list[Any]:
    if layer is None:
        return []
    return [getattr(layer.events, name) for name in ("data", "axis_labels") if hasattr(layer.events, name)]


def _default(layer: Layer) -> Choice:
    """Begin with one slice of one time point, which is soon done, and with all channels, which belong together."""
    axes = guess_axes(layer)
    shape = full_data(layer).shape
    return Choice(axes, frozenset(i for i, axis in enumerate(axes) if axis in "TZ" and shape[i] > 1))


def _summary(layer: Layer, axes: str) -> str:
    shape = full_data(layer).shape
    size = f"{shape[axes.index('Y')]} × {shape[axes.index('X')]}"
    others = " × ".join(str(n) for axis, n in zip(axes, shape, strict=True) if axis not in "YXS")
    kind = f"{others} planes of " if others else "2-D image, "
    colour = {3: ", RGB", 4: ", RGB (alpha is not used)"}[shape[-1]] if "S" in axes else ""
    return kind + size + colour


def _label(labels: tuple[str, ...], dimension: int, ndim: int) -> str:
    """Return what the user calls a dimension; napari's own numbers count from the end, ours from the front."""
    label = str(labels[dimension]) if dimension < len(labels) else ""
    if not label or label in (str(dimension - ndim), f"axis {dimension - ndim}"):
        return f"axis {dimension}"
    return label


def _combo(tooltip: str) -> QComboBox:
    combo = QComboBox()
    combo.setToolTip(tooltip)
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(2)
    combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    combo.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    return combo


def _words() -> QLabel:
    label = QLabel()
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


def _nothing() -> None:
    """Stand in for the weak reference to a layer where there is none."""
