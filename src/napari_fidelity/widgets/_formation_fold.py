"""The image formation of a measurement: as its layer or a result knows it, else as the user sets it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_fidelity.core.errors import OptionError
from napari_fidelity.widgets._dock import LazyFold

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer
    from qtpy.QtWidgets import QWidget

    from napari_fidelity.operators import Noise, Operator


class FormationFold(LazyFold):
    """Holds the formation panel, which is made when it is first opened.

    Parameters
    ----------
    viewer
        Whose layers may be masks and the like.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__("Image formation", self._panel)
        self.viewer = viewer
        self._measurement_name = ""
        self._known: dict[str, Any] = {}

    def set_measurement(self, layer: Layer | None) -> None:
        """Take what is known of a measurement; open if that is nothing."""
        self._measurement_name = "" if layer is None else layer.name
        self._known = {} if layer is None else _found(self.viewer, layer)
        if self.widget is not None:
            self._fill(self.widget)
        elif layer is not None and not self._known:
            self.expand(animate=False)

    def reset_choices(self) -> None:
        """Offer the layers there are now, as masks and the like."""
        if self.widget is not None:
            self.widget.reset_choices()

    def know(self, operator: Operator, noise: Noise | None) -> None:
        """Take a formation from elsewhere."""
        self._known = {"operator": operator, "noise": noise}
        if self.widget is not None:
            self._fill(self.widget)

    def operator(self) -> Operator:
        """Return the image formation model.

        Raises
        ------
        FidelityError
            If it is not known or impossible.
        """
        if self.widget is not None:
            operator: Operator = self.widget.operator()
            return operator
        if not self._known.get("operator"):
            raise OptionError("The residual needs the image formation", do="Open 'Image formation' and set it")
        from napari_fidelity.operators import parse_operator

        return parse_operator(self._known["operator"])

    def _panel(self) -> QWidget:
        from napari_fidelity.widgets._formation import FormationPanel

        panel = FormationPanel(self.viewer)
        self._fill(panel)
        return panel

    def _fill(self, panel: Any) -> None:
        from napari_fidelity.operators import parse_noise, parse_operator

        layers = self.viewer.layers
        panel.set_source(layers[self._measurement_name] if self._measurement_name in layers else None)
        operator, noise = self._known.get("operator"), self._known.get("noise")
        if operator:
            panel.set_formation(parse_operator(operator), parse_noise(noise) if noise else None)


def _found(viewer: ViewerModel, measurement: Layer) -> dict[str, Any]:
    """Return the formation that a measurement notes, or that a result of it was made with."""
    from napari_fidelity.widgets._layers import find_formation
    from napari_fidelity.widgets._reproduce import record_of

    known = find_formation(measurement)
    if known is not None:
        return dict(known)
    for layer in reversed(viewer.layers):
        record = record_of(layer)
        recipe = record.get("recipe", {})
        if record.get("source", {}).get("layer") == measurement.name and recipe.get("operator"):
            return {"operator": recipe["operator"], "noise": recipe.get("noise")}
    return {}
