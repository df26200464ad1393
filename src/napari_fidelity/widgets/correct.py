"""The Correct dock: make a restored image answer to the layer it was restored from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_fidelity.widgets._correction import Correction
from napari_fidelity.widgets._running_dock import RunningDock

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_fidelity.widgets._method_panel import MethodPanel


class CorrectWidget(RunningDock):
    """Choose a layer, a network and an image formation model; run; pick an iteration; compare.

    Parameters
    ----------
    napari_viewer
        The viewer whose layers are corrected.
    """

    title = "Correct"
    purpose = "correct"
    method: MethodPanel

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__(napari_viewer)
        correction = Correction(self)
        self.model = correction.model
        self.use(correction)
        self.assemble()
