"""The Correct dock: make a restored image answer to the layer it was restored from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_fidelity.core.errors import FidelityError
from napari_fidelity.widgets._method_panel import MethodPanel
from napari_fidelity.widgets._model import ModelPicker
from napari_fidelity.widgets._running_dock import RunningDock
from napari_fidelity.widgets._settings import settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.components import ViewerModel

    from napari_fidelity.operators.base import Operator
    from napari_fidelity.pipeline import Recipe
    from napari_fidelity.widgets._layers import Source


class CorrectWidget(RunningDock):
    """Choose a layer, a network and an image formation model; run; pick an iteration; compare.

    Parameters
    ----------
    napari_viewer
        The viewer whose layers are corrected.
    """

    title = "Correct"
    purpose = "correct"

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__(napari_viewer)
        self.model = ModelPicker(settings().model_folder)
        self.method: MethodPanel = MethodPanel(self.viewer)
        self.model.changed.connect(self._model_changed)
        self.assemble({"Network": self.model, "Image formation": self.formation, "Correction": self.method})

    def recipe_parts(self, source: Source, operator: Operator) -> dict[str, Any]:
        """Return method and network; errors as :meth:`RunningDock.recipe_parts`."""
        sizes = dict(zip(source.axes, source.shape, strict=True))
        measured = (sizes["Y"], sizes["X"])
        return {
            "method": self.method.method(operator.image_shape(measured), measured),
            "model": self.model.reference(),
        }

    def request_parts(self, recipe: Recipe) -> dict[str, Any]:
        """Ask for the network's own output too, unless that is all there is."""
        return {"output": recipe.method.kind != "apply"}

    def take_noted(self, noted: Mapping[str, Any]) -> None:
        """Take the network that a layer names."""
        if noted.get("model"):
            self.model.choose(noted["model"])

    def take_recipe(self, recipe: Recipe) -> None:
        """Show the network of a recipe."""
        if recipe.model is not None:
            self.model.set_reference(recipe.model)

    def _model_changed(self) -> None:
        if self.model.scale:
            self.formation.set_scale(self.model.scale)
        self.estimate()

    def formation_changed(self) -> None:
        """Follow the image formation model with a network of its scale."""
        try:
            scale = _whole_scale(self.formation.operator())
        except FidelityError:
            scale = 0  # said by the panel itself
        if scale:
            self.model.fit(scale)
        self.estimate()


def _whole_scale(operator: Operator) -> int:
    """Return by how much a network has to enlarge for an operator; 0 if by no whole number."""
    scale = operator.grid(2).scale
    same = len(set(scale)) == 1 and float(scale[0]).is_integer()
    return int(scale[0]) if same else 0
