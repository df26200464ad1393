"""The card of a model: what is known of the chosen network, in a window beside the docks."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, Qt, QTimer, Signal
from qtpy.QtGui import QFontDatabase
from qtpy.QtWidgets import (
    QApplication,
    QDialog,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_fidelity.widgets._dock import fold_away
from napari_fidelity.widgets._model_memory import trusted
from napari_fidelity.widgets._model_rows import further, linked, rows
from napari_fidelity.widgets._model_trust import in_full

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fidelity.core.errors import FidelityError
    from napari_fidelity.networks.info import ModelInfo

_LINK = {True: "#7cb7ff", False: "#0a58ca"}  # of links, by whether they are on a dark ground
_SIZE = (440, 560)
_RESTYLED = (QEvent.Type.PaletteChange, QEvent.Type.StyleChange)


class ModelCard(QDialog):
    """A window that tells everything about one model; it may stay open while another is chosen.

    Attributes
    ----------
    distrusted
        The user does not trust the file any more: its SHA-256.
    """

    distrusted = Signal(str)

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("About the network")
        self.resize(*_SIZE)
        self._name = self._drawn = ""
        self._info: ModelInfo | None = None
        self._error: FidelityError | None = None
        self._restyled = QTimer(self)
        self._restyled.setSingleShot(True)
        self._restyled.timeout.connect(self._restyle)
        self.area = QScrollArea()
        self.area.setWidgetResizable(True)
        self.area.setFrameShape(QScrollArea.Shape.NoFrame)
        self.area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.close_button = QPushButton("Close")
        self.close_button.clicked.connect(self.close)
        foot = QHBoxLayout()
        foot.addStretch(1)
        foot.addWidget(self.close_button)
        column = QVBoxLayout(self)
        column.addWidget(self.area, 1)
        column.addLayout(foot)

    def tell(self, name: str, info: ModelInfo | None, error: FidelityError | None) -> None:
        """Tell of a model.

        Parameters
        ----------
        name
            Bundled id or path.
        info
            What is known of it; ``None`` while its file is being read, or if that failed.
        error
            Why it failed.
        """
        self._name, self._info, self._error = name, info, error
        self._fill()

    def changeEvent(self, event: QEvent) -> None:
        """Keep links readable in any theme; Qt calls this."""
        super().changeEvent(event)
        if event.type() in _RESTYLED and hasattr(self, "_restyled"):
            self._restyled.start()  # the palette follows later, and Qt is going through what is filled anew

    def _restyle(self) -> None:
        if self._drawn and self._link() != self._drawn:
            self._fill()

    def _fill(self) -> None:
        self._drawn = self._link()
        page = QWidget()
        column = QVBoxLayout(page)
        info, error = self._info, self._error
        column.addWidget(self._text(info.id if info is not None else _file_name(self._name), bold=True))
        if info is None:
            column.addWidget(self._text("Reading the file …" if error is None else in_full(error)))
        column.addWidget(self._main())
        if info is not None and info.card:
            column.addWidget(fold_away("Everything else the file tells", self._table(further(info.card))))
        column.addStretch(1)
        self.area.setWidget(page)  # which deletes the one before

    def _main(self) -> QWidget:
        """Return the rows that every model has, and its file."""
        info, error = self._info, self._error
        table = self._table(rows(info) if info is not None else {})
        sha256 = info.sha256 if info is not None else getattr(error, "sha256", "")
        bundled = info is not None and info.id == self._name
        _add(table, "file", self._text("comes with the plugin") if bundled else Exact("file", self._name))
        if sha256:
            _add(table, "SHA-256", Exact("SHA-256", sha256))
        if info is not None and sha256 in trusted():
            _add(table, "trust", self._trust(sha256))
        return table

    def _trust(self, sha256: str) -> QWidget:
        button = QPushButton("Trust it no longer")
        button.setToolTip("<qt>You let this file run code; from now on it asks again.</qt>")
        button.clicked.connect(lambda: self.distrusted.emit(sha256))
        return button

    def _table(self, known: Mapping[str, str]) -> QWidget:
        table = QWidget()
        grid = QGridLayout(table)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(10)
        grid.setVerticalSpacing(5)
        grid.setColumnStretch(1, 1)
        for heading, words in known.items():
            if words:
                _add(table, heading, self._text(words))
        return table

    def _text(self, words: str, *, bold: bool = False) -> QLabel:
        html = linked(words, self._drawn).replace("\n", "<br>").replace("    ", "&nbsp;" * 4)
        label = QLabel(f"<b>{html}</b>" if bold else html)
        label.setTextFormat(Qt.TextFormat.RichText)
        label.setWordWrap(True)
        flags = Qt.TextInteractionFlag.TextSelectableByMouse
        if "<a " in html:  # and no other label is a stop on the keyboard's way
            flags = Qt.TextInteractionFlag.TextBrowserInteraction
            label.setOpenExternalLinks(True)
        label.setTextInteractionFlags(flags)
        return label

    def _link(self) -> str:
        """Return the colour of links on the ground of now."""
        self.ensurePolished()  # a style sheet reaches the palette only then
        return _LINK[self.palette().color(self.foregroundRole()).lightness() > 128]


class Exact(QWidget):
    """A text that counts letter by letter: can be selected and copied, is never broken into lines."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__()
        self.line = QLineEdit(text)
        self.line.setReadOnly(True)
        self.line.setCursorPosition(0)
        self.line.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self.line.setAccessibleName(name)
        self.line.setToolTip(f"<qt>{escape(text)}</qt>")
        self.copy = QPushButton("Copy")
        self.copy.setToolTip(f"Copy: {name}")
        self.copy.setAccessibleName(f"copy {name}")
        self.copy.clicked.connect(lambda: QApplication.clipboard().setText(text))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.line, 1)
        row.addWidget(self.copy)


def _add(table: QWidget, heading: str, widget: QWidget) -> None:
    grid: Any = table.layout()
    label = QLabel(heading)
    label.setBuddy(widget)
    row = grid.rowCount()
    grid.addWidget(label, row, 0, Qt.AlignmentFlag.AlignTop)
    grid.addWidget(widget, row, 1)


def _file_name(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]
