"""After a run: pick the iteration one likes, keep it as a layer, go on to compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSlider, QVBoxLayout, QWidget

from napari_fidelity.widgets._icons import set_icon
from napari_fidelity.widgets._layers import add_result

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.step import Result
    from napari_fidelity.widgets._live import LiveLayer


class ResultPanel(QWidget):
    """The iteration slider, a button that keeps what it shows, and the way on to Compare.

    Attributes
    ----------
    picked
        The slider moved to an iteration: its number.
    compare_requested
        The user wants to see the result beside the others.
    """

    picked = Signal(int)
    compare_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._images: list[tuple[int, Image]] = []
        self._live: LiveLayer | None = None
        self._scores: dict[int, str] = {}
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setToolTip(
            "Look at the image of every iteration in the result layer and stop where you like it best: numbers do "
            "not see everything"
        )
        self.label = QLabel()
        self.label.setWordWrap(True)
        self.keep = QPushButton("&Keep this iteration")
        self.keep.setToolTip("Add the image shown now as a layer of its own, with the recipe that makes it again")
        self.compare = QPushButton("C&ompare…")
        self.compare.setToolTip("Scores, differences, profiles, side by side, blink and split view of the results")
        set_icon(self.compare, "compare")
        buttons = QHBoxLayout()
        buttons.addWidget(self.keep)
        buttons.addWidget(self.compare)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.addWidget(self.label)
        self._column.addWidget(self.slider)
        self._column.addLayout(buttons)
        self.slider.valueChanged.connect(self._moved)
        self.keep.clicked.connect(self._keep)
        self.compare.clicked.connect(self.compare_requested)
        self.setVisible(False)

    def show_result(self, result: Result[Image], live: LiveLayer) -> None:
        """Offer the images of a finished run."""
        self._live = live
        last = result.history[-1].index if result.history else 0
        self._images = [(k, self._with_recipe(result, k, image)) for k, image in sorted(result.snapshots.items())]
        # the image that is returned is more than its last snapshot where the best one was taken
        self._images = [entry for entry in self._images if entry[0] != last] + [(last, result.image)]
        self._scores = {record.index: _score_words(record.scores) for record in result.history}
        several = len(self._images) > 1
        for widget in (self.slider, self.label, self.keep):
            widget.setVisible(several)
        self.slider.blockSignals(True)
        self.slider.setRange(0, len(self._images) - 1)
        self.slider.setValue(len(self._images) - 1)
        self.slider.blockSignals(False)
        self._say()
        self.setVisible(True)

    def clear(self) -> None:
        """Let go of all images."""
        self._images, self._live = [], None
        self.setVisible(False)

    @property
    def iteration(self) -> int:
        """The iteration shown."""
        return self._images[self.slider.value()][0]

    def _with_recipe(self, result: Result[Image], iteration: int, image: Image) -> Image:
        record: dict[str, Any] = {**result.provenance}
        method = {**record["recipe"]["method"], "iteration": iteration}
        record["recipe"] = {**record["recipe"], "method": method}
        return image.replace(metadata={**image.metadata, "napari-fidelity": record})

    def _moved(self) -> None:
        if self._live is None:
            return
        self._live.finish(self._images[self.slider.value()][1])
        self._say()
        self.picked.emit(self.iteration)

    def _say(self) -> None:
        final = self.slider.value() == len(self._images) - 1
        words = "the result" if final else f"of {self._images[-1][0]}"
        self.label.setText(f"Iteration {self.iteration}, {words}{self._scores.get(self.iteration, '')}")

    def _keep(self) -> None:
        if self._live is None:
            return
        name = f"{self._live.name}, iteration {self.iteration}"
        add_result(self._live.viewer, self._live.source, self._images[self.slider.value()][1], name=name)


def _score_words(scores: Mapping[str, float]) -> str:
    return f", LR-PSNR {scores['lr_psnr']:.2f} dB" if "lr_psnr" in scores else ""
