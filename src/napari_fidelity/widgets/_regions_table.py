"""The table of doubtful regions: their sizes, and a click that goes there."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem, QVBoxLayout, QWidget

from napari_fidelity.widgets._dock import note_label, set_note
from napari_fidelity.widgets._table_file import TableButtons

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_fidelity.uncertainty.regions import Region
    from napari_fidelity.widgets._regions_layer import Found, Regions

_ROWS = 200  # shown; copied and saved are all
_LINES = 6  # seen before the table scrolls
_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter


class RegionsTable(QWidget):
    """One line for each region, the largest first."""

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.viewer = viewer
        self._regions: Regions | None = None
        self._found: list[Region] = []
        self.table = QTableWidget(0, 0)
        self.table.setAccessibleName("Doubtful regions")
        self.table.setToolTip("Click a line to go to the region")
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(self.fontMetrics().height() + 8)
        self.table.setMinimumWidth(1)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        header.setMinimumSectionSize(1)
        header.setHighlightSections(False)
        self.more = note_label()
        self.buttons = TableButtons(self.table, self.text, "doubtful-regions.csv")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        for widget in (self.table, self.more, self.buttons):
            column.addWidget(widget)
        self.table.itemSelectionChanged.connect(self._go)
        self.show_regions(None)

    def show_regions(self, regions: Regions | None, found: Found | None = None) -> None:
        """Show regions in place of those before; nothing is left of an empty table."""
        self._regions = regions
        self._found = found.regions if found is not None else []
        self.setVisible(bool(self._found))
        if regions is None or not self._found:
            return
        heads = ["label", "pixels", *([regions.unit] if regions.unit else []), "mean"]
        shown = self._found[:_ROWS]
        self.table.blockSignals(True)
        self.table.clear()
        self.table.setColumnCount(len(heads))
        self.table.setHorizontalHeaderLabels(heads)
        self.table.setRowCount(len(shown))
        for line, region in enumerate(shown):
            area = [f"{regions.area(region):.3g}"] if regions.unit else []
            for column, text in enumerate([str(region.label), str(region.pixels), *area, f"{region.mean:.3g}"]):
                item = QTableWidgetItem(text)
                item.setTextAlignment(_RIGHT)
                self.table.setItem(line, column, item)
        self.table.clearSelection()
        self.table.blockSignals(False)
        self._fit(len(shown))
        left = len(self._found) - len(shown)
        set_note(self.more, f"and {left} smaller ones; copied and saved are all" if left else "")

    def text(self, delimiter: str) -> str:
        """Return all regions as text: centres in world coordinates, areas in the layer's unit."""
        regions = self._regions
        if regions is None or regions.layer is None:
            return ""
        layer, written = regions.layer, io.StringIO()
        names = [f"centre_{i}" for i in range(layer.ndim)]
        names[-2:] = ["centre_y", "centre_x"]
        area = [f"area ({regions.unit})"] if regions.unit else []
        writer = csv.writer(written, delimiter=delimiter, lineterminator="\n")
        writer.writerow(["label", "pixels", *area, "mean", "largest", *names])
        for region in self._found:
            size = [f"{regions.area(region):.6g}"] if regions.unit else []
            numbers = [f"{number:.6g}" for number in (region.mean, region.largest)]
            centre = [f"{number:.6g}" for number in layer.data_to_world(region.centre)]
            writer.writerow([region.label, region.pixels, *size, *numbers, *centre])
        return written.getvalue()

    def _go(self) -> None:
        rows: list[Any] = self.table.selectionModel().selectedRows()
        if rows and self._regions is not None:
            self._regions.go_to(self._found[rows[0].row()])

    def _fit(self, lines: int) -> None:
        table = self.table
        height = table.rowHeight(0) * min(lines, _LINES) + table.horizontalHeader().sizeHint().height()
        table.setFixedHeight(height + 2 * table.frameWidth() + 2)
