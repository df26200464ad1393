"""An image made by a network that is corrected: which network, and how it is corrected."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from napari_fidelity.core.errors import FidelityError, ModelFileError
from napari_fidelity.widgets._controls import stacked
from napari_fidelity.widgets._dock import note_label, set_note
from napari_fidelity.widgets._maker import Maker
from napari_fidelity.widgets._method_panel import MethodPanel
from napari_fidelity.widgets._model import ModelPicker
from napari_fidelity.widgets._model_fit import remarks
from napari_fidelity.widgets._settings import settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fidelity.operators.base import Operator
    from napari_fidelity.pipeline import Recipe
    from napari_fidelity.widgets._layers import Source
    from napari_fidelity.widgets._running_dock import RunningDock


class Correction(Maker):
    """A restoration network and its correction; network and image formation follow each other's scale."""

    def __init__(self, dock: RunningDock) -> None:
        super().__init__(dock)
        self.model = ModelPicker(settings().model_folder)
        self.method: MethodPanel = MethodPanel(dock.viewer)
        self.advice = note_label()
        self.sections = {
            "Network": stacked(self.model, self.advice),
            "Image formation": dock.formation,
            "Correction": self.method,
        }
        self.model.changed.connect(self._model_changed)
        self.method.changed.connect(self.advise)
        dock.axes.changed.connect(self._layer_changed)
        self._series_changed()

    def recipe_parts(self, source: Source, operator: Operator) -> dict[str, Any]:
        """Return method and network; errors as :meth:`Maker.recipe_parts`."""
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

    def failed(self, error: Exception) -> None:
        """Read a file again that could not be loaded: it is gone, or another one is in its place."""
        if isinstance(error, ModelFileError):
            self.model.read_again()

    def formation_changed(self) -> None:
        """Follow the image formation model with a network of its scale."""
        from napari_fidelity.pipeline.models import whole_scale

        self.advise()
        try:
            scale = whole_scale(self.dock.formation.operator())
        except FidelityError:
            scale = 0  # said by the panel itself
        if scale:
            self.model.fit(scale)

    def advise(self, *_: object) -> None:
        """Say what the network will make of the layer, and whether it can be fine-tuned."""
        info = self.model.info
        self.method.set_untrainable(info.untrainable if info is not None else "")
        try:
            joint = self.method.recipe_fields().get("channels") != "each"
            said = remarks(info, self.dock.source(), "joint" if joint else "each") if info is not None else ""
        except FidelityError:  # said when it runs
            said = ""
        set_note(self.advice, said)

    def _layer_changed(self) -> None:
        self.advise()
        self._series_changed()

    def _series_changed(self) -> None:
        """Offer ways through a time series where there is one, with what each costs."""
        try:
            source = self.dock.source()
        except FidelityError:
            self.method.series.set_series(1, 1, 1)
            return
        length = dict(zip(source.axes, source.shape, strict=True)).get("T", 1)
        slices = prod(n for axis, n in zip(source.axes, source.shape, strict=True) if axis in "ZT")
        self.method.series.set_series(length, slices // length, self.model.info.frames if self.model.info else 1)

    def _model_changed(self) -> None:
        self._layer_changed()
        if self.dock.maker is not self:
            return
        if self.model.scale:
            self.dock.formation.set_scale(self.model.scale)
        self.dock.estimate()
