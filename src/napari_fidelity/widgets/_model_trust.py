"""Files that run code when they are opened: the user is asked first, once for each content."""

from __future__ import annotations

from html import escape
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QMessageBox, QPushButton, QVBoxLayout, QWidget

from napari_fidelity.core.errors import FidelityError, UntrustedModelError
from napari_fidelity.widgets._model_memory import trust

_RISK = (
    "Such code can do whatever you can: read, change or send your files. Trust it only if you know who made it, "
    "and compare the SHA-256 with the one they tell."
)


class TrustButton(QWidget):
    """A button that asks whether a file may run code; hidden while there is no such file.

    Attributes
    ----------
    trusted
        The user trusts it: SHA-256 of the file.
    """

    trusted = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._error: UntrustedModelError | None = None
        self.question: QMessageBox | None = None
        self.button = QPushButton("&Trust and load…")
        self.button.setToolTip("<qt>Says what the file would run, and asks before anything is run.</qt>")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.button)
        self.button.clicked.connect(self.ask)
        self.show_for(None)

    def show_for(self, error: Exception | None) -> None:
        """Offer to trust the file that could not be opened for want of trust; hide after any other outcome."""
        self._error = error if isinstance(error, UntrustedModelError) else None
        self.setVisible(self._error is not None)
        if self.question is not None:  # it is about another file
            self.question.reject()

    def ask(self) -> None:
        """Ask whether the file may run code; does not wait for the answer."""
        if self._error is None or self.question is not None:
            return
        self.question = _question(self, self._error)
        self.question.finished.connect(self._answered)
        self.question.open()

    def _answered(self) -> None:
        question, self.question = self.question, None
        if question is None:
            return
        clicked = question.clickedButton()  # none where the question was taken back
        yes = clicked is not None and question.buttonRole(clicked) == QMessageBox.ButtonRole.AcceptRole
        question.deleteLater()
        if yes and self._error is not None:
            trust(self._error.sha256)
            self.trusted.emit(self._error.sha256)


def _question(parent: QWidget, error: UntrustedModelError) -> QMessageBox:
    box = QMessageBox(parent)
    box.setIcon(QMessageBox.Icon.Warning)
    box.setWindowTitle("Trust this file?")
    box.setTextFormat(Qt.TextFormat.RichText)
    box.setText(f"<b>Let '{escape(Path(error.path).name)}' run code?</b>")
    box.setInformativeText(
        f"<p>{escape(error.what.rstrip('.'))}.</p><p>{_RISK}</p><p>SHA-256:<br><code>{_grouped(error.sha256)}</code></p>"
        "<p>This is remembered for this very content; a changed file asks again.</p>"
    )
    box.setTextInteractionFlags(
        Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
    )
    box.addButton("Trust and load", QMessageBox.ButtonRole.AcceptRole)
    cancel = box.addButton(QMessageBox.StandardButton.Cancel)
    box.setDefaultButton(cancel)
    box.setEscapeButton(cancel)
    return box


def in_full(error: FidelityError) -> str:
    """Say why a file cannot be used; of one that is not trusted what it would run, not its hash."""
    if not isinstance(error, UntrustedModelError):
        return str(error)
    return f"{error.what.rstrip('.')}. Nothing of it has been run."


def _grouped(sha256: str) -> str:
    """Return a hash in groups of eight digits, half of them a line: so it can be compared by eye."""
    groups = [sha256[at : at + 8] for at in range(0, len(sha256), 8)]
    return "<br>".join(" ".join(groups[at : at + 4]) for at in range(0, len(groups), 4))
