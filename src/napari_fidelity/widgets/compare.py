"""The Compare dock: layers against a reference, against the measurement, and before the eye."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QPushButton, QSizePolicy, QWidget

from napari_fidelity.core.errors import FidelityError, ImageError
from napari_fidelity.widgets._arrange import ArrangePanel
from napari_fidelity.widgets._dock import Dock, layer_combo, rows
from napari_fidelity.widgets._formation_fold import FormationFold
from napari_fidelity.widgets._guess import full_data
from napari_fidelity.widgets._icons import set_icon
from napari_fidelity.widgets._links import Links
from napari_fidelity.widgets._profile import ProfilePanel
from napari_fidelity.widgets._run_bar import RunBar
from napari_fidelity.widgets._score_options import ScoreOptions
from napari_fidelity.widgets._score_table import ScoreTable
from napari_fidelity.widgets._ticks import LayerTicks, comparable, partner_of
from napari_fidelity.widgets._worker import Job, Outcome, run_later

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_fidelity.operators import Noise, Operator
    from napari_fidelity.widgets._comparison import Comparison, Scores
    from napari_fidelity.widgets._maps import Maps


_WARM_UP = 400  # ms after which the metrics are loaded, in the background


class CompareWidget(Dock):
    """Tick layers, say what they are compared with, and look at them in every way.

    Parameters
    ----------
    napari_viewer
        The viewer whose layers are compared.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__(napari_viewer)
        self._chosen = False  # whether the user chose the reference or the measurement
        self._warm = QTimer(self)
        self._warm.setSingleShot(True)
        self._warm.timeout.connect(self._load)
        self._warmed = False
        self.ticks = LayerTicks(self.viewer)
        self.reference = layer_combo(
            self.viewer, "The true image, if there is one: PSNR, SSIM and LPIPS are taken against it",
            accept=comparable, none="none",
        )  # fmt: skip
        self.measurement = layer_combo(
            self.viewer, "What was recorded: the residual says how well each image explains it",
            accept=comparable, none="none",
        )  # fmt: skip
        self.formation = FormationFold(self.viewer)
        self.options = ScoreOptions()
        self.bar = RunBar()
        self.table = ScoreTable()
        self.difference_button = _button(
            "Diffe&rence layers",
            "Add layer − reference of every ticked layer: blue is darker, red is brighter, all on one scale",
        )
        self.residual_button = _button(
            "Residual l&ayers",
            "Add A x − y of every ticked layer: what it does not explain of the measurement. "
            "Structure in it is information lost; noise alone is what should be left",
        )
        self.arrange = ArrangePanel(self.viewer, self.ticks.layers)
        self.profile = ProfilePanel(self.viewer, self.ticks.layers, lambda: self.reference.value)
        self._lay_out()
        self._connect()
        self.refresh()

    def _lay_out(self) -> None:
        against = rows(reference=self.reference.native, measurement=self.measurement.native)
        # Names of layers differ in their ends: the boxes get all the width there is.
        against.layout().setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapAllRows)
        against.layout().setVerticalSpacing(1)
        self.section("Layers", self.ticks, against)
        self.column.addWidget(self.formation)
        self.section("Options", self.options, folded=True)
        self.bar.run_button.setText("&Compare")
        set_icon(self.bar.run_button, "compare")
        self.bar.pause_button.hide()
        self.bar.stop_button.setToolTip("Stop after this layer; the numbers so far stay")
        maps = QWidget()
        buttons = QHBoxLayout(maps)
        buttons.setContentsMargins(0, 0, 0, 0)
        buttons.setSpacing(4)
        buttons.addWidget(self.difference_button, 1)
        buttons.addWidget(self.residual_button, 1)
        for widget in (self.bar, self.table, maps):
            self.column.addWidget(widget)
        self.section("Look", self.arrange)
        self.section("Line profile", self.profile)
        self.column.addStretch(1)

    def _connect(self) -> None:
        self.bar.run_requested.connect(self.start)
        self.difference_button.clicked.connect(self.add_differences)
        self.residual_button.clicked.connect(self.add_residuals)
        self.ticks.ticked.connect(self._ticked)
        for combo in (self.reference, self.measurement):
            combo.native.activated.connect(self._by_user)
        self.reference.changed.connect(self._ticked)
        self.measurement.changed.connect(self._measurement_chosen)
        events = self.viewer.layers.events
        self._links = Links(self)
        self._links.connect(self.refresh, events.inserted, events.removed, events.reordered)
        if "renamed" in events.emitters:
            self._links.connect(self.refresh, events.renamed)

    # -- choosing ---------------------------------------------------------------------------------------------

    def prefill(
        self,
        images: Sequence[Layer] = (),
        reference: Layer | None = None,
        measurement: Layer | None = None,
        operator: Operator | None = None,
        noise: Noise | None = None,
    ) -> None:
        """Choose layers and the image formation for the user.

        Parameters
        ----------
        images
            Layers to tick.
        reference, measurement
            What with; left out, what the layers themselves say.
        operator, noise
            Image formation of the measurement.
        """
        self.refresh()
        if images:
            self.ticks.tick(images)
        if reference is not None:
            self.reference.value = reference
        if measurement is not None:
            self.measurement.value = measurement
        if operator is not None:
            self.formation.know(operator, noise)

    def refresh(self, event: object = None) -> None:
        """Offer the layers there are now."""
        before = self.measurement.value
        self.reference.reset_choices()
        self.measurement.reset_choices()
        if self.measurement.value is not before:  # it is gone, and magicgui does not tell
            self._measurement_chosen()
        self.formation.reset_choices()
        self.ticks.refresh()
        if not self._chosen:
            self._guess()
        self._show_state()

    def _guess(self) -> None:
        """Take what the layers say of each other: which was recorded, and of what."""
        layers = [layer for layer in self.viewer.layers if comparable(layer)]
        measurement, reference = partner_of(layers)
        if self.measurement.value is None and measurement is not None:
            self.measurement.value = measurement
        if self.reference.value is None and reference is not None:
            self.reference.value = reference

    def _by_user(self) -> None:
        self._chosen = True

    def _ticked(self, _: Any = None) -> None:
        self.arrange.refresh()
        self.profile.refresh()
        self._show_state()

    def _measurement_chosen(self, _: Any = None) -> None:
        self.formation.set_measurement(self.measurement.value)
        self._show_state()

    def _show_state(self) -> None:
        """Let be pressed what can be done now."""
        idle = not self.bar.running
        self.difference_button.setEnabled(idle and self.reference.value is not None)
        self.residual_button.setEnabled(idle and self.measurement.value is not None)
        self.formation.setVisible(self.measurement.value is not None)
        ready = self.reference.value is not None or self.measurement.value is not None
        self.bar.set_ready(ready, "" if ready else "Choose a reference, a measurement or both first.")
        if ready and not self._warmed:
            self._warmed = True
            self._warm.start(_WARM_UP)

    def _load(self) -> None:
        from napari_fidelity.widgets._comparison import load_libraries

        run_later(load_libraries, lambda _: None, lambda _: None, name="Loading the metrics")

    # -- computing --------------------------------------------------------------------------------------------

    def comparison(self) -> Comparison:
        """Return what the dock says now.

        Raises
        ------
        FidelityError
            If something is missing or impossible.
        """
        from napari_fidelity.widgets._comparison import Comparison
        from napari_fidelity.widgets._slices import shown_source

        reference, measurement = self.reference.value, self.measurement.value
        layers = [layer for layer in self.ticks.layers() if layer is not reference and self._scorable(layer)]
        if not layers:
            raise ImageError("There is nothing to compare", do="Tick a layer other than the reference")
        settings = self.options.settings()
        return Comparison(
            tuple(shown_source(self.viewer, layer, settings.every_slice) for layer in layers),
            None if reference is None else shown_source(self.viewer, reference, settings.every_slice),
            None if measurement is None else shown_source(self.viewer, measurement, settings.every_slice),
            None if measurement is None else self.formation.operator(),
            settings,
        )

    def _scorable(self, layer: Layer) -> bool:
        """Whether a layer can have a score: the measurement can where it lies on the reference's grid."""
        reference = self.reference.value
        if layer is not self.measurement.value:
            return True
        return reference is not None and full_data(layer).shape == full_data(reference).shape

    def start(self) -> None:
        """Score the ticked layers."""
        self._run("Comparing layers", lambda comparison: comparison.scores, self._scored)

    def add_differences(self) -> None:
        """Add the difference of each ticked layer to the reference."""
        from napari_fidelity.widgets._maps import differences

        self._run("Differences", lambda comparison: lambda: differences(comparison), self._mapped)

    def add_residuals(self) -> None:
        """Add the residual of each ticked layer."""
        from napari_fidelity.widgets._maps import residuals

        self._run("Residuals", lambda comparison: lambda: residuals(comparison), self._mapped)

    def _run(self, name: str, work: Any, done: Any) -> None:
        if self.bar.running:
            return
        try:
            comparison = self.comparison()
        except FidelityError as error:
            self.bar.show_message(str(error), error=True)
            return
        job = Job(work(comparison), name=name)
        self.bar.follow(job)
        job.ended.connect(done)
        job.start()
        self._show_state()

    def _scored(self, outcome: Outcome) -> None:
        self._show_state()
        scores: Scores | None = outcome.value
        if scores is None:
            return
        self.table.show_scores(scores, self._in_words(scores))
        if scores.stopped:
            self.bar.show_message("Stopped; the layers without numbers were not reached.")

    def _in_words(self, scores: Scores) -> str:
        against = (("reference", self.reference.value), ("measurement", self.measurement.value))
        parts = [f"{word} '{layer.name}'" for word, layer in against if layer is not None]
        parts.append(f"data range {scores.data_range:g}")
        return "Against " + " · ".join(parts + self.options.in_words())

    def _mapped(self, outcome: Outcome) -> None:
        from napari_fidelity.widgets._maps import add_maps

        self._show_state()
        maps: Maps | None = outcome.value
        if maps is None:
            return
        add_maps(self.viewer, maps)
        if maps.problems:
            self.bar.show_message("\n".join(maps.problems))


def _button(text: str, tooltip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tooltip)
    button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    return button
