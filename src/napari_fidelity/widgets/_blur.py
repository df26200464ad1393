"""How the restored image is blurred before it is sampled: kind, numbers, border, with a drawing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_fidelity.core.errors import FidelityError, OperatorError, OptionError
from napari_fidelity.widgets._controls import choice, labelled, number_edit
from napari_fidelity.widgets._dock import fold_away, note_label, set_note
from napari_fidelity.widgets._estimate_psf import EstimateForm, kind_to_find
from napari_fidelity.widgets._fields import number_text, parse_number
from napari_fidelity.widgets._lengths import LengthField, PixelGrid, pair, tidy
from napari_fidelity.widgets._psf import PsfPreview
from napari_fidelity.widgets._psf_layer import PsfLayer

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from qtpy.QtWidgets import QLineEdit

    from napari_fidelity.operators.base import Operator
    from napari_fidelity.operators.estimation import PSFEstimate, PSFKind

_KINDS = {
    "gaussian_blur": ("Gaussian", "A soft focus; the usual model of a microscope whose exact blur is not known."),
    "airy_blur": ("Diffraction", "The in-focus pattern of an objective, from wavelength and numerical aperture."),
    "motion_blur": ("Motion", "A straight, even movement during the exposure."),
    "uniform_blur": ("Box", "The mean over a box of pixels: binning, or a strong defocus."),
    "blur": ("PSF from a layer", "A measured or computed point-spread function, such as the image of a bead."),
}
_BORDERS = {
    "reflect": ("mirrored", "The image goes on mirrored."),
    "circular": ("repeated", "The image goes on from its other side; fits periodic images."),
    "zero": ("dark", "Nothing outside."),
    "valid": (
        "not used",
        "The measurement shows only what is not touched by the border; it is smaller than the image.",
    ),
}
_PREVIEW_DELAY = 80  # ms


class BlurForm(QWidget):
    """The blur of an image formation model.

    Lengths are shown in pixels of the restored image or in the layer's unit, whichever is chosen.
    """

    changed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.grid = PixelGrid()
        self._found: PSFKind | None = None  # looked for again: what is found may be shown as a kernel
        self.kind = choice(_KINDS, "kind of blur", "What blurred the image.")
        self.sigma = LengthField(
            "sigma",
            "Standard deviation σ of the Gaussian: 0.42 of its full width at half maximum. One number, or y, x.",
        )
        self.wavelength = number_edit(
            "wavelength", "Emission wavelength in nm, such as 520 for green fluorescence."
        )
        self.aperture = number_edit(
            "numerical aperture", "Numerical aperture of the objective, as engraved on it: 1.4."
        )
        self.pixel = number_edit(
            "pixel size",
            "Pixel size of the restored image in the sample plane, in nm; taken from the layer if it has one.",
        )
        self.length = LengthField("length", "How far the image moved during the exposure.")
        self.angle = number_edit(
            "angle", "Direction of the movement in degrees, counter-clockwise from the horizontal."
        )
        self.size = LengthField("size", "Side of the box, in whole pixels. One number, or y, x.")
        self.psf = PsfLayer(viewer)
        self.border = choice(_BORDERS, "border", "What the blur finds beyond the border of the image.")
        self.estimate = EstimateForm(viewer)
        self.preview = PsfPreview()
        self.note = note_label()
        self._pages = {
            "gaussian_blur": labelled({"σ": self.sigma}),
            "airy_blur": labelled(
                {"wavelength (nm)": self.wavelength, "NA": self.aperture, "pixel (nm)": self.pixel}
            ),
            "motion_blur": labelled({"length": self.length, "angle (°)": self.angle}),
            "uniform_blur": labelled({"side": self.size}),
            "blur": self.psf,
        }
        self.fold = fold_away("Point-spread function", self.preview, labelled({"border": self.border}))
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PREVIEW_DELAY)
        self._lay_out()
        self._connect()
        self._fill_defaults()

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(labelled({"blur": self.kind}))
        for page in self._pages.values():
            column.addWidget(page)
        column.addWidget(self.note)
        column.addWidget(self.estimate)
        column.addWidget(self.fold)
        self.setFocusProxy(self.kind)

    def _connect(self) -> None:
        self._timer.timeout.connect(self._draw)
        self.fold.toggled.connect(self._draw)
        self.estimate.button.clicked.connect(self._estimate)
        self.estimate.found.connect(self._show_estimate)
        self.kind.currentIndexChanged.connect(self._kind_chosen)
        self.border.currentIndexChanged.connect(self._edited)
        for field in (self.sigma, self.length, self.size, self.psf):
            field.changed.connect(self._edited)
        for edit in (self.wavelength, self.aperture, self.pixel, self.angle):
            edit.textChanged.connect(self._edited)

    def _fill_defaults(self) -> None:
        from napari_fidelity.operators import AiryBlur, GaussianBlur, MotionBlur, UniformBlur

        for operator in (AiryBlur(), MotionBlur(), UniformBlur(), GaussianBlur()):
            self.set_operator(operator)

    # -- values -----------------------------------------------------------------------------------------------

    def operator(self) -> Operator:
        """Return the blur.

        Raises
        ------
        FidelityError
            If a number is missing or out of its range, or the layer cannot be a point-spread function.
        """
        from napari_fidelity.operators import AiryBlur, Blur, GaussianBlur, MotionBlur, UniformBlur

        kind, border = self.kind.currentData(), self.border.currentData()
        if kind == "gaussian_blur":
            return GaussianBlur(sigma=self.sigma.pixels(), border=border)
        if kind == "uniform_blur":
            return UniformBlur(size=self._whole_size(), border=border)
        if kind == "motion_blur":
            length, angle = self._movement()
            return MotionBlur(length=length, angle=angle, border=border)
        if kind == "airy_blur":
            return AiryBlur(
                wavelength=_typed(self.wavelength),
                numerical_aperture=_typed(self.aperture),
                pixel_size=self._nanometres(),
                border=border,
            )
        return Blur(kernel=self.psf.kernel(self.grid), border=border)

    def set_operator(self, blur: Operator) -> None:
        """Show a blur."""
        before = self.blockSignals(True)
        kind = blur.kind
        self.kind.setCurrentIndex(self.kind.findData(kind))
        self.border.setCurrentIndex(self.border.findData(getattr(blur, "border", "reflect")))
        fill: dict[str, Callable[[Any], None]] = {
            "gaussian_blur": lambda b: self.sigma.set_pixels(b.sigma),
            "uniform_blur": lambda b: self.size.set_pixels(b.size),
            "motion_blur": self._show_movement,
            "airy_blur": self._show_airy,
            "blur": lambda b: self.psf.set_kernel(b.kernel_array(2)),
        }
        fill[kind](blur)
        self._show_page()
        self.blockSignals(before)
        self._edited()

    def set_image(self, grid: PixelGrid, shape: tuple[int, int]) -> None:
        """Take pixel size and number of pixels of the restored image."""
        self.psf.set_image_shape(shape)
        if grid == self.grid:
            return
        self.grid = grid
        for field in (self.sigma, self.length, self.size):
            field.set_grid(grid)
        size = grid.nanometres()
        self.pixel.setReadOnly(size is not None)
        if size is not None:
            self.pixel.setText(number_text(tidy(size[1])))
        self._edited()

    def reset_choices(self) -> None:
        """Offer the layers there are now."""
        self.psf.reset_choices()

    def _whole_size(self) -> Any:
        """Return the side of the box; lengths in the layer's unit are rounded to whole pixels."""
        value = self.size.pixels()
        if self.size.in_pixels:
            return value
        sides = tuple(max(1, round(v)) for v in pair(value))
        return sides[0] if sides[0] == sides[1] else sides

    def _movement(self) -> tuple[Any, Any]:
        """Return length and angle in pixels; where those are not square, the angle changes too."""
        angle = _typed(self.angle)
        if self.length.in_pixels:
            return self.length.pixels(), angle
        length = self.length.number()
        y, x = length * math.sin(math.radians(angle)), length * math.cos(math.radians(angle))
        y, x = y / self.grid.size[0], x / self.grid.size[1]
        return tidy(math.hypot(y, x)), tidy(math.degrees(math.atan2(y, x)))

    def _show_movement(self, blur: Any) -> None:
        self.length.show_in_pixels()
        self.length.set_pixels(blur.length)
        self.angle.setText(number_text(blur.angle))

    def _show_airy(self, blur: Any) -> None:
        self.wavelength.setText(number_text(blur.wavelength))
        self.aperture.setText(number_text(blur.numerical_aperture))
        if not self.pixel.isReadOnly():
            self.pixel.setText(number_text(blur.pixel_size))

    def _nanometres(self) -> Any:
        size = self.grid.nanometres()
        if size is None:
            return _typed(self.pixel)
        y, x = size
        if abs(y - x) > 0.01 * x:
            raise OperatorError(
                "The diffraction pattern is drawn for square pixels",
                found=f"{number_text(tidy(y))} × {number_text(tidy(x))} nm",
                do="Choose Gaussian with one σ for y and one for x, or give the point-spread function as a layer",
            )
        return tidy(x)

    def _estimate(self) -> None:
        self.estimate.estimate(self._found or kind_to_find(self.kind.currentData()), self.wavelength.text())

    def _show_estimate(self, found: PSFEstimate) -> None:
        """Take over a blur that was found, and draw it."""
        self.set_operator(found.blur.replace(border=self.border.currentData()))
        self._found = found.kind
        self.fold.expand(animate=False)
        self._draw()

    # -- showing ----------------------------------------------------------------------------------------------

    def _kind_chosen(self) -> None:
        self._found = None
        self._show_page()
        self._edited()

    def _show_page(self) -> None:
        for kind, page in self._pages.items():
            page.setVisible(kind == self.kind.currentData())

    def _edited(self, *_: object) -> None:
        if self.signalsBlocked():
            return
        self.estimate.forget()
        self._timer.start()
        self.changed.emit()

    def _draw(self) -> None:
        """Say what the numbers mean, and draw the kernel if the drawing is unfolded."""
        try:
            blur = self.operator()
        except FidelityError:
            self.preview.clear()
            set_note(self.note, "")
            return
        set_note(self.note, self._in_pixels(blur))
        if self.fold.isExpanded():
            self.preview.show_blur(blur, self.grid)

    def _in_pixels(self, blur: Any) -> str:
        """Return what a length in the layer's unit makes in pixels."""
        if blur.kind == "gaussian_blur" and not self.sigma.in_pixels:
            return f"σ = {_pixels(blur.sigma)} of the restored image"
        if blur.kind == "uniform_blur" and not self.size.in_pixels:
            return f"{_pixels(blur.size)} of the restored image, rounded to whole pixels"
        if blur.kind == "motion_blur" and not self.length.in_pixels:
            return f"{_pixels(blur.length)} of the restored image at {blur.angle:.3g}°"
        return ""


def _pixels(value: Any) -> str:
    y, x = pair(value)
    return f"{y:.4g} px" if y == x else f"{y:.4g} × {x:.4g} px"


def _typed(edit: QLineEdit) -> float:
    value = parse_number(edit.text())
    if isinstance(value, str):
        raise OptionError(f"'{edit.accessibleName()}' is a number", found=f"'{value}'" if value else "nothing")
    return float(value)
