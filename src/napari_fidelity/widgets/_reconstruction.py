"""An image made without training pairs: which prior, and slices or whole volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_fidelity.core.errors import FidelityError, ModelFileError
from napari_fidelity.widgets._maker import Maker
from napari_fidelity.widgets._measurement_dock import result_bytes
from napari_fidelity.widgets._prior_panel import PriorPanel
from napari_fidelity.widgets._volume import in_volume

if TYPE_CHECKING:
    from napari_fidelity.core.blocks import Spatial
    from napari_fidelity.operators.base import Operator
    from napari_fidelity.pipeline import Recipe
    from napari_fidelity.widgets._layers import Source
    from napari_fidelity.widgets._running_dock import RunningDock

_KEPT = 10**9  # bytes of the iterations that are kept for the slider


class Reconstruction(Maker):
    """A prior, and whether a stack is a volume."""

    def __init__(self, dock: RunningDock) -> None:
        super().__init__(dock)
        self._whole: Operator | None = None  # a model of volumes, as a recipe has it
        self._asked: Any = None  # the layer whose noise was looked for
        self.method: PriorPanel = PriorPanel(dock.viewer)
        self.sections = {"Image formation": dock.formation, "Reconstruction": self.method}
        self.method.spatial.currentIndexChanged.connect(self._spatial_chosen)
        dock.axes.changed.connect(self._axes_changed)
        self._axes_changed()

    def recipe_parts(self, source: Source, operator: Operator) -> dict[str, Any]:
        """Return method, denoising network and what one image is; errors as :meth:`Maker.recipe_parts`."""
        model, spatial = self.method.reference(), self.spatial(source)
        kept = _KEPT // max(1, result_bytes(source, operator, spatial))
        parts = {"method": self.method.method(kept), "spatial": spatial}
        return parts if model is None else {**parts, "model": model}

    def request_parts(self, recipe: Recipe) -> dict[str, Any]:
        """Return the layer to begin with, if there is one."""
        start = self.method.start.source(self.dock.source())
        return {} if start is None else {"arrays": {"start": start}}

    def operator(self) -> Operator:
        """Return the image formation model, of volumes where they are worked on as a whole."""
        operator = self.dock.formation.operator()
        if operator is self._whole:
            return operator
        source = self.dock.source()
        if self.spatial(source) == "YX" or self.dock.formation.forms.chosen == "written":
            return operator
        return in_volume(operator, source.shape[source.axes.index("Z")])

    def to_check(self) -> tuple[Operator, Spatial]:
        """Return the model and the axes that a run would take now."""
        return self.operator(), self.spatial(self.dock.source())

    def spatial(self, source: Source) -> Spatial:
        """Return the axes of what is one image: ``"YX"``, or ``"ZYX"`` for whole volumes."""
        return "ZYX" if "Z" in source.axes and self.method.spatial.currentData() == "ZYX" else "YX"

    def take_recipe(self, recipe: Recipe) -> None:
        """Keep a model of volumes as it is."""
        self._whole = recipe.operator if recipe.spatial == "ZYX" else None

    def failed(self, error: Exception) -> None:
        """Read a denoiser's file again that could not be loaded: it is gone, or another one is in its place."""
        if isinstance(error, ModelFileError):
            self.method.denoiser.model.read_again()

    # -- slices and volumes -----------------------------------------------------------------------------------

    def _spatial_chosen(self) -> None:
        """Take all slices of a stack that is worked on as a whole."""
        try:
            source = self.dock.source()
        except FidelityError:
            return  # said when it runs
        if self.spatial(source) == "ZYX" and "Z" in source.index:
            index = {axis: at for axis, at in source.index.items() if axis != "Z"}
            self.dock.axes.set_axes(source.axes, index)
        self.dock.estimate()

    def _axes_changed(self) -> None:
        """Offer to work on volumes where there is depth; a single slice is none."""
        try:
            source = self.dock.source()
        except FidelityError:
            self.method.spatial_row.setVisible(False)
            return
        self.method.spatial_row.setVisible("Z" in source.axes)
        if "Z" in source.index:
            self.method.spatial.setCurrentIndex(self.method.spatial.findData("YX"))

    # -- noise ------------------------------------------------------------------------------------------------

    def formation_changed(self) -> None:
        """Look for the noise of a layer of which nothing else is known: without it there is nothing to remove."""
        from napari_fidelity.operators import Identity

        formation, layer = self.dock.formation, self.dock.layer.value
        try:
            alone = isinstance(formation.operator(), Identity) and formation.noise() is None
        except FidelityError:
            alone = False
        if layer is not self._asked:
            self._asked = None
        if alone and layer is not None and self._asked is None:
            self._asked = layer
            formation.noise_form.estimate()
