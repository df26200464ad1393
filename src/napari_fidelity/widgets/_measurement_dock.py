"""A dock over one measurement: which layer, what of it, and how it was formed."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from napari_fidelity.core.errors import FidelityError, ImageError
from napari_fidelity.widgets._axes import AxesTable
from napari_fidelity.widgets._dock import Dock, layer_combo
from napari_fidelity.widgets._formation import FormationPanel
from napari_fidelity.widgets._layers import Source, find_formation, show_slice
from napari_fidelity.widgets._links import Links
from napari_fidelity.widgets._reproduce import measurement_of, record_of
from napari_fidelity.widgets._restoration import gigabytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_fidelity.core.blocks import Spatial
    from napari_fidelity.operators.base import Operator


class MeasurementDock(Dock):
    """A layer, its axes and its image formation model, and what follows from them.

    Attributes
    ----------
    purpose
        What is done to the layer, as a verb: ``"correct"``.
    """

    purpose: ClassVar[str]

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__(napari_viewer)
        self.layer = layer_combo(
            self.viewer, f"The image to {self.purpose}: what the microscope, camera or scanner recorded"
        )
        self.axes = AxesTable()
        self.formation = FormationPanel(self.viewer)

    def follow_layers(self) -> None:
        """Listen to the viewer's layers from now on, and begin with the selected one."""
        self.layer.changed.connect(self._layer_chosen)
        self.axes.changed.connect(self.estimate)
        self.formation.changed.connect(self.formation_changed)
        events = self.viewer.layers.events
        self._links = Links(self)
        self._links.connect(self.reset_choices, events.inserted, events.removed, events.reordered)
        if "renamed" in events.emitters:
            self._links.connect(self.reset_choices, events.renamed)
        self._links.connect(self.selected, self.viewer.layers.selection.events.active)
        self.reset_choices()
        self._choose_active()

    # -- what a dock adds -------------------------------------------------------------------------------------

    def take_noted(self, noted: Mapping[str, Any]) -> None:
        """Take what a layer notes about itself beside its image formation."""

    def selected(self, event: Any = None) -> None:
        """Follow the selection in the viewer's list of layers."""

    def formation_changed(self) -> None:
        """Follow the image formation model."""
        self.estimate()

    # -- choosing ---------------------------------------------------------------------------------------------

    def reset_choices(self, event: Any = None) -> None:
        """Offer the layers there are now."""
        before = self.layer.value
        self.layer.reset_choices()
        self.formation.reset_choices()
        if self.layer.value is not before:
            self._layer_chosen()

    def _choose_active(self) -> None:
        active = self.viewer.layers.selection.active
        if active is not None and active in self.layer.choices and "recipe" not in record_of(active):
            self.layer.value = active
        self._layer_chosen()

    def _layer_chosen(self, layer: Layer | None = None) -> None:
        layer = self.layer.value
        self.axes.set_layer(layer)
        self.formation.set_source(layer)
        self.take_noted((find_formation(layer) if layer is not None else None) or {})
        self.formation_changed()

    def show_measurement(self, result: Layer) -> str:
        """Choose the layer, and the part of it, that a result was made from; say so if it is not there."""
        source = record_of(result).get("source", {})
        measured = measurement_of(self.viewer, result)
        if measured is None:
            return f"Its measurement '{source.get('layer', '?')}' is not in the viewer."
        self.layer.value = measured
        self.axes.set_axes(source.get("axes", ""), source.get("index", {}))
        show_slice(self.viewer, measured, source.get("axes", ""), source.get("index", {}))
        return ""

    def source(self) -> Source:
        """Return the layer to work on.

        Raises
        ------
        ImageError
            If there is none, or it cannot be used.
        """
        layer = self.layer.value
        if layer is None:
            raise ImageError(
                f"There is no image layer to {self.purpose}", do="Open an image, or a sample of Fidelity"
            )
        return Source.of(layer, self.axes.axes(), self.axes.index(self.viewer))

    def operator(self) -> Operator:
        """Return the image formation model.

        Raises
        ------
        FidelityError
            If it is incomplete or impossible.
        """
        return self.formation.operator()

    def spatial(self, source: Source) -> Spatial:
        """Return the axes of what is one image: ``"YX"``, or ``"ZYX"`` for whole volumes."""
        return "YX"

    def estimate(self) -> None:
        """Say what the run will read and make, as far as that is known without reading it."""
        try:
            source = self.source()
            result = result_bytes(source, self.operator(), self.spatial(source))
        except (FidelityError, ValueError):
            self.axes.set_memory("")
            return
        self.axes.set_memory(f"Reads {gigabytes(source.nbytes)}, result {gigabytes(result)}")


def result_bytes(source: Source, operator: Operator, spatial: Spatial) -> int:
    """Return how many bytes a result holds, in 32-bit float."""
    sizes = dict(zip(source.axes, source.shape, strict=True))
    measured = tuple(sizes[axis] for axis in spatial)
    channels = sizes.get("S", sizes.get("C", 1))
    blocks = prod(source.shape) // prod(measured) // channels
    return 4 * blocks * operator.image_channels(channels) * prod(operator.image_shape(measured))
