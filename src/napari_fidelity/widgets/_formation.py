"""The image formation panel: how the measurement came about, in users' words."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_fidelity.core.errors import FidelityError, OperatorError
from napari_fidelity.widgets._dock import fold_away, note_label, set_note
from napari_fidelity.widgets._formation_forms import FormationForms
from napari_fidelity.widgets._icons import set_icon
from napari_fidelity.widgets._lengths import PixelGrid
from napari_fidelity.widgets._links import Links
from napari_fidelity.widgets._noise import NoiseForm

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Literal

    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_fidelity.operators import Noise
    from napari_fidelity.operators.base import Operator

_CHECK_TIP = (
    "Show what this model makes of the current result, A(x), beside the measurement, and what is left over."
)


class FormationPanel(QWidget):
    """Image formation model and noise of a measurement.

    What a sample or a recipe gives is returned as it is, down to the last digit, until something is changed.

    Parameters
    ----------
    viewer
        The viewer whose layers masks and point-spread functions are taken from.
    """

    changed = Signal()
    """Operator or noise may be others now."""
    check_requested = Signal()
    """The user wants to see A(x) beside y."""

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._source: Layer | None = None
        self._links = Links(self)
        self._given: Operator | None = None
        self._last: Operator | None = None  # the last one that was possible
        self._given_nonfinite: Literal["error", "mask"] = "error"
        self._model_scale = 2.0
        self._edited = self._scale_edited = self._taken_over = self._filling = False
        self.forms = FormationForms(viewer)
        self.noise_form = NoiseForm(viewer)
        self.noise_fold = fold_away("", self.noise_form)
        self.note = note_label()
        self.problem = note_label()
        self.check_button = QPushButton("Check")
        self.check_button.setToolTip(f"<qt>{_CHECK_TIP}</qt>")
        set_icon(self.check_button, "check")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        for widget in (self.forms, self.note, self.problem, self.noise_fold, self.check_button):
            column.addWidget(widget)
        self.setFocusProxy(self.forms)
        self._reset()
        self._show_noise()
        self.forms.preset_chosen.connect(self._preset_chosen)
        self.forms.scale_typed.connect(self._scale_typed)
        self.forms.edited.connect(self._form_edited)
        self.noise_form.changed.connect(self._noise_edited)
        self.noise_form.not_found.connect(self._noise_not_found)
        self.check_button.clicked.connect(lambda: self.check_requested.emit())

    # -- values -----------------------------------------------------------------------------------------------

    def operator(self) -> Operator:
        """Return the image formation model.

        Raises
        ------
        FidelityError
            If a number is missing or out of its range, or a layer does not fit; the message says what to do.
        """
        return self.forms.operator() if self._given is None else self._given

    def noise(self) -> Noise | None:
        """Return the noise model; ``None`` if it is not known.

        Raises
        ------
        OptionError
            If a level is missing or out of its range.
        """
        return self.noise_form.noise()

    def nonfinite(self) -> Literal["error", "mask"]:
        """Return what a recipe does with NaN: ``"mask"`` where they stand for missing pixels."""
        return self.forms.nonfinite() if self._given is None else self._given_nonfinite

    # -- filling in -------------------------------------------------------------------------------------------

    def set_source(self, layer: Layer | None) -> None:
        """Take the measurement's layer: its pixel size, and its formation where somebody noted it."""
        if layer is self._source:
            return
        self._follow_layer(layer)
        self.forms.missing.set_source(layer)
        self.forms.blur.estimate.set_source(layer)
        found = self.noise_form.found
        noted = _noted(layer)
        with self._quietly():
            self.noise_form.set_source(layer)
            if noted is not None:
                self._take_over(noted)
            elif self._taken_over:
                self._reset()
        if found is not None and noted is None and layer is not None:
            self.noise_form.estimate(found)
        self._tell()

    def set_formation(
        self, operator: Operator, noise: Noise | None, nonfinite: Literal["error", "mask"] = "error"
    ) -> None:
        """Show a model and a noise."""
        with self._quietly():
            self._show(operator, noise, nonfinite)
            set_note(self.note, "")
        self._tell()

    def set_scale(self, scale: float) -> None:
        """Take the scale of the network; a scale that nobody typed or gave follows it."""
        self._model_scale = float(scale)
        if self._given is not None or self._scale_edited:
            return
        before = (self.forms.chosen, self.forms.scale.text())
        with self._quietly():
            self._follow_network()
        if before != (self.forms.chosen, self.forms.scale.text()):
            self._tell()

    def reset_choices(self) -> None:
        """Offer the layers there are now."""
        self.forms.reset_choices()

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Fill controls without taking it for the user's doing."""
        before, self._filling = self._filling, True
        try:
            yield
        finally:
            self._filling = before

    def _take_over(self, noted: Mapping[str, Any]) -> None:
        from napari_fidelity.operators import parse_noise, parse_operator

        name = self._source.name if self._source is not None else ""
        try:
            if "operator" not in noted:
                raise OperatorError("It names no operator")
            operator = parse_operator(noted["operator"])
            noise = parse_noise(noted["noise"]) if noted.get("noise") else None
        except FidelityError as error:
            self._reset()
            set_note(self.note, f"What '{name}' notes about its formation cannot be used. {error}")
            return
        self._show(operator, noise, "mask" if noted.get("nonfinite") == "mask" else "error")
        self._taken_over = True
        set_note(self.note, "Filled in from the layer's own notes.")

    def _show(self, operator: Operator, noise: Noise | None, nonfinite: Literal["error", "mask"]) -> None:
        self.forms.show_operator(operator, nonfinite)
        self.noise_form.set_noise(noise)
        self._given, self._given_nonfinite = operator, nonfinite
        self._edited = self._scale_edited = True  # by whoever made the sample or the recipe
        self._taken_over = False

    def _reset(self) -> None:
        """Begin again: downsampled by the network's scale, noise not known."""
        self._given = None
        self._edited = self._scale_edited = self._taken_over = False
        with self._quietly():
            self._follow_network()
            self.noise_form.set_noise(None)
        set_note(self.note, "")

    def _follow_network(self) -> None:
        if not self._edited:
            self.forms.choose("noisy" if self._model_scale == 1 else "downsampled")
        self.forms.follow(self._model_scale)

    # -- reacting ---------------------------------------------------------------------------------------------

    def _preset_chosen(self) -> None:
        if self._filling:
            return
        if not self._scale_edited:
            with self._quietly():
                self.forms.follow(self._model_scale)
        if self.forms.chosen == "written" and self._last is not None:
            self.forms.write(self._last)
        if self.forms.chosen == "noisy":
            self.noise_fold.expand(animate=False)
        self._form_edited()

    def _scale_typed(self) -> None:
        if not self._filling:
            self._scale_edited = True
            self._form_edited()

    def _form_edited(self) -> None:
        if self._filling:
            return
        self._edited = True
        if self._given is not None:
            self._given = None
            set_note(self.note, "")
        self._tell()

    def _noise_edited(self) -> None:
        self._show_noise()
        if not self._filling:
            self.changed.emit()

    def _noise_not_found(self, problem: str) -> None:
        """Open the fold in which the form says why, whoever asked for the estimate."""
        if problem:
            self.noise_fold.expand(animate=False)

    def _show_noise(self) -> None:
        self.noise_fold.setText(self.noise_form.title())

    def _tell(self) -> None:
        """Say what is wrong, if anything is, and tell others."""
        self._measure()
        try:
            self._last = self.operator()
        except FidelityError as error:
            # a text that is wrong is said below the text
            set_note(self.problem, "" if self.forms.chosen == "written" else str(error))
        else:
            set_note(self.problem, "")
        self._show_noise()
        self.changed.emit()

    # -- the layer --------------------------------------------------------------------------------------------

    def _follow_layer(self, layer: Layer | None) -> None:
        """Listen to the layer's pixel size, and no longer to that of the last one."""
        self._links.clear()
        events = [getattr(getattr(layer, "events", None), name, None) for name in ("scale", "units")]
        self._links.connect(self._pixel_size_changed, *(event for event in events if event is not None))
        self._source = layer

    def _pixel_size_changed(self, event: Any = None) -> None:
        self._tell()

    def _measure(self) -> None:
        """Tell the forms how large the restored image's pixels are, and how many there are."""
        from napari_fidelity.widgets._guess import full_data, guess_axes

        if self._source is None:
            return
        try:
            axes = guess_axes(self._source)
            grid = PixelGrid.of(self._source, axes)
        except FidelityError:
            return  # said by whoever reads the layer
        y, x = self.forms.restored_scale()
        shape = full_data(self._source).shape
        with self._quietly():
            size = int(shape[axes.index("Y")] * y), int(shape[axes.index("X")] * x)
            self.forms.blur.set_image(grid.finer((y, x)), size)
            self.forms.blur.estimate.set_grid(grid.finer((y, x)), (y, x))


def _noted(layer: Layer | None) -> Mapping[str, Any] | None:
    """Return how a layer says it was formed."""
    from napari_fidelity.widgets._guess import KEY

    own = layer.metadata.get(KEY) if layer is not None else None
    noted = own.get("formation") if isinstance(own, dict) else None
    return noted if isinstance(noted, dict) else None
