"""The Check button: what the result would have been recorded as, beside what was recorded."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_fidelity.core.errors import ImageError, ShapeError
from napari_fidelity.widgets._arrange import Before, grid_of
from napari_fidelity.widgets._layers import Source, add_result
from napari_fidelity.widgets._news import News
from napari_fidelity.widgets._slices import Stopped, read
from napari_fidelity.widgets._worker import Job

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.blocks import Spatial
    from napari_fidelity.operators.base import Operator
    from napari_fidelity.widgets._worker import Outcome


class Check(QObject):
    """Adds ``A(x)`` as a layer, shows it beside ``y`` alone, and goes back when asked again.

    Attributes
    ----------
    said
        What was found, in words.
    ended
        The :class:`Outcome` of the computation.
    """

    said = Signal(str)
    ended = Signal(object)

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.viewer = viewer
        self.before: Before | None = None
        self.job: Job | None = None
        self.layer: Layer | None = None

    def start(
        self, result: Layer | None, measured: Layer | None, operator: Operator, spatial: Spatial = "YX"
    ) -> Job | None:
        """Begin, or go back to what was shown before the last check.

        Raises
        ------
        FidelityError
            If there is no result or no measurement.
        """
        if self.before is not None:
            self.go_back()
            return None
        if result is None:
            raise ImageError("There is no result to check yet", do="Run the correction, or select a result layer")
        if measured is None:
            raise ImageError(f"The measurement of '{result.name}' is not in the viewer", do="Open it again")
        source, y = Source.of(result), _matching(measured, Source.of(result))
        self.job = Job(partial(_simulated, source, y, operator, spatial), name=f"Checking '{result.name}'")
        self.job.ended.connect(partial(self._ended, source, measured))
        return self.job

    def go_back(self) -> None:
        """Show what was shown before."""
        if self.before is not None:
            self.before.restore(self.viewer)
            self.before = None
        if self.layer is not None and self.layer in self.viewer.layers:
            self.viewer.layers.remove(self.layer)
        self.layer = None

    def _ended(self, source: Source, measured: Layer, outcome: Outcome) -> None:
        self.job = None
        if outcome.kind == "done":
            image, difference = outcome.value
            before = Before(self.viewer)
            self.layer = layer = add_result(self.viewer, source, image, name=f"A({source.name})")
            if measured in self.viewer.layers:
                self.before = before
                self._show_beside(layer, measured)
            self.said.emit(
                f"A({source.name}) differs from '{measured.name}' by {difference:.4g} (root mean square, in its "
                "intensity units). Press Check again to go back."
            )
        self.ended.emit(outcome)

    def _show_beside(self, layer: Layer, measured: Layer) -> None:
        for other in self.viewer.layers:
            other.visible = other in (layer, measured)
        layer.contrast_limits = measured.contrast_limits
        grid = grid_of(self.viewer)
        grid.stride, grid.shape, grid.enabled = 1, (1, 2), True


def _matching(measured: Layer, result: Source) -> Source:
    """Return the measurement at the slices that a result was made from."""
    made_from: dict[str, Any] = {}
    record = result.metadata.get("napari-fidelity")
    if isinstance(record, dict):
        made_from = record.get("source", {})
    return Source.of(measured, made_from.get("axes"), made_from.get("index"))


def _simulated(
    source: Source, measured: Source, operator: Operator, spatial: Spatial
) -> Generator[News, str | None, tuple[Image, float] | None]:
    """Return ``A x`` and the root mean square of ``A x − y``."""
    from napari_fidelity.pipeline import simulate

    try:
        x = yield from read(source)
        y = yield from read(measured)
    except Stopped:
        return None
    seen = np.isfinite(x.data)
    steps = simulate(x if seen.all() else x.replace(data=np.where(seen, x.data, 0)), operator, spatial)
    while True:
        try:
            done, total = next(steps)
        except StopIteration as end:
            image: Image = end.value
            break
        if (yield News("check", done=done, total=total, text="Applying the image formation model")):
            steps.close()
            return None
    if image.shape != y.shape:
        raise ShapeError(
            "What the model makes of the result does not have the measurement's shape",
            found=f"{image.shape} and {y.shape}",
            do="Check the scale of the image formation",
        )
    if not seen.all():  # slices that were not reached have nothing to be compared with
        plane = tuple(i for i, axis in enumerate(x.axes) if axis in "YX")
        image = image.replace(data=np.where(seen.all(axis=plane, keepdims=True), image.data, np.nan))
    error = np.asarray(image.data, np.float64) - y.data
    return image, float(np.sqrt(np.nanmean(np.square(error))))
