"""A button that finds the blur of the measurement from the measurement itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_fidelity.core.errors import FidelityError, ImageError
from napari_fidelity.widgets._dock import note_label, set_note
from napari_fidelity.widgets._fields import parse_number

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer
    from numpy.typing import NDArray

    from napari_fidelity.operators.estimation import PSFEstimate, PSFKind
    from napari_fidelity.widgets._lengths import Pair, PixelGrid

_KINDS: dict[str, PSFKind] = {"gaussian_blur": "gaussian", "airy_blur": "airy", "uniform_blur": "defocus"}
_TOOLTIP = (
    "Finds the blur in the slice that is shown: from isolated spots (beads) if it consists of such, else from "
    "its sharpest edges; a scene that has none makes the blur come out too wide. Looked for is the kind chosen "
    "above: a Gaussian of any two widths and direction; the numerical aperture of a diffraction pattern, for the "
    "wavelength above; for a box, the disc of a defocus; for the others a kernel of any shape, which takes longer "
    "and is less sure."
)


class EstimateForm(QWidget):
    """A button, and what was found in words.

    Parameters
    ----------
    viewer
        Whose slice is looked at.
    """

    found = Signal(object)
    """A :class:`~napari_fidelity.operators.estimation.PSFEstimate` on the restored image's grid."""

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self._source: Layer | None = None
        self._scale: Pair = (1.0, 1.0)
        self._nanometres: Pair | None = None
        self._sought: object | None = None  # the estimate that is waited for
        self.button = QPushButton("Estimate from the data")
        self.button.setToolTip(f"<qt>{_TOOLTIP}</qt>")
        self.note = note_label()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.button)
        column.addWidget(self.note)
        self.setFocusProxy(self.button)

    def set_source(self, layer: Layer | None) -> None:
        """Take the measurement's layer; what was found in the last one is not said of this one."""
        if layer is not self._source:
            self._source = layer
            self.forget()

    def set_grid(self, grid: PixelGrid, scale: Pair) -> None:
        """Take the pixel size of the restored image, and how many of its pixels make up one of the measurement."""
        if scale != self._scale:
            self.forget()
        size = grid.nanometres()
        self._scale = scale
        self._nanometres = None if size is None else (size[0] * scale[0], size[1] * scale[1])

    def forget(self) -> None:
        """Drop an estimate that is under way, and what was said of the last one."""
        self._sought = None
        self.button.setEnabled(True)
        set_note(self.note, "")

    def estimate(self, kind: PSFKind, wavelength: str = "") -> None:
        """Look for the blur in the background, unless that is under way.

        Parameters
        ----------
        kind
            Of blur.
        wavelength
            Emission wavelength in nm, as typed, for diffraction; not known if it is no number.
        """
        from napari_fidelity.widgets._planes import shown_cut
        from napari_fidelity.widgets._worker import run_later

        if self._sought is not None:
            return
        layer = self._source
        if layer is None:
            self._failed(ImageError("There is no measurement to find the blur of", do="Choose an image layer"))
            return
        try:
            cut, where = shown_cut(self._viewer, layer)
        except FidelityError as error:
            self._failed(error)
            return
        self.forget()
        sought = self._sought = object()
        length = parse_number(wavelength)
        known: dict[str, Any] = {
            "scale": self._scale,
            "pixel_size": self._nanometres,
            "wavelength": None if isinstance(length, str) else length,
        }
        self.button.setEnabled(False)
        set_note(self.note, "Looking at the pixels …" if kind == "free" else "Looking for edges and spots …")
        run_later(
            lambda: (sought, where, _estimated(cut.read(), kind, known)),
            self._done,
            lambda error: self._failed(error, sought),
            name=f"Blur of '{layer.name}'",
        )

    def _done(self, result: tuple[object, str, PSFEstimate]) -> None:
        sought, where, estimate = result
        if sought is not self._sought:
            return
        self.forget()
        self.found.emit(estimate)
        # after the form was filled, which makes earlier words void
        set_note(self.note, f"Found{where}: {estimate.words()}")

    def _failed(self, error: Exception, sought: object | None = None) -> None:
        if sought is not self._sought:
            return
        self.forget()
        set_note(self.note, str(error))


def kind_to_find(blur: str) -> PSFKind:
    """Return the kind of blur to look for where this kind of operator is chosen."""
    return _KINDS.get(blur, "free")


def _estimated(plane: NDArray[Any], kind: PSFKind, known: dict[str, Any]) -> PSFEstimate:
    from napari_fidelity.operators import estimate_psf

    return estimate_psf(plane[..., :3] if plane.ndim == 3 else plane, kind, **known)
