"""Whether a network is adapted to each frame of a time series, to windows or once; and what that costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_fidelity.widgets._controls import choice, labelled
from napari_fidelity.widgets._dock import note_label, set_note

if TYPE_CHECKING:
    from napari_fidelity.pipeline.series import Series

_CHOICES = {
    "auto": (
        "as the network asks",
        "Each frame on its own; with a network for video, windows of as many frames as it looks at.",
    ),
    "frame": (
        "each frame",
        "The network is adapted to every frame anew: it follows whatever changes, and may flicker. A network for "
        "video takes the frames around along each time.",
    ),
    "window": (
        "windows of frames",
        "The network is adapted to a few consecutive frames together: as many as a network for video looks at, "
        "else five.",
    ),
    "whole": (
        "the whole series at once",
        "One network for all frames: the steadiest. All frames are held in memory together.",
    ),
}


class SeriesChoice(QWidget):
    """A combo box, and below it what the choice costs; there only where frames are to be adapted to.

    Attributes
    ----------
    changed
        Another one was chosen.
    combo, note
        The choices, and the cost.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._series = (1, 1, 1)  # frames of the series, series, frames that the network looks at
        self._method: Any = None
        self.combo = choice(_CHOICES, "adapted to", "What the network is adapted to in a time series.")
        self.note = note_label()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(labelled({"adapted to": self.combo}))
        column.addWidget(self.note)
        self.combo.currentIndexChanged.connect(self._chosen)
        self._show_cost()

    @property
    def wanted(self) -> bool:
        """Whether there is something to choose: several frames, and a method that adapts the network."""
        return self._series[0] > 1 and getattr(self._method, "kind", "") == "finetune"

    def value(self) -> Series:
        """Return the choice for a recipe; ``"auto"`` where there is none."""
        return self.combo.currentData() if self.wanted else "auto"

    def set_value(self, series: Series) -> None:
        """Show the choice of a recipe."""
        self.combo.setCurrentIndex(self.combo.findData(series))

    def set_series(self, length: int, others: int, frames: int) -> None:
        """Say what is to be restored.

        Parameters
        ----------
        length
            Frames of a series.
        others
            How many series there are: slices, channels.
        frames
            What the network looks at for each frame; 1 for single images.
        """
        self._series = (length, others, frames)
        self._show_cost()

    def set_method(self, method: Any) -> None:
        """Follow the method."""
        self._method = method
        self._show_cost()

    def _chosen(self) -> None:
        self._show_cost()
        self.changed.emit()

    def _show_cost(self) -> None:
        self.setVisible(self.wanted)
        if not self.wanted:
            return
        from napari_fidelity.pipeline.series import costs

        length, others, frames = self._series
        cost = costs(self._method, frames, length, others)[self.combo.currentData()]
        set_note(self.note, f"{cost.in_words(self._method)}.")
