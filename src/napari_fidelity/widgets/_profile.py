"""Intensities along a line that the user draws, in several layers at the same places of the world."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_fidelity.core.errors import FidelityError, ImageError
from napari_fidelity.widgets._dock import layer_combo, note_label, set_note
from napari_fidelity.widgets._guess import KEY, full_data
from napari_fidelity.widgets._links import Links
from napari_fidelity.widgets._plots import Profile, ProfilePlot
from napari_fidelity.widgets._reading import in_memory
from napari_fidelity.widgets._sampling import along, flat, sampled, shown_cut, to_pixels, vertices
from napari_fidelity.widgets._units import factor, factors, layer_units, symbol, world_units

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Layer, Shapes
    from numpy.typing import NDArray

    from napari_fidelity.widgets._planes import Cut

_INTERVAL = 60  # ms between two looks at a line that is being dragged
_PER_PIXEL = 2  # samples
_MOST = 4000  # samples


class ProfilePanel(QWidget):
    """Adds a line, follows it and plots what lies under it.

    Parameters
    ----------
    viewer
        Whose layers they are.
    layers
        Returns the layers to plot.
    reference
        Returns the reference layer, if there is one.
    """

    def __init__(
        self, viewer: ViewerModel, layers: Callable[[], list[Layer]], reference: Callable[[], Layer | None]
    ) -> None:
        super().__init__()
        self.viewer, self._layers, self._reference = viewer, layers, reference
        self._planes: weakref.WeakKeyDictionary[Layer, tuple[Any, NDArray[Any]]] = weakref.WeakKeyDictionary()
        self._reading: set[Any] = set()
        self.draw_button = QPushButton("Draw a li&ne")
        self.draw_button.setToolTip(
            "Add a line across the middle of the image; drag its ends to where you want to look. Lines and paths "
            "in any shapes layer will do as well."
        )
        self.copy_button = QPushButton("Copy val&ues")
        self.copy_button.setToolTip("Copy the plotted numbers, to be pasted into a spreadsheet")
        self.line = layer_combo(viewer, "The shapes layer with the line", accept=_shapes)
        self.line.native.setAccessibleName("Shapes layer with the line")
        self.plot = ProfilePlot()
        self.note = note_label()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._update)
        self._lay_out()
        self._links, self._followed = Links(self), Links(self)
        events = viewer.layers.events
        self._links.connect(self.refresh, events.inserted, events.removed, events.reordered)
        self._links.connect(self._activated, viewer.layers.selection.events.active)
        self._links.connect(
            self.soon, viewer.dims.events.point, viewer.dims.events.ndisplay, viewer.dims.events.order
        )
        self.line.changed.connect(self.refresh)
        self.refresh()

    def _lay_out(self) -> None:
        buttons = QHBoxLayout()
        buttons.addWidget(self.draw_button)
        buttons.addWidget(self.copy_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(buttons)
        for widget in (self.line.native, self.plot, self.note):
            column.addWidget(widget)
        self.draw_button.clicked.connect(self.draw)
        self.copy_button.clicked.connect(self.copy)

    def draw(self) -> None:
        """Add a line across the middle of the reference, or else of the topmost of the layers."""
        target = self._reference() or next(iter(reversed(self._layers())), None)
        if target is None:
            set_note(self.note, "Tick a layer first.")
            return
        try:
            cut = shown_cut(self.viewer, target)
        except FidelityError as error:
            set_note(self.note, str(error))
            return
        height, width = (cut.data.shape[cut.axes.index(axis)] for axis in "YX")
        units = layer_units(target)
        layer = self.viewer.add_shapes(
            [np.array([[(height - 1) / 2, 0], [(height - 1) / 2, width - 1]])],
            shape_type="line",
            name="Profile line",
            edge_color="#ffd400",
            edge_width=max(height, width) / 250,
            affine=flat(cut),
            metadata={KEY: {"view": "profile"}},
            **({"units": units[-2:]} if units else {}),
        )
        layer.selected_data = {0}
        layer.mode = "direct"
        self.line.value = layer

    def copy(self) -> None:
        """Put the plotted numbers into the clipboard, with tabs between the columns."""
        profiles = self.plot.profiles
        if not profiles:
            return
        head = "\t".join(["distance", *(profile.name for profile in profiles)])
        table = np.stack([profiles[0].position, *(profile.values for profile in profiles)], axis=1)
        lines = ("\t".join(f"{value:.6g}" for value in row) for row in table)
        QApplication.clipboard().setText("\n".join([head, *lines]) + "\n")

    def refresh(self, event: object = None) -> None:
        """Take note of layers that came, went, were ticked or unticked."""
        self.line.reset_choices()
        self.line.native.setVisible(len(self.line.choices) > 1)
        gone = [layer for layer in self._planes if layer not in self.viewer.layers]
        for layer in gone:
            del self._planes[layer]
        self._followed.clear()
        for layer in self._shown():
            self._followed.connect(self.soon, layer.events.set_data, layer.events.name)
        if self.line.value is not None:
            events = self.line.value.events
            self._followed.connect(self.soon, events.data, events.set_data, events.highlight)
        self.soon()

    def soon(self, event: object = None) -> None:
        """Plot anew, but not more often than can be seen."""
        if not self._timer.isActive():
            self._timer.start(_INTERVAL)

    def _activated(self, event: object = None) -> None:
        active = self.viewer.layers.selection.active
        if active is not None and active in self.line.choices:
            self.line.value = active

    def _shown(self) -> list[Layer]:
        reference = self._reference()
        return [layer for layer in self._layers() if layer is not reference] + ([reference] if reference else [])

    def _update(self) -> None:
        line, problem = self.line.value, ""
        profiles: list[Profile] = []
        unit = "pixel"
        corners = None if line is None else vertices(line)
        try:
            if corners is not None:
                profiles, unit = self._profiles(line, corners)
        except FidelityError as error:
            problem = str(error)
        self.plot.set_profiles(profiles, unit)
        self.plot.setVisible(bool(profiles))
        self.copy_button.setEnabled(bool(profiles))
        if line is not None and corners is None:
            problem = f"There is no line in '{line.name}': draw one."
        set_note(self.note, problem)

    def _profiles(self, line: Shapes, drawn: NDArray[Any]) -> tuple[list[Profile], str]:
        reference = self._reference()
        cuts: list[tuple[Layer, Cut]] = []
        outside = None
        for layer in self._shown():
            try:
                cuts.append((layer, shown_cut(self.viewer, layer)))
            except FidelityError as error:
                outside = error
        if not cuts:
            if outside is not None:
                raise outside
            return [], "pixel"
        corners = self._in_world(line, drawn)
        # the unit of the reference, or else of the first layer
        first = cuts[-1][0] if reference is not None else cuts[0][0]
        own, common = layer_units(first), world_units(self.viewer)
        ratio = (factor(common[-1], own[-1]) or 1.0) if own and common else 1.0
        lengths = [
            np.linalg.norm(np.diff(to_pixels(cut, corners, common), axis=0), axis=1).sum() for _, cut in cuts
        ]
        world, distance = along(corners, min(int(_PER_PIXEL * max(lengths)) + 2, _MOST))
        profiles = []
        for number, (layer, cut) in enumerate(cuts):
            plane = self._plane(layer, cut)
            if plane is None:
                continue
            values = sampled(plane, *to_pixels(cut, world, common).T)
            profiles.append(Profile(layer.name, distance * ratio, values, None if layer is reference else number))
        return profiles, symbol(own[-1]) if own else "pixel"

    def _in_world(self, line: Shapes, drawn: NDArray[Any]) -> NDArray[np.float64]:
        """Return the corners of the line in the viewer's world, at the slice it shows."""
        known = np.array([line.data_to_world(vertex) for vertex in drawn])
        known = known * factors(layer_units(line), world_units(self.viewer), known.shape[1])
        dims = self.viewer.dims
        corners = np.tile(np.asarray(dims.point, float), (len(known), 1))
        shift = dims.ndim - known.shape[1]
        if min(dims.displayed) < shift:
            raise ImageError("The line does not lie in the plane that is shown", do="Draw another one")
        for axis in dims.displayed:
            corners[:, axis] = known[:, axis - shift]
        return corners

    def _plane(self, layer: Layer, cut: Cut) -> NDArray[Any] | None:
        """Return the layer's plane; what is not in memory is read in the background, and comes later."""
        if in_memory(cut.data):
            return cut.read()
        key = (id(full_data(layer)), tuple(cut.index.items()))
        held = self._planes.get(layer)
        if held is not None and held[0] == key:
            return held[1]
        if key not in self._reading:
            from napari_fidelity.widgets._worker import run_later

            self._reading.add(key)
            known = weakref.ref(layer)
            run_later(cut.read, _Keep(self, known, key), name=f"Reading '{layer.name}'")
        return None

    def keep(self, layer: Layer | None, key: Any, plane: NDArray[Any]) -> None:
        """Hold a plane that was read, while its layer is in the viewer."""
        self._reading.discard(key)
        if layer is not None and layer in self.viewer.layers:
            self._planes[layer] = (key, plane)
            self.soon()


class _Keep:
    """Hands a plane to the panel, if that is still there."""

    def __init__(self, panel: ProfilePanel, layer: weakref.ref[Layer], key: Any) -> None:
        self.panel, self.layer, self.key = panel, layer, key

    def __call__(self, plane: NDArray[Any]) -> None:
        from qtpy.compat import isalive

        if isalive(self.panel):
            self.panel.keep(self.layer(), self.key, plane)


def _shapes(layer: object) -> bool:
    from napari.layers import Shapes

    return isinstance(layer, Shapes)
