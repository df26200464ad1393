"""Copying a table and saving it as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QApplication, QFileDialog, QHBoxLayout, QPushButton, QWidget

from napari_fidelity.core.errors import FidelityError

if TYPE_CHECKING:
    from collections.abc import Callable


class TableButtons(QWidget):
    """Buttons below a table: copy it, save it.

    Parameters
    ----------
    table
        Where the keyboard's Copy means the whole table.
    text
        Returns the table with this delimiter between the columns.
    file
        Name that is proposed.
    """

    def __init__(self, table: QWidget, text: Callable[[str], str], file: str) -> None:
        super().__init__()
        self._text, self._file = text, file
        self.copy_button = QPushButton("Cop&y")
        self.copy_button.setToolTip("Copy the table, to be pasted into a spreadsheet")
        self.save_button = QPushButton("Sav&e CSV…")
        self.save_button.setToolTip("Save the table as a file of comma-separated values")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.copy_button)
        row.addWidget(self.save_button)
        self.copy_button.clicked.connect(self.copy)
        self.save_button.clicked.connect(self.save)
        shortcut = QShortcut(QKeySequence(QKeySequence.StandardKey.Copy), table)
        shortcut.setContext(Qt.ShortcutContext.WidgetShortcut)
        shortcut.activated.connect(self.copy)

    def copy(self) -> None:
        """Put the table into the clipboard, with tabs between the columns."""
        QApplication.clipboard().setText(self._text("\t"))

    def save(self) -> None:
        """Ask for a file and write the table to it."""
        from napari_fidelity.io import atomic_write

        path, _ = QFileDialog.getSaveFileName(
            self, "Save the table", str(Path.home() / self._file), "Comma-separated values (*.csv)"
        )
        if not path:
            return
        named = Path(path)
        # The dialog has asked about the name it knows; one completed here must not replace a file unasked.
        complete = named if named.suffix else named.with_suffix(".csv")
        try:
            with atomic_write(complete, overwrite=complete == named) as temporary:
                temporary.write_text(self._text(","), encoding="utf-8")
        except FidelityError as error:
            from napari.utils.notifications import show_error

            show_error(str(error))
