"""The Correct dock: make a restored image answer to the layer it was restored from."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from napari_fidelity.core.errors import FidelityError, ImageError
from napari_fidelity.widgets._axes import AxesTable
from napari_fidelity.widgets._check import Check
from napari_fidelity.widgets._correction import Request, gigabytes
from napari_fidelity.widgets._dock import Dock, layer_combo
from napari_fidelity.widgets._formation import FormationPanel
from napari_fidelity.widgets._layers import Source, find_formation, show_slice
from napari_fidelity.widgets._links import Links
from napari_fidelity.widgets._method_panel import MethodPanel
from napari_fidelity.widgets._model import ModelPicker
from napari_fidelity.widgets._plots import CurvePlot
from napari_fidelity.widgets._reproduce import ReproduceBar, measurement_of, recipe_of, record_of, settings_of
from napari_fidelity.widgets._result_panel import ResultPanel
from napari_fidelity.widgets._run import CorrectionRun, summary
from napari_fidelity.widgets._run_bar import RunBar
from napari_fidelity.widgets._settings import settings
from napari_fidelity.widgets._worker import Outcome, run_later

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_fidelity.operators.base import Operator
    from napari_fidelity.pipeline import Recipe

_WARM_UP = 400  # milliseconds after which the computing libraries are loaded, in the background


class CorrectWidget(Dock):
    """Choose a layer, a network and an image formation model; run; pick an iteration; compare.

    Parameters
    ----------
    napari_viewer
        The viewer whose layers are corrected.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__(napari_viewer)
        self.run: CorrectionRun | None = None
        self._loaded: tuple[Recipe, Layer | None] | None = None
        self.layer = layer_combo(
            self.viewer, "The image to correct: what the microscope, camera or scanner recorded"
        )
        self.axes = AxesTable()
        self.model = ModelPicker(settings().model_folder)
        self.formation = FormationPanel(self.viewer)
        self.method = MethodPanel(self.viewer)
        self.bar = RunBar()
        self.curve = CurvePlot()
        self.result = ResultPanel()
        self.reproduce = ReproduceBar(self.viewer)
        self.checking = Check(self.viewer)
        self.section("Measurement", self.layer.native, self.axes)
        self.section("Network", self.model)
        self.section("Image formation", self.formation)
        self.section("Correction", self.method)
        self.section("Do a result again", self.reproduce, folded=True)
        self.column.addStretch(1)
        for widget in (self.bar, self.curve, self.result):
            self.foot.addWidget(widget)
        self.curve.setVisible(False)
        self._connect()
        self.reset_choices()
        self._choose_active()
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._warm_up)
        self._later.start(_WARM_UP)

    def _connect(self) -> None:
        self.layer.changed.connect(self._layer_chosen)
        self.axes.changed.connect(self._estimate)
        self.model.changed.connect(self._model_changed)
        self.formation.changed.connect(self._formation_changed)
        self.formation.check_requested.connect(self.check)
        self.checking.said.connect(self.bar.show_message)
        self.bar.run_requested.connect(self.start)
        self.result.picked.connect(self.curve.mark)
        self.result.compare_requested.connect(self.compare)
        self.reproduce.load_requested.connect(self.load_layer)
        events = self.viewer.layers.events
        self._links = Links(self)
        self._links.connect(self.reset_choices, events.inserted, events.removed, events.reordered)
        if "renamed" in events.emitters:
            self._links.connect(self.reset_choices, events.renamed)
        self._links.connect(self._selected, self.viewer.layers.selection.events.active)

    def _warm_up(self) -> None:
        """Load what the first run needs before it is asked for."""

        def load() -> None:
            import torch  # noqa: F401

            import napari_fidelity.metrics
            import napari_fidelity.pipeline.restoration  # noqa: F401

        self.curve.prepare()
        run_later(load, lambda _: None, lambda _: None, name="Loading PyTorch")

    # -- choosing ---------------------------------------------------------------------------------------------

    def reset_choices(self, event: Any = None) -> None:
        """Offer the layers there are now."""
        before = self.layer.value
        self.layer.reset_choices()
        self.method.reset_choices()
        self.formation.reset_choices()
        if self.layer.value is not before:
            self._layer_chosen()
        self._let_go()

    def _let_go(self) -> None:
        """Let go of a run of which nothing is left in the viewer."""
        run = self.run
        if run is None or run.job.state != "ended" or run.live.shown:
            return
        if run.output not in self.viewer.layers and measurement_of(self.viewer, run.live.layer) is None:
            self.result.clear()
            self.run = None

    def _choose_active(self) -> None:
        active = self.viewer.layers.selection.active
        if active is not None and active in self.layer.choices and "recipe" not in record_of(active):
            self.layer.value = active
        self._layer_chosen()

    def _selected(self, event: Any = None) -> None:
        self.reproduce.refresh()

    def _layer_chosen(self, layer: Layer | None = None) -> None:
        layer = self.layer.value
        self.axes.set_layer(layer)
        self.formation.set_source(layer)
        known = find_formation(layer) if layer is not None else None
        if known and known.get("model"):
            self.model.choose(known["model"])
        self._formation_changed()

    def _model_changed(self) -> None:
        if self.model.scale:
            self.formation.set_scale(self.model.scale)
        self._estimate()

    def _formation_changed(self) -> None:
        try:
            scale = _whole_scale(self.formation.operator())
        except FidelityError:
            scale = 0  # said by the panel itself
        if scale:
            self.model.fit(scale)
        self._estimate()

    def _estimate(self) -> None:
        """Say what the run will read and make, as far as that is known without reading it."""
        try:
            source = self._source()
            grid = self.formation.operator().grid(2)
        except (FidelityError, ValueError):
            self.axes.set_memory("")
            return
        result = prod(source.shape) * prod(grid.scale) * 4  # bytes of float32
        self.axes.set_memory(f"Reads {gigabytes(source.nbytes)}, result {gigabytes(result)}")

    # -- running ----------------------------------------------------------------------------------------------

    def request(self) -> Request:
        """Return what the dock says now.

        Raises
        ------
        FidelityError
            If something is missing or impossible.
        """
        from napari_fidelity.pipeline import Recipe

        source = self._source()
        operator = self.formation.operator()
        sizes = dict(zip(source.axes, source.shape, strict=True))
        measured = (sizes["Y"], sizes["X"])
        recipe = Recipe(
            operator=operator,
            method=self.method.method(operator.image_shape(measured), measured),
            model=self.model.reference(),
            nonfinite=self.formation.nonfinite(),
            **self.method.recipe_fields(),
            **_given(noise=self.formation.noise(), stop=self.method.stop()),
        )
        chosen = settings()
        return Request(
            source,
            self._replayed(recipe),
            device=chosen.device,
            dtype=self.method.dtype,
            memory_limit=chosen.memory_limit,
        )

    def _replayed(self, recipe: Recipe) -> Recipe:
        """Let a stack that was stopped end where it did, if everything else is as it was loaded."""
        if self._loaded is None or self._loaded[1] is not self.layer.value:
            return recipe
        loaded = self._loaded[0]
        same = settings_of(recipe) == settings_of(loaded)
        return recipe.replace(last_iterations=loaded.last_iterations, threads=loaded.threads) if same else recipe

    def start(self) -> None:
        """Run what the dock says."""
        try:
            request = self.request()
        except FidelityError as error:
            self.bar.show_message(str(error), error=True)
            return
        self.result.clear()
        self.curve.clear()
        self.curve.setVisible(False)
        self.run = CorrectionRun(self.viewer, request, settings().display_rate)
        self.run.stepped.connect(self._stepped)
        self.run.memory_known.connect(self.axes.set_memory)
        self.run.finished.connect(self._finished)
        self.bar.follow(self.run.job)
        self.formation.check_button.setEnabled(False)  # the bar follows one thing at a time
        self.run.start()

    def _source(self) -> Source:
        layer = self.layer.value
        if layer is None:
            raise ImageError("There is no image layer to correct", do="Open an image, or a sample of Fidelity")
        return Source.of(layer, self.axes.axes(), self.axes.index(self.viewer))

    def _stepped(self) -> None:
        if self.run is not None and len(self.run.history) > 1:  # one point is no curve
            self.curve.setVisible(True)
            self.curve.set_history(self.run.history)

    def _finished(self, outcome: Outcome) -> None:
        run = self.run
        if run is None:
            return
        self.formation.check_button.setEnabled(True)
        self.reproduce.refresh()
        self._stepped()
        if outcome.value is not None:
            self.result.show_result(outcome.value, run.live)
        if outcome.error is None:
            self.bar.show_message(summary(run, outcome))
        elif run.problem is not None:  # the bar shows what the job itself met with
            self.bar.show_message(str(outcome.error), error=True)

    # -- beyond -----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Show A(x) of the current result beside the measurement, or go back."""
        active = self.viewer.layers.selection.active
        live = self.run.live.layer if self.run is not None and self.run.live.shown else None
        result = active if "recipe" in record_of(active) else live
        measured = measurement_of(self.viewer, result)
        try:
            job = self.checking.start(result, measured, self.formation.operator())
        except FidelityError as error:
            self.bar.show_message(str(error), error=True)
            return
        if job is not None:
            self.bar.follow(job)
            job.start()

    def compare(self) -> None:
        """Open the Compare dock with the layers of the last run."""
        holder, dock = self.viewer.window.add_plugin_dock_widget("napari-fidelity", "Compare", tabify=True)
        holder.show()
        holder.raise_()
        run = self.run
        if run is None:
            return
        images = [layer for layer in (run.output, run.live.layer) if layer in self.viewer.layers]
        measurement = measurement_of(self.viewer, run.live.layer)
        partner = record_of(measurement).get("of") if measurement is not None else None
        reference = next((layer for layer in self.viewer.layers if partner and layer.name == partner), None)
        recipe = run.recipe
        dock.prefill(
            images=images,
            reference=reference,
            measurement=measurement,
            operator=recipe.operator,
            noise=recipe.noise,
        )

    def load_layer(self, layer: Layer) -> None:
        """Show the settings a result layer was made with.

        The measurement is chosen too if its layer is still there.
        """
        try:
            recipe = recipe_of(layer)
        except FidelityError as error:
            self.bar.show_message(str(error), error=True)
            return
        source = record_of(layer).get("source", {})
        measured = measurement_of(self.viewer, layer)
        if measured is not None:
            self.layer.value = measured
            self.axes.set_axes(source.get("axes", ""), source.get("index", {}))
            show_slice(self.viewer, measured, source.get("axes", ""), source.get("index", {}))
        if recipe.model is not None:
            self.model.set_reference(recipe.model)  # first, so that the formation's scale does not choose another
        if recipe.operator is not None:
            self.formation.set_formation(recipe.operator, recipe.noise, nonfinite=recipe.nonfinite)
        self.method.set_recipe(recipe)
        self.method.integers.setChecked(layer.dtype.kind in "ui")
        self._loaded = (recipe, measured)
        lost = (
            "" if measured is not None else f" Its measurement '{source.get('layer', '?')}' is not in the viewer."
        )
        self.bar.show_message(f"These are the settings of '{layer.name}'.{lost}")


def _whole_scale(operator: Operator) -> int:
    """Return by how much a network has to enlarge for an operator; 0 if by no whole number."""
    scale = operator.grid(2).scale
    same = len(set(scale)) == 1 and float(scale[0]).is_integer()
    return int(scale[0]) if same else 0


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
