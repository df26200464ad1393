"""The table of scores: a layer's name on a line of its own, so that it is readable in a narrow dock."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from qtpy.QtCore import QSize, Qt, QTimer
from qtpy.QtGui import QFontMetrics
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTreeWidget, QTreeWidgetItem, QVBoxLayout, QWidget

from napari_fidelity.widgets._dock import note_label, set_note
from napari_fidelity.widgets._table_file import TableButtons

if TYPE_CHECKING:
    from qtpy.QtGui import QResizeEvent

    from napari_fidelity.metrics import Row
    from napari_fidelity.widgets._comparison import Scored, Scores

_PADDING = 8  # px around a number
_LINES = 12  # lines shown before the table scrolls


class Column(NamedTuple):
    """One score: its heading, digits, which direction is better and what it means."""

    score: str
    head: str
    digits: int
    higher: bool
    meaning: str


COLUMNS = (
    Column(
        "psnr", "PSNR ↑", 2, True,
        "Peak signal-to-noise ratio against the reference, in dB: how far pixel values are from the true ones. "
        "Higher is better; 6 dB more is half the error.",
    ),
    Column(
        "ssim", "SSIM ↑", 4, True,
        "Structural similarity to the reference: whether local patterns agree. Higher is better, 1 is equal.",
    ),
    Column(
        "lpips", "LPIPS ↓", 4, False,
        "Learned perceptual distance to the reference: how different the two look to the eye. Lower is better, "
        "0 is equal.",
    ),
    Column(
        "residual", "Resid. ↓", 4, False,
        "Data residual: root mean square of A x − y, in the measurement's intensity units. Lower agrees better "
        "with the data; below the noise level the image explains noise.",
    ),
    Column(
        "lr_psnr", "LR-PSNR ↑", 2, True,
        "The data residual as a signal-to-noise ratio, in dB. Higher agrees better with the measurement.",
    ),
    Column(
        "flicker", "Flick. ↓", 4, False,
        "Flicker of a time series: standard deviation over time where nothing moves, in intensity units. Lower is "
        "steadier; an image that never changes has none, so look at the others too.",
    ),
)  # fmt: skip
"""What the table shows, from left to right."""


class ScoreTable(QWidget):
    """Scores of layers, the best ones bold, to be copied and saved.

    Attributes
    ----------
    tree
        Two lines for each layer, its name and its numbers; opened, one line for each slice in between.
    caption
        What the numbers were taken against, and how.
    notes
        Why numbers are missing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._scores: Scores | None = None
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._fit)
        self.tree = _tree()
        self.caption, self.notes = note_label(), note_label()
        self.buttons = TableButtons(self.tree, self._text, "scores.csv")
        self.copy_button, self.save_button = self.buttons.copy_button, self.buttons.save_button
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        for widget in (self.tree, self.caption, self.notes, self.buttons):
            column.addWidget(widget)
        for opened in (self.tree.itemExpanded, self.tree.itemCollapsed):
            opened.connect(lambda _: self._later.start(0))
        self.show_scores(None)

    def show_scores(self, scores: Scores | None, caption: str = "") -> None:
        """Show scores in place of those before."""
        self._scores = scores
        self.tree.clear()
        self.setVisible(scores is not None and bool(scores.layers))
        if scores is None:
            return
        rows = [scored.row for scored in scores.layers]
        for i, column in enumerate(COLUMNS, 1):
            self.tree.setColumnHidden(i, all(math.isnan(getattr(row, column.score)) for row in rows))
        several = any(scored.slices for scored in scores.layers)
        self.tree.setRootIsDecorated(several)
        best = {column.score: _best(column, rows) for column in COLUMNS}
        for scored in scores.layers:
            self._add(scored, best, several)
        self._fit()
        set_note(self.caption, caption)
        set_note(self.notes, _remarks(rows))

    @property
    def rows(self) -> list[Row]:
        """Every row of the table."""
        return [] if self._scores is None else self._scores.rows()

    def _text(self, delimiter: str) -> str:
        from napari_fidelity.metrics import to_csv

        return to_csv(self.rows, delimiter=delimiter)

    def _add(self, scored: Scored, best: dict[str, float], several: bool) -> None:
        name = QTreeWidgetItem([scored.row.name])
        name.setToolTip(0, scored.row.name)
        name.setTextAlignment(0, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignBottom)
        name.setSizeHint(0, QSize(0, self.fontMetrics().height() + 8))  # a gap above each layer
        self.tree.addTopLevelItem(name)
        name.setFirstColumnSpanned(True)
        for row in scored.slices:
            at = row.name.removeprefix(scored.row.name).strip()
            name.addChild(_numbers(at, row))
        head = f"mean of {len(scored.slices)}" if scored.slices else ""
        numbers = _numbers(head if several else "", scored.row, best)
        self.tree.addTopLevelItem(numbers)

    def _fit(self) -> None:
        """Make the table as high as its lines; share the width among the columns, if it is enough for all."""
        tree = self.tree
        room = tree.viewport().width()
        widths = self._widths(arrows=True)
        if sum(widths.values()) > room:  # the tooltips tell the better direction as well
            widths = self._widths(arrows=False)
        spare = max(room - sum(widths.values()), 0) // max(len(widths) - 1, 1)
        for i, width in widths.items():
            tree.setColumnWidth(i, width + (spare if i else 0))
        item, heights = tree.topLevelItem(0), list[int]()
        while item is not None and len(heights) < _LINES:
            heights.append(tree.visualItemRect(item).height())
            item = tree.itemBelow(item)
        bar = tree.horizontalScrollBar().sizeHint().height() if sum(widths.values()) > room else 0
        tree.setFixedHeight(tree.header().sizeHint().height() + sum(heights) + bar + 2 * tree.frameWidth() + 2)

    def _widths(self, arrows: bool) -> dict[int, int]:
        """Return the least width of each column; Qt's own hints are too wide for five of them in a narrow dock."""
        tree = self.tree
        bold = tree.font()
        bold.setBold(True)
        wide = QFontMetrics(bold).horizontalAdvance
        layers = self._scores.layers if self._scores else ()
        # The names reach over all columns: in the first one only positions of slices count.
        places = [row.name.removeprefix(scored.row.name) for scored in layers for row in scored.slices]
        widths = {0: max((wide(place) for place in places), default=1 - 3 * tree.indentation())}
        widths[0] += 3 * tree.indentation()
        rows = [row for scored in layers for row in (scored.row, *scored.slices)]
        for i, column in enumerate(COLUMNS, 1):
            head = column.head if arrows else column.head.split()[0]
            tree.headerItem().setText(i, head)
            if not tree.isColumnHidden(i):
                texts = [_cell(column, getattr(row, column.score)) for row in rows]
                title = tree.header().fontMetrics().horizontalAdvance(head)
                widths[i] = max(*(wide(text) for text in texts), title) + _PADDING
        return widths

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Share the new width among the columns."""
        super().resizeEvent(event)
        if self._scores is not None:
            self._later.start(0)


class _Tree(QTreeWidget):
    """A tree that asks for no width of its own."""

    def sizeHint(self) -> QSize:
        return QSize(120, super().sizeHint().height())

    def minimumSizeHint(self) -> QSize:
        return QSize(120, super().minimumSizeHint().height())


def _tree() -> QTreeWidget:
    tree = _Tree()
    tree.setHeaderLabels(["slice", *(column.head for column in COLUMNS)])
    tree.setAccessibleName("Scores")
    tree.setToolTip("The best number of each column is bold. Open a layer to see its slices.")
    head = tree.headerItem()
    head.setToolTip(0, "Position along the sliders; the mean is over all slices")
    for i, column in enumerate(COLUMNS, 1):
        head.setToolTip(i, column.meaning)
        head.setTextAlignment(i, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    tree.header().setStyleSheet("QHeaderView::section { padding: 2px; }")
    tree.header().setMinimumSectionSize(1)
    tree.header().setStretchLastSection(False)
    tree.header().setSectionsMovable(False)
    tree.header().setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
    tree.setIndentation(12)
    tree.setUniformRowHeights(False)
    tree.setTextElideMode(Qt.TextElideMode.ElideMiddle)
    tree.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    tree.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
    return tree


def _numbers(head: str, row: Row, best: dict[str, float] | None = None) -> QTreeWidgetItem:
    """Return the line of a row's numbers."""
    item = QTreeWidgetItem([head, *(_cell(column, getattr(row, column.score)) for column in COLUMNS)])
    for i, column in enumerate(COLUMNS, 1):
        value = getattr(row, column.score)
        item.setTextAlignment(i, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        meaning = column.meaning
        if column.score == "flicker" and not math.isnan(row.flicker_ratio):
            meaning += f" Here {row.flicker_ratio:.3g} times that of the enlarged measurement."
        item.setToolTip(i, meaning if not math.isnan(value) else "\n".join(row.notes) or meaning)
        if best is not None and value == best[column.score]:
            font = item.font(i)
            font.setBold(True)
            item.setFont(i, font)
    return item


def _cell(column: Column, value: float) -> str:
    """Return a number as it is read: of those in intensity units four digits, whatever these are."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    return f"{value:.4g}" if column.score in ("residual", "flicker") else f"{value:.{column.digits}f}"


def _best(column: Column, rows: list[Row]) -> float:
    """Return the best of a column, NaN where there is nothing to choose from."""
    values = [value for value in (getattr(row, column.score) for row in rows) if not math.isnan(value)]
    if len(values) < 2:
        return math.nan
    return max(values) if column.higher else min(values)


def _remarks(rows: list[Row]) -> str:
    return "\n".join(f"{row.name}: {note}" for row in rows for note in row.notes)
