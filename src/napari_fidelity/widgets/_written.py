"""An image formation model written out, as on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QTextEdit, QVBoxLayout, QWidget

from napari_fidelity.core.errors import FidelityError, OptionError
from napari_fidelity.widgets._dock import note_label, set_note

if TYPE_CHECKING:
    from napari_fidelity.operators.base import Operator

_EXAMPLE = "gaussian_blur:sigma=1.6 + downsample:scale=2"
_PAUSE = 300  # ms without a key after which others are told
_LINES = 3


class WrittenForm(QWidget):
    """A text with the model; what is wrong with it is said while it is typed."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.edit = QTextEdit()
        self.edit.setAcceptRichText(False)
        self.edit.setPlainText(_EXAMPLE)
        self.edit.setTabChangesFocus(True)
        self.edit.setAccessibleName("image formation written out")
        self.edit.setFixedHeight(self.edit.fontMetrics().lineSpacing() * _LINES + 16)
        self.edit.setToolTip(
            "<qt>The model as the command line takes it, what happens first written first: <i>kind:option=value,"
            "option=value + kind</i>. Kinds: identity, downsample, gaussian_blur, airy_blur, motion_blur, "
            "uniform_blur, blur, mask, radon, fourier. Lengths are in pixels of the restored image.</qt>"
        )
        self.note = note_label()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.edit)
        column.addWidget(self.note)
        self.setFocusProxy(self.edit)
        self.typed = False  # by the user
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PAUSE)
        self._timer.timeout.connect(self.changed)
        self.edit.textChanged.connect(self._typed)

    def operator(self) -> Operator:
        """Return the model.

        Raises
        ------
        FidelityError
            If the text cannot be understood; the message says where.
        """
        from napari_fidelity.operators import parse_operator

        text = self.edit.toPlainText().strip()
        if not text:
            raise OptionError("Nothing is written yet", do=f"Write, for instance, {_EXAMPLE}")
        return parse_operator(text.replace("\n", " "))

    def set_text(self, text: str) -> None:
        """Show a text."""
        self.edit.setPlainText(text)
        self.typed = False

    def _typed(self) -> None:
        self.typed = True
        try:
            self.operator()
        except FidelityError as error:
            set_note(self.note, str(error))
        else:
            set_note(self.note, "")
        self._timer.start()
