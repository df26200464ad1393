"""What the docks share that make an image from a layer: run, watch, pick an iteration, compare, do it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from qtpy.QtCore import QTimer

from napari_fidelity.core.errors import FidelityError
from napari_fidelity.widgets._check import Check
from napari_fidelity.widgets._measurement_dock import MeasurementDock
from napari_fidelity.widgets._model_memory import trusted
from napari_fidelity.widgets._plots import CurvePlot
from napari_fidelity.widgets._reproduce import (
    ReproduceBar,
    as_loaded,
    dock_for,
    measurement_of,
    open_dock,
    recipe_of,
    record_of,
)
from napari_fidelity.widgets._restoration import Request
from napari_fidelity.widgets._result_panel import ResultPanel
from napari_fidelity.widgets._run import RestorationRun, summary
from napari_fidelity.widgets._run_bar import RunBar
from napari_fidelity.widgets._settings import settings
from napari_fidelity.widgets._worker import Outcome, run_later

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_fidelity.core.blocks import Spatial
    from napari_fidelity.operators.base import Operator
    from napari_fidelity.pipeline import Recipe
    from napari_fidelity.widgets._layers import Source
    from napari_fidelity.widgets._maker import Maker
    from napari_fidelity.widgets._recipe_panel import RecipePanel

_WARM_UP = 400  # milliseconds after which the computing libraries are loaded, in the background


class RunningDock(MeasurementDock):
    """Choose a layer and an image formation model; run; pick an iteration; compare.

    A dock that derives from it says what makes its images (:meth:`use`) and calls :meth:`assemble`.

    Attributes
    ----------
    title
        Its name in napari.
    maker, method
        What makes an image of the measurement, and the panel of its method.
    """

    title: ClassVar[str]
    maker: Maker
    method: RecipePanel

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__(napari_viewer)
        self.run: RestorationRun | None = None
        self._loaded: tuple[Recipe, Layer | None] | None = None
        self._noise_problem = ""  # as the bar says it
        self.bar = RunBar()
        self.curve = CurvePlot()
        self.result = ResultPanel()
        self.reproduce = ReproduceBar(self.viewer)
        self.checking = Check(self.viewer)

    def use(self, maker: Maker) -> None:
        """Let images be made in this way from now on."""
        self.maker, self.method = maker, maker.method

    def assemble(self) -> None:
        """Put the dock together: its sections, doing a result again, and the foot."""
        self.add_sections()
        self.section("Do a result again", self.reproduce, folded=True)
        self.column.addStretch(1)
        for widget in (self.bar, self.curve, self.result):
            self.foot.addWidget(widget)
        self.curve.setVisible(False)
        self._connect()
        self.follow_layers()
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._warm_up)
        self._later.start(_WARM_UP)

    def add_sections(self) -> None:
        """Add the measurement and what makes an image of it."""
        self.section("Measurement", self.layer.native, self.axes)
        for title, widget in self.maker.sections.items():
            self.section(title, widget)

    def _connect(self) -> None:
        self.formation.check_requested.connect(self.check)
        self.formation.noise_form.not_found.connect(self._noise_not_found)
        self.checking.said.connect(self.bar.show_message)
        self.bar.run_requested.connect(self.start)
        self.result.picked.connect(self.curve.mark)
        self.result.compare_requested.connect(self.compare)
        self.reproduce.load_requested.connect(self.load_layer)

    def _warm_up(self) -> None:
        """Load what the first run needs before it is asked for."""

        def load() -> None:
            import torch  # noqa: F401

            import napari_fidelity.metrics
            import napari_fidelity.pipeline.restoration  # noqa: F401

        self.curve.prepare()
        run_later(load, lambda _: None, lambda _: None, name="Loading PyTorch")

    # -- what depends on how images are made ------------------------------------------------------------------

    def recipe_parts(self, source: Source, operator: Operator) -> dict[str, Any]:
        """Return the fields of the recipe that follow from the method; errors as :meth:`Maker.recipe_parts`."""
        return self.maker.recipe_parts(source, operator)

    def request_parts(self, recipe: Recipe) -> dict[str, Any]:
        """Return what the request holds beside layer, recipe and preferences."""
        return self.maker.request_parts(recipe)

    def operator(self) -> Operator:
        """Return the image formation model; errors as :meth:`MeasurementDock.operator`."""
        return self.maker.operator()

    def spatial(self, source: Source) -> Spatial:
        """Return the axes of what is one image: ``"YX"``, or ``"ZYX"`` for whole volumes."""
        return self.maker.spatial(source)

    def take_noted(self, noted: Mapping[str, Any]) -> None:
        """Take what a layer notes about itself beside its image formation."""
        self.maker.take_noted(noted)

    def formation_changed(self) -> None:
        """Follow the image formation model."""
        self.maker.formation_changed()
        self.estimate()

    # -- choosing ---------------------------------------------------------------------------------------------

    def reset_choices(self, event: Any = None) -> None:
        """Offer the layers there are now."""
        super().reset_choices()
        self.method.reset_choices()
        self._let_go()
        if self.layer.value is None and not self.bar.running:
            self.bar.show_message("")  # of layers that are gone

    def _let_go(self) -> None:
        """Let go of a run of which nothing is left in the viewer."""
        run = self.run
        if run is None or run.job.state != "ended" or run.live.shown:
            return
        if run.output not in self.viewer.layers and measurement_of(self.viewer, run.live.layer) is None:
            self.result.clear()
            self.run = None

    def selected(self, event: Any = None) -> None:
        """Follow the selection in the viewer's list of layers."""
        self.reproduce.refresh()

    def _noise_not_found(self, problem: str) -> None:
        """Say why no noise level was found, until one is given or another layer is chosen."""
        self.bar.take_back(self._noise_problem)
        self._noise_problem = f"The noise level was not found. {problem}" if problem else ""
        if problem and not self.bar.running:
            self.bar.show_message(self._noise_problem)

    # -- running ----------------------------------------------------------------------------------------------

    def request(self) -> Request:
        """Return what the dock says now.

        Raises
        ------
        FidelityError
            If something is missing or impossible.
        """
        from napari_fidelity.pipeline import Recipe

        source = self.source()
        operator = self.operator()
        given = {"noise": self.formation.noise(), "stop": self.method.stop()}
        recipe = Recipe(
            operator=operator,
            nonfinite=self.formation.nonfinite(),
            **self.method.recipe_fields(),
            **{name: value for name, value in given.items() if value is not None},
            **self.recipe_parts(source, operator),
        )
        chosen = settings()
        return Request(
            source,
            self._replayed(recipe),
            device=chosen.device,
            dtype=self.method.dtype,
            memory_limit=chosen.memory_limit,
            trusted=trusted(),
            **self.request_parts(recipe),
        )

    def _replayed(self, recipe: Recipe) -> Recipe:
        """Let a stack that was stopped end where it did, if everything is as it was loaded."""
        loaded = self._loaded
        return recipe if loaded is None or loaded[1] is not self.layer.value else as_loaded(recipe, loaded[0])

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
        self.run = self.make_run(request)
        self.run.stepped.connect(self._stepped)
        self.run.memory_known.connect(self.axes.set_memory)
        self.run.finished.connect(self._finished)
        self.bar.follow(self.run.job)
        self.formation.check_button.setEnabled(False)  # the bar follows one thing at a time
        self.run.start()

    def make_run(self, request: Request) -> RestorationRun:
        """Return the run of a request, not yet started."""
        return RestorationRun(self.viewer, request, settings().display_rate)

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
            return
        self.maker.failed(outcome.error)
        if run.problem is not None:  # the bar shows what the job itself met with
            self.bar.show_message(str(outcome.error), error=True)

    # -- beyond -----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Show A(x) of the current result beside the measurement, or go back."""
        active = self.viewer.layers.selection.active
        live = self.run.live.layer if self.run is not None and self.run.live.shown else None
        result = active if "recipe" in record_of(active) else live
        measured = measurement_of(self.viewer, result)
        try:
            job = self.checking.start(result, measured, *self.maker.to_check())
        except FidelityError as error:
            self.bar.show_message(str(error), error=True)
            return
        if job is not None:
            self.bar.follow(job)
            job.start()

    def compare(self) -> None:
        """Open the Compare dock with the layers of the last run."""
        dock = open_dock(self.viewer, "Compare")
        if self.run is not None:
            dock.prefill(**self.run.to_compare())

    def load_layer(self, layer: Layer) -> None:
        """Show the settings of a result layer, and its measurement, in the dock that makes such results."""
        try:
            recipe = recipe_of(layer)
        except FidelityError as error:
            self.bar.show_message(str(error), error=True)
            return
        if dock_for(recipe) != self.title:
            open_dock(self.viewer, dock_for(recipe)).load_layer(layer)
            return
        lost = self.show_measurement(layer)
        self.show_recipe(recipe)
        self.method.integers.setChecked(layer.dtype.kind in "ui")
        self._loaded = (recipe, measurement_of(self.viewer, layer))
        self.bar.show_message(f"These are the settings of '{layer.name}'. {lost}".rstrip())

    def show_recipe(self, recipe: Recipe) -> None:
        """Show the settings of a recipe."""
        self.maker.take_recipe(recipe)  # first, so that the formation's scale does not choose another network
        if recipe.operator is not None:
            self.formation.set_formation(recipe.operator, recipe.noise, nonfinite=recipe.nonfinite)
        self.method.set_recipe(recipe)
