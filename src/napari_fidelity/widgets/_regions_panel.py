"""Doubtful regions: a threshold on a map makes labels, and a table of their sizes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import QDoubleSpinBox, QHBoxLayout, QPushButton, QSlider, QSpinBox, QVBoxLayout, QWidget

from napari_fidelity.widgets._controls import labelled
from napari_fidelity.widgets._dock import note_label, set_note
from napari_fidelity.widgets._fields import quiet_wheel
from napari_fidelity.widgets._regions_layer import Found, Regions, find
from napari_fidelity.widgets._regions_table import RegionsTable
from napari_fidelity.widgets._worker import run_later

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Layer

_LOWEST, _HIGHEST, _FIRST = 50.0, 99.9, 95.0  # percentiles
_LEAST = 16  # pixels of the smallest region, at first
_WAIT = 150  # ms after the last change
_EDITED = "The labels were edited and stay as they are. The button above adds new ones."


class RegionsPanel(QWidget):
    """Threshold, smallest size, the button that makes the labels, and the table of what was found.

    Parameters
    ----------
    viewer
        Where the labels go.
    shown
        Returns the map that is looked at.

    Attributes
    ----------
    problem
        What went wrong, to be shown.
    """

    problem = Signal(str)

    def __init__(self, viewer: ViewerModel, shown: Callable[[], Layer | None]) -> None:
        super().__init__()
        self.viewer, self._shown = viewer, shown
        self._regions: Regions | None = None
        self._computing = self._stale = self._asked = False
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(round(10 * _LOWEST), round(10 * _HIGHEST))
        self.slider.setAccessibleName("percentile of the map above which it is doubtful")
        self.percentile = QDoubleSpinBox()
        self.percentile.setRange(_LOWEST, _HIGHEST)
        self.percentile.setDecimals(1)
        self.percentile.setSingleStep(0.5)
        self.percentile.setSuffix(" %")
        self.percentile.setAccessibleName("percentile")
        tip = "<qt>So many per cent of the map's pixels lie below the threshold; what is above is doubtful.</qt>"
        self.slider.setToolTip(tip)
        self.percentile.setToolTip(tip)
        self.least = QSpinBox()
        self.least.setRange(1, 10**8)
        self.least.setSuffix(" px")
        self.least.setToolTip("Pixels of the smallest region that counts")
        for widget in (self.slider, self.percentile, self.least):
            quiet_wheel(widget)
        self.button = QPushButton("&Label doubtful regions")
        self.button.setToolTip("Add a labels layer of the regions in which the map exceeds the threshold")
        self.note = note_label()
        self.table = RegionsTable(viewer)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.update_labels)
        self._lay_out()
        self.percentile.setValue(_FIRST)
        self.least.setValue(_LEAST)
        self.map_changed()

    def _lay_out(self) -> None:
        line = QWidget()
        row = QHBoxLayout(line)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.slider, 1)
        row.addWidget(self.percentile)
        line.setToolTip(self.slider.toolTip())
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        for widget in (labelled({"above": line, "at least": self.least}), self.button, self.note, self.table):
            column.addWidget(widget)
        self.slider.valueChanged.connect(lambda value: self.percentile.setValue(value / 10))
        self.percentile.valueChanged.connect(self._percentile_changed)
        self.least.valueChanged.connect(self._changed)
        self.button.clicked.connect(self.make_labels)

    # -- choosing ---------------------------------------------------------------------------------------------

    def map_changed(self) -> None:
        """Follow the map that is looked at; the labels of another one stay as they are."""
        layer = self._shown()
        self.button.setEnabled(layer is not None)
        if self._regions is not None and self._regions.map is not layer:
            self._regions, self._asked = None, False
            self.table.show_regions(None)
            set_note(self.note, "")

    def _percentile_changed(self, value: float) -> None:
        self.slider.blockSignals(True)
        self.slider.setValue(round(10 * value))
        self.slider.blockSignals(False)
        self._changed()

    def _changed(self, _: Any = None) -> None:
        if self._regions is not None and self._regions.shown:
            self._timer.start(_WAIT)

    # -- labels -----------------------------------------------------------------------------------------------

    def make_labels(self) -> None:
        """Add the labels of the map, or bring those that are there up to date; edited ones stay as they are."""
        layer = self._shown()
        if layer is None:
            return
        if self._regions is None:
            self._regions = Regions(self.viewer, layer)
        self._asked = True
        self.update_labels()

    def update_labels(self) -> None:
        """Find the regions in the background, one search at a time."""
        if self._computing:
            self._stale = True
            return
        regions = self._regions
        if regions is None:
            return
        self._computing, self._stale = True, False
        wanted = (self.percentile.value(), self.least.value())
        search = partial(find, regions.data, regions.axes, *wanted, regions.written)
        run_later(search, partial(self._found, regions), self._failed, name="Finding doubtful regions")

    def _found(self, regions: Regions, found: Found) -> None:
        self._computing = False
        if regions is self._regions:
            self._take(regions, found)
        if self._stale:
            self.update_labels()

    def _take(self, regions: Regions, found: Found) -> None:
        """Show what was found, unless somebody has painted in the labels and did not ask for others."""
        if not self._asked and not regions.ours(found):
            set_note(self.note, _EDITED if regions.shown else "")
            return
        self._asked = False
        regions.show(found)
        set_note(self.note, regions.words(found))
        self.table.show_regions(regions, found)

    def _failed(self, error: Exception) -> None:
        self._computing = False
        self.problem.emit(str(error))
