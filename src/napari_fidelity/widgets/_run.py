"""One run in the viewer: its job, its layers, its history. It outlives the dock that started it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_fidelity.widgets._layers import add_result
from napari_fidelity.widgets._live import LiveLayer
from napari_fidelity.widgets._pump import explained
from napari_fidelity.widgets._reproduce import measurement_of, record_of
from napari_fidelity.widgets._restoration import Request, Shown, restoration
from napari_fidelity.widgets._worker import Job, News, Outcome

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.step import Record, Result

_running: set[RestorationRun] = set()  # a run must live on when its dock is closed


class RestorationRun(QObject):
    """Shows what a job finds in layers of the viewer.

    Attributes
    ----------
    stepped
        There is more in ``history``.
    memory_known
        What the run needs, in words.
    finished
        The run is over and its layers are in the viewer: a :class:`Finished`.
    """

    stepped = Signal()
    memory_known = Signal(str)
    finished = Signal(object)

    def __init__(self, viewer: ViewerModel, request: Request, rate: float) -> None:
        super().__init__()
        source, operator = request.source, request.recipe.operator
        if operator is not None and not operator.shares_grid:
            source = source.on_own_scale()
        model = request.recipe.model
        self.viewer, self.source, self.recipe, self.request = viewer, source, request.recipe, request
        self.history: list[Record] = []
        self.output_name = f"{source.name} – {_short(model.name)}" if model else f"{source.name} – network"
        self.live = self.make_live()
        self.output: Layer | None = None
        self.fit_before: float | None = None
        self.problem: Exception | None = None  # met here, not by the job
        self.job = Job(partial(restoration, request, self.history), name=self.live.name, rate=rate)
        self.job.changed.connect(self._changed)
        self.job.ended.connect(self._ended)

    def make_live(self) -> LiveLayer:
        """Return what shows the growing result."""
        return LiveLayer(self.viewer, self.source, f"{self.source.name} – {_RESULTS[self.recipe.method.kind]}")

    def start(self) -> None:
        """Begin."""
        _running.add(self)
        self.job.start()

    def to_compare(self) -> dict[str, Any]:
        """Return what the Compare dock asks for: results, ground truth, measurement and how it was formed."""
        measurement = measurement_of(self.viewer, self.live.layer)
        partner = record_of(measurement).get("of") if measurement is not None else None
        return {
            "images": [layer for layer in (self.output, self.live.layer) if layer in self.viewer.layers],
            "reference": next((layer for layer in self.viewer.layers if partner and layer.name == partner), None),
            "measurement": measurement,
            "operator": self.recipe.operator,
            "noise": self.recipe.noise,
        }

    def _changed(self, news: News) -> None:
        try:
            self._show(news)
        except Exception as error:  # raised into Qt's event loop it would be nobody's
            self.problem = explained(error, f"Showing '{self.live.name}'")
            self.job.stop("its layer could not be shown")

    def _show(self, news: News) -> None:
        if news.kind == "needs":
            self.memory_known.emit(news.value)
        elif news.kind == "output":
            result: Result[Image] = news.value
            self.fit_before = _fit(result)
            self.output = add_result(self.viewer, self.source, result.image, name=self.output_name)
        elif news.kind == "step":
            if isinstance(news.value, Shown):
                self.live.show(news.value.block, news.value.position, news.value.measured)
            self.stepped.emit()

    def _ended(self, outcome: Outcome) -> None:
        _running.discard(self)
        try:
            self.show_last(outcome)
        except Exception as error:
            self.problem = explained(error, f"Showing '{self.live.name}'")
        if self.problem is not None:
            outcome = replace(outcome, kind="failed", error=outcome.error or self.problem)
        self.finished.emit(outcome)
        self.deleteLater()  # in this thread, not in whichever the garbage collector runs

    def show_last(self, outcome: Outcome) -> None:
        """Show how the run ended."""
        if outcome.value is not None:
            self.live.finish(outcome.value.image)
        elif self.live.shown and self.live.layer is not None:
            self.live.layer.name = f"{self.live.name} (unfinished)"


_RESULTS = {
    "finetune": "corrected",
    "project": "projected",
    "apply": "network",
    "dip": "DIP",
    "red": "RED",
    "deepred": "DeepRED",
    "zssr": "ZSSR",
}  # what a method's result is called, after its measurement


def _short(name: str) -> str:
    """Return a model's name without its folders and suffix."""
    return name.replace("\\", "/").rpartition("/")[2].rpartition(".")[0] or name


def _fit(result: Any) -> float | None:
    """Return how well a result explains the measurement, in dB, where that was measured."""
    return result.history[-1].scores.get("lr_psnr") if result.history else None


def summary(run: RestorationRun, outcome: Outcome) -> str:
    """Say in one or two sentences how a run ended."""
    from napari_fidelity.metrics import noise_left

    result: Any = outcome.value
    if result is None:
        return "Stopped before there was an image."
    if not run.recipe.method.reads_measurement:
        return f"{_reason(result)} {result.seconds:.1f} s. {noise_left(result.history)}".rstrip()
    fit = f" LR-PSNR {_fit(result):.2f} dB" if _fit(result) is not None else ""
    if fit and getattr(run.recipe.method, "project", False):
        fit += " before the projection"
    if fit:
        fit += f" (the network alone {run.fit_before:.2f} dB)." if run.fit_before is not None else "."
    return f"{_reason(result)} {result.seconds:.1f} s.{fit}"


def _reason(result: Any) -> str:
    reason = result.stop_reason[:1].upper() + result.stop_reason[1:]
    return f"{reason.rstrip('.')}."
