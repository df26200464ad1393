"""Why a network cannot be corrected as chosen, and a button for how it can."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_fidelity.widgets._dock import note_label, set_note


class Unsuited(QWidget):
    """A remark on a network that cannot be fine-tuned; hidden while there is nothing to remark.

    Attributes
    ----------
    projection_wanted
        The user would rather have a projection.
    """

    projection_wanted = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.note = note_label()
        self.button = QPushButton("Use Pro&jection")
        self.button.setToolTip(
            "<qt>Leaves the network as it is, and changes its output as little as possible so that it explains "
            "the measurement.</qt>"
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.note)
        column.addWidget(self.button)
        self.button.clicked.connect(lambda: self.projection_wanted.emit())
        self.say("")

    def say(self, reason: str) -> None:
        """Say why the network cannot be fine-tuned; nothing where it can."""
        set_note(self.note, f"This network cannot be fine-tuned: {reason.rstrip('.')}." if reason else "")
        self.setVisible(bool(reason))
