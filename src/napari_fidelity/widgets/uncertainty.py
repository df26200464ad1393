"""The Uncertainty dock: how far a result can be trusted, as a map beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_fidelity.core.errors import FidelityError
from napari_fidelity.widgets._controls import choice, labelled
from napari_fidelity.widgets._correction import Correction
from napari_fidelity.widgets._dock import fold_away
from napari_fidelity.widgets._judged import JudgedPanel, is_result, made_in_words
from napari_fidelity.widgets._map_panel import MapPanel
from napari_fidelity.widgets._map_run import MapRun
from napari_fidelity.widgets._map_view import MapView
from napari_fidelity.widgets._reconstruction import Reconstruction
from napari_fidelity.widgets._regions_panel import RegionsPanel
from napari_fidelity.widgets._reproduce import dock_for, judged_of, open_dock, recipe_of
from napari_fidelity.widgets._running_dock import RunningDock
from napari_fidelity.widgets._settings import settings
from napari_fidelity.widgets._slices import beside
from napari_fidelity.widgets._ticks import is_map, is_trust_map

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_fidelity.operators.base import Operator
    from napari_fidelity.pipeline import Recipe
    from napari_fidelity.widgets._layers import Source
    from napari_fidelity.widgets._maker import Maker
    from napari_fidelity.widgets._restoration import Request
    from napari_fidelity.widgets._run import RestorationRun
    from napari_fidelity.widgets._worker import Outcome

_MAKERS = {
    "Correct": ("a network", "A restoration network and its correction, as in the dock Correct."),
    "Reconstruct": ("a prior", "A denoiser or an untrained network as prior, as in the dock Reconstruct."),
}
_CLASSES: dict[str, type[Maker]] = {"Correct": Correction, "Reconstruct": Reconstruction}
_ELSEWHERE = (
    "Not made by Fidelity. Say below which measurement it belongs to, and how that was formed; dropout, ensemble "
    "and bootstrap judge the method chosen there."
)


class UncertaintyWidget(RunningDock):
    """Choose a result and a map of it; run; look at the map, label what is doubtful, and act on it.

    Parameters
    ----------
    napari_viewer
        The viewer whose results are judged.
    """

    title = "Uncertainty"
    purpose = "judge"

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__(napari_viewer)
        self._makers: dict[str, tuple[Maker, QWidget]] = {}
        self._given: Any = None  # the image that a recipe judges, where its layer is gone
        self.judged = JudgedPanel(self.viewer)
        self.map = MapPanel()
        self.view = MapView(self.viewer)
        self.regions = RegionsPanel(self.viewer, lambda: self.view.layer.value)
        self.made_by = choice(_MAKERS, "made by", "What makes the image of the measurement.")
        self._below = QWidget()
        column = QVBoxLayout(self._below)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        self._maker_chosen()
        self.assemble()
        self.made_by.currentIndexChanged.connect(self._maker_chosen)
        self.judged.changed.connect(self._judge)
        self.view.changed.connect(self._map_shown)
        self.view.weights_requested.connect(self.fine_tune_by)
        self.regions.problem.connect(lambda text: self.bar.show_message(text, error=True))
        self._begin()

    def add_sections(self) -> None:
        """Add the result, how it is made, the map, and what can be done with it."""
        self.section("Result", self.judged)
        self.made = fold_away(
            "How it is made",
            labelled({"measurement": self.layer.native}),
            self.axes,
            self.formation,
            labelled({"made by": self.made_by}),
            self._below,
        )
        self.column.addWidget(self.made)
        self.section("Map", self.map)
        self._with_map = [self.section("Look at a map", self.view), self.view]
        self._with_map += [self.section("Doubtful regions", self.regions), self.regions]

    # -- what is judged ---------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Begin with what is selected: a result, a map or a measurement."""
        active = self.viewer.layers.selection.active
        self.view.choose(active)
        result = judged_of(self.viewer, active) if active is not None and is_map(active) else active
        if is_result(result):
            self.judged.layer.value = result
        else:
            self._judge(None)

    def reset_choices(self, event: Any = None) -> None:
        """Offer the layers there are now."""
        super().reset_choices()
        self.judged.refresh()
        self.view.refresh()
        self._map_shown()

    def selected(self, event: Any = None) -> None:
        """Follow the selection in the viewer's list of layers."""
        super().selected(event)
        self.view.choose(self.viewer.layers.selection.active)

    def _judge(self, layer: Layer | None) -> None:
        """Show how a result was made, as far as that is known."""
        self._given = None
        if not is_result(layer):
            self.judged.say("" if layer is None else _ELSEWHERE)
            self.made.expand(animate=False)
            return
        assert layer is not None
        try:
            recipe = recipe_of(layer)
        except FidelityError as error:
            self.judged.say(str(error))
            return
        lost = self.show_measurement(layer)
        self.show_recipe(recipe)
        self._loaded = None
        self.judged.say(f"{made_in_words(recipe, layer)} {lost}".rstrip())
        if lost:
            self.made.expand(animate=False)
        else:
            self.made.collapse(animate=False)

    def show_measurement(self, result: Layer) -> str:
        """Choose what a result was made from, and of a map what it judges."""
        if is_map(result):
            judged = judged_of(self.viewer, result)
            self.judged.show_layer(judged)
            self.judged.say("")
        return super().show_measurement(result)

    def show_recipe(self, recipe: Recipe) -> None:
        """Show the settings of a recipe, of a map or of what can be judged."""
        method: Any = recipe.method
        if hasattr(method, "of"):
            self.map.set_map(method)
            self._given = method.image if self.judged.layer.value is None else None
            recipe = recipe.replace(method=method.of)
        self.made_by.setCurrentIndex(self.made_by.findData(dock_for(recipe)))
        super().show_recipe(recipe)

    def _maker_chosen(self, _: Any = None) -> None:
        """Let images be made in another way, and show its controls."""
        key = self.made_by.currentData()
        if key not in self._makers:
            self._makers[key] = self._placed(_CLASSES[key](self))
        maker, _widget = self._makers[key]
        self.use(maker)
        for other, widget in self._makers.values():
            widget.setVisible(other is maker)
        self.method.reset_choices()
        self.formation_changed()

    def _placed(self, maker: Maker) -> tuple[Maker, QWidget]:
        """Return what makes images, and its controls without those of the image formation, which is shared."""
        widget = QWidget()
        column = QVBoxLayout(widget)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        for title, part in maker.sections.items():
            if part is not self.formation:
                column.addWidget(QLabel(f"<b>{title}</b>"))
                column.addWidget(part)
        self._below.layout().addWidget(widget)
        return maker, widget

    # -- running ----------------------------------------------------------------------------------------------

    def recipe_parts(self, source: Source, operator: Operator) -> dict[str, Any]:
        """Return the map over the method, and the network; errors as :meth:`Maker.recipe_parts`."""
        parts = super().recipe_parts(source, operator)
        method = parts["method"]
        shown = self.map.map(method.replace(snapshots=0) if method.iterative else method)
        given = {} if self._given is None else {"image": self._given}
        return {**parts, "method": shown.replace(**given)}

    def request_parts(self, recipe: Recipe) -> dict[str, Any]:
        """Return the image that is judged, and layers that the judged method takes."""
        parts = super().request_parts(recipe)
        layer = self.judged.layer.value
        return {
            "arrays": {f"of.{name}": source for name, source in parts.get("arrays", {}).items()},
            "judged": None if layer is None else beside(self.viewer, layer, self.source()),
        }

    def make_run(self, request: Request) -> RestorationRun:
        """Return the run of a map, not yet started."""
        rate = settings().display_rate
        return MapRun(self.viewer, request, rate, self.view.colours.currentData(), self.view.bar.isChecked())

    def _stepped(self) -> None:
        """Show no curve: passes do not descend."""

    def _finished(self, outcome: Outcome) -> None:
        super()._finished(outcome)
        if self.run is not None:
            self.view.refresh()
            self.view.choose(self.run.live.layer)
            self.view.show_again()

    # -- looking and acting -----------------------------------------------------------------------------------

    def _map_shown(self) -> None:
        """Show what can be done with a map, if there is one."""
        for widget in self._with_map:
            widget.setVisible(self.view.layer.value is not None)
        self.regions.map_changed()

    def fine_tune_by(self, layer: Layer | None) -> None:
        """Open Correct with the settings of what a map judges, and the map as the weights of the pixels."""
        if layer is None or not is_trust_map(layer):
            return
        try:
            recipe: Any = recipe_of(layer)
        except FidelityError as error:
            self.bar.show_message(str(error), error=True)
            return
        dock = open_dock(self.viewer, "Correct")
        dock.show_measurement(layer)
        inner = recipe.replace(method=recipe.method.of)
        if dock_for(inner) == "Correct":
            dock.show_recipe(inner)
        elif recipe.operator is not None:
            dock.formation.set_formation(recipe.operator, recipe.noise, nonfinite=recipe.nonfinite)
        dock.method.use_map(layer)
        dock.bar.show_message(f"Pixels that '{layer.name}' calls uncertain count less.")
