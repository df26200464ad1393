"""The Reconstruct dock: an image from a measurement and its image formation, without any training pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_fidelity.widgets._reconstruction import Reconstruction
from napari_fidelity.widgets._running_dock import RunningDock

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_fidelity.widgets._prior_panel import PriorPanel


class ReconstructWidget(RunningDock):
    """Choose a layer, an image formation model and a prior; run; pick an iteration; compare.

    Parameters
    ----------
    napari_viewer
        The viewer whose layers are reconstructed.
    """

    title = "Reconstruct"
    purpose = "reconstruct"
    method: PriorPanel

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__(napari_viewer)
        self.formation.set_scale(1.0)
        self.use(Reconstruction(self))
        self.assemble()
