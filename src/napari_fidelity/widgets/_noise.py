"""The noise of the measurement: kind and level, typed in or estimated from the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_fidelity.core.errors import FidelityError, ImageError
from napari_fidelity.widgets._dock import note_label, set_note
from napari_fidelity.widgets._options import ChoiceForm

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer
    from numpy.typing import NDArray

    from napari_fidelity.operators import Noise

_LABELS = {
    "gaussian": "Gaussian",
    "poisson": "photon noise (Poisson)",
    "poisson_gaussian": "camera (photons + read noise)",
    "laplace": "Laplace (outliers)",
}
NOT_KNOWN = "not known, or none"
_TOOLTIP = (
    "How the measurement scatters about its noise-free value. With a known level a correction stops when nothing "
    "but noise is left to explain; without one it is taken to be small."
)


class NoiseForm(QWidget):
    """A noise model in the layer's own intensity units, with a button that estimates it.

    Attributes
    ----------
    found
        The kind of the level that is shown, if it was estimated: it belongs to this layer alone. Else ``None``.
    """

    changed = Signal()
    not_found = Signal(str)
    """Why the level could not be estimated; empty once that matters no more."""

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        from napari_fidelity.operators import NOISES

        self._viewer = viewer
        self._source: Layer | None = None
        self._sought: object | None = None  # the estimate that is waited for
        self.found: str | None = None
        self.choice = ChoiceForm(NOISES, labels=_LABELS, none=NOT_KNOWN, tooltip=f"<qt>{_TOOLTIP}</qt>")
        self.choice.combo.setAccessibleName("kind of noise")
        self.estimate_button = QPushButton("Estimate from the data")
        self.estimate_button.setToolTip(
            "<qt>Finds the level of the chosen kind of noise (Gaussian, if none is chosen) in the flat places of "
            "the slice that is shown. The noise must be as recorded: not smoothed, not JPEG.</qt>"
        )
        self.note = note_label()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        for widget in (self.choice, self.estimate_button, self.note):
            column.addWidget(widget)
        self.setFocusProxy(self.choice)
        self.estimate_button.clicked.connect(lambda: self.estimate())
        self.choice.changed.connect(self._edited)

    def noise(self) -> Noise | None:
        """Return the noise model; ``None`` if it is not known.

        Raises
        ------
        OptionError
            If a level is missing or out of its range.
        """
        value: Any = self.choice.value()
        return value

    def set_noise(self, noise: Noise | None) -> None:
        """Show a noise model."""
        self.choice.set_value(noise)

    def set_source(self, layer: Layer | None) -> None:
        """Take the measurement's layer; a level that was found in the last one goes with it."""
        if layer is self._source:
            return
        self._source = layer
        if self.found is not None:
            self.set_noise(None)
        self._forget()

    def title(self) -> str:
        """Return the noise in a few words, for a heading."""
        try:
            noise: Any = self.noise()
        except FidelityError:
            return "Noise: incomplete"
        return "Noise: not known" if noise is None else f"Noise: {_short(noise, most=1)}"

    def estimate(self, kind: str | None = None) -> None:
        """Estimate the level in the background and fill it in, unless that is under way.

        Parameters
        ----------
        kind
            Of noise; the one that is chosen if left out, or Gaussian.
        """
        from napari_fidelity.widgets._planes import shown_cut
        from napari_fidelity.widgets._worker import run_later

        if self._sought is not None:
            return
        kind = kind or self.choice.kind or "gaussian"
        layer = self._source
        if layer is None:
            self._failed(ImageError("There is no measurement to find the noise of", do="Choose an image layer"))
            return
        try:
            cut, where = shown_cut(self._viewer, layer)
        except FidelityError as error:
            self._failed(error)
            return
        self._forget()
        sought = self._sought = object()
        self.estimate_button.setEnabled(False)
        set_note(self.note, "Looking for flat places …")
        run_later(
            lambda: (sought, where, _estimated(cut.read(), kind)),
            self._found,
            lambda error: self._failed(error, sought),
            name=f"Noise of '{layer.name}'",
        )

    def _found(self, result: tuple[object, str, Noise]) -> None:
        sought, where, noise = result
        if sought is not self._sought:
            return
        self.set_noise(noise)
        self.found = noise.kind
        set_note(self.note, f"Found{where}: {_short(noise)}.")

    def _failed(self, error: Exception, sought: object | None = None) -> None:
        if sought is not self._sought:
            return
        self._forget()
        set_note(self.note, str(error))
        self.not_found.emit(str(error))

    def _edited(self) -> None:
        self.found = None
        self._forget()
        self.changed.emit()

    def _forget(self) -> None:
        """Drop an estimate that is under way, and what was said of the last one."""
        self._sought = None
        self.estimate_button.setEnabled(True)
        set_note(self.note, "")
        self.not_found.emit("")


def _estimated(plane: NDArray[Any], kind: str) -> Noise:
    from napari_fidelity.operators import LaplaceNoise, estimate_noise

    image = plane[..., :3] if plane.ndim == 3 else plane
    if kind != "laplace":
        return _rounded(estimate_noise(image, kind))  # type: ignore[arg-type]
    gaussian: Any = estimate_noise(image)
    if gaussian.sigma == 0:
        raise ImageError("The image shows no noise at all", do="Choose no noise")
    return _rounded(LaplaceNoise(scale=gaussian.sigma / 2**0.5))  # of the same variance


def _rounded(noise: Noise) -> Noise:
    """Return the model with four digits: more are not known, and fewer are easier to read."""
    levels = {name: getattr(noise, name) for name in type(noise).model_fields if name != "kind"}
    return type(noise)(**{name: float(f"{value:.4g}") for name, value in levels.items()})


def _short(noise: Any, most: int = 3) -> str:
    """Return a noise model in a few words, with at most so many of its numbers."""
    kind = {"poisson_gaussian": "camera", "poisson": "photons"}.get(noise.kind, noise.kind.capitalize())
    symbols = {"gain": "gain", "offset": "offset", "sigma": "σ", "scale": "b"}
    levels = [f"{symbol} = {getattr(noise, name):.4g}" for name, symbol in symbols.items() if hasattr(noise, name)]
    return ", ".join([kind, *levels[:most]])
