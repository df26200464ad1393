"""How a dock makes an image of its measurement: what is chosen beside layer and image formation."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qtpy.QtWidgets import QWidget

    from napari_fidelity.core.blocks import Spatial
    from napari_fidelity.operators.base import Operator
    from napari_fidelity.pipeline import Recipe
    from napari_fidelity.widgets._layers import Source
    from napari_fidelity.widgets._recipe_panel import RecipePanel
    from napari_fidelity.widgets._running_dock import RunningDock


class Maker(QObject):
    """A method and what belongs to it, for the measurement and the image formation of a dock.

    Parameters
    ----------
    dock
        Whose measurement is restored; it asks its maker whatever depends on the method.

    Attributes
    ----------
    method
        The panel of the method and its options.
    sections
        What the dock shows, by heading; the image formation is among them.
    """

    method: RecipePanel
    sections: Mapping[str, QWidget]

    def __init__(self, dock: RunningDock) -> None:
        super().__init__(dock)
        self.dock = dock

    @abstractmethod
    def recipe_parts(self, source: Source, operator: Operator) -> dict[str, Any]:
        """Return the fields of the recipe that are its own: the method, and the network if there is one.

        Raises
        ------
        FidelityError
            If something is missing or impossible.
        """

    def request_parts(self, recipe: Recipe) -> dict[str, Any]:
        """Return what the request holds beside layer, recipe and preferences."""
        return {}

    def operator(self) -> Operator:
        """Return the image formation model; errors as :meth:`MeasurementDock.operator`."""
        return self.dock.formation.operator()

    def spatial(self, source: Source) -> Spatial:
        """Return the axes of what is one image: ``"YX"``, or ``"ZYX"`` for whole volumes."""
        return "YX"

    def to_check(self) -> tuple[Operator, Spatial]:
        """Return the image formation model that results are checked with, and the axes of what is one image.

        Raises
        ------
        FidelityError
            If the model is incomplete or impossible.
        """
        return self.operator(), "YX"

    def take_noted(self, noted: Mapping[str, Any]) -> None:
        """Take what a layer notes about itself beside its image formation."""

    def take_recipe(self, recipe: Recipe) -> None:
        """Show the parts of a recipe that are its own, beside the method; before all others are shown."""

    def formation_changed(self) -> None:
        """Follow the image formation model."""

    def failed(self, error: Exception) -> None:
        """Follow the error that a run ended with."""
