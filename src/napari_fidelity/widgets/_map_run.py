"""One run of a map in the viewer: the map grows in a layer, and every other image it makes gets one at the end."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_fidelity.widgets._layers import KEY, add_result
from napari_fidelity.widgets._live import LiveLayer
from napari_fidelity.widgets._map_look import colormap, flat, limits
from napari_fidelity.widgets._reproduce import judged_of
from napari_fidelity.widgets._run import RestorationRun

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.uncertainty import Output
    from napari_fidelity.widgets._layers import Source
    from napari_fidelity.widgets._live import Frame
    from napari_fidelity.widgets._restoration import Request
    from napari_fidelity.widgets._worker import Outcome

NAMES = {
    "dropout": "dropout",
    "ensemble": "ensemble",
    "bootstrap": "bootstrap",
    "null_space": "null space",
    "error_map": "error map",
    "residual": "residual",
}
"""What a map's layers are called, after the layer it judges."""


class MapLayer(LiveLayer):
    """The layer of a map: numbers in colours of its own, which follow the numbers while it grows.

    Parameters
    ----------
    viewer, source, name
        As for :class:`LiveLayer`.
    output
        What the map is.
    colours
        One of :data:`COLOURS`.
    """

    def __init__(self, viewer: ViewerModel, source: Source, name: str, output: Output, colours: str) -> None:
        super().__init__(viewer, coloured(source, output, colours), name)
        self.output = output

    def show(self, block: Image, position: Mapping[str, int], measured: Frame) -> None:
        """Show the map of one block. See :meth:`LiveLayer.show`."""
        super().show(flat(block, sign=self.output.signed), position, measured)
        if self.shown:
            self.fit()

    def finish(self, image: Image) -> Layer:
        """Show the final map. See :meth:`LiveLayer.finish`."""
        layer = super().finish(flat(image, sign=self.output.signed))
        self.fit()
        return layer

    def fit(self, *others: Layer) -> None:
        """Let the colours reach from the smallest to the largest number of this map and of others."""
        layers = [layer for layer in (self.layer, *others) if layer is not None]
        low, high = limits([layer.data for layer in layers], sign=self.output.signed)
        for layer in layers:
            set_limits(layer, low, high)


class MapRun(RestorationRun):
    """A run whose result is a map.

    Parameters
    ----------
    viewer, request, rate
        As for :class:`RestorationRun`.
    colours
        One of :data:`COLOURS`.
    bar
        Whether to show the map's colour bar.
    """

    def __init__(self, viewer: ViewerModel, request: Request, rate: float, colours: str, bar: bool = True) -> None:
        self.colours, self.bar = colours, bar
        self.maps: list[Layer] = []
        super().__init__(viewer, request, rate)

    def make_live(self) -> LiveLayer:
        """Return what shows the growing map."""
        judged = self.request.judged or self.source
        self.base = f"{judged.name} – {NAMES.get(self.recipe.method.kind, self.recipe.method.kind)}"
        main = next(iter(self._outputs.values()))
        return MapLayer(self.viewer, self.source, self.base, main, self.colours)

    @property
    def _outputs(self) -> Mapping[str, Output]:
        method: Any = self.recipe.method
        outputs: Mapping[str, Output] = method.outputs
        return outputs

    def show_last(self, outcome: Outcome) -> None:
        """Show the map as it is in the end, and the other images as hidden layers below it."""
        super().show_last(outcome)
        layer, live = self.live.layer, self.live
        if outcome.value is None or layer is None or not isinstance(live, MapLayer):
            return
        self._note(layer)
        if self.bar and hasattr(layer, "colorbar"):
            layer.colorbar.visible = True
        _, *others = self._outputs
        added = {name: self._add(name, outcome.value.maps[name]) for name in others if name in outcome.value.maps}
        self.maps = [layer, *added.values()]
        live.fit(*(one for name, one in added.items() if _comparable(self._outputs[name], live.output)))
        self.viewer.layers.selection.active = layer

    def _add(self, name: str, image: Image) -> Layer:
        output = self._outputs[name]
        source = self.source if output.quantity == "intensity" else coloured(self.source, output, self.colours)
        if output.quantity != "intensity":
            image = flat(image, sign=output.signed)
        added = add_result(self.viewer, source, image, name=f"{self.base}, {name.replace('_', ' ')}")
        if output.quantity != "intensity":
            set_limits(added, *limits([added.data], sign=output.signed))
        added.visible = False
        self._note(added)
        layers = self.viewer.layers
        layers.move(layers.index(added), layers.index(self.live.layer))
        return added

    def _note(self, layer: Layer) -> None:
        """Let a map know which layer it judges."""
        if self.request.judged is not None:
            record = {**layer.metadata.get(KEY, {}), "judged": self.request.judged.noted()}
            layer.metadata = {**layer.metadata, KEY: record}

    def to_compare(self) -> dict[str, Any]:
        """Return what the Compare dock asks for, about the image that the map judges."""
        known = super().to_compare()
        judged = judged_of(self.viewer, self.live.layer)
        return known | {"images": [] if judged is None else [judged]}


def coloured(source: Source, output: Output, colours: str) -> Source:
    """Return a source whose results are shown as maps, with contrast limits of their own."""
    kept = {name: value for name, value in source.look.items() if name.startswith("interpolation")}
    look = {
        "colormap": colormap("" if output.signed else colours),
        "blending": "translucent",
        "opacity": 1.0,
        "gamma": 1.0,
    }
    return replace(source, look=kept | look, limits_range=(0.0, 0.0))


def set_limits(layer: Layer, low: float, high: float) -> None:
    """Set contrast limits, with room for them to be moved."""
    if (low, high) != tuple(layer.contrast_limits):
        layer.contrast_limits_range = (4 * low, 4 * high)
        layer.contrast_limits = (low, high)


def _comparable(one: Output, other: Output) -> bool:
    """Whether two maps are of the same kind of number, so that the same colours say the same."""
    return (one.quantity, one.grid, one.signed) == (other.quantity, other.grid, other.signed)
