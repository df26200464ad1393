"""Point-spread functions: taken from a layer, measured, drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_fidelity.core.errors import FidelityError, OperatorError
from napari_fidelity.widgets._dock import note_label, set_note

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_fidelity.operators.base import Operator
    from napari_fidelity.widgets._lengths import PixelGrid

    Kernel = NDArray[np.float64]

_SAME = 0.01  # relative difference of pixel sizes that is no difference
_SIDE = 120  # px, of the drawing on the screen
_SHOWN = 0.995  # share of the light that the drawing shows
_KEPT = 0.9999  # share of the light that is resampled
_MOST = 1_000_000  # samples of a resampled kernel
_LEAST = 9  # kernel samples it shows at least


def kernel_from(data: NDArray[Any], name: str, own: PixelGrid, wanted: PixelGrid) -> tuple[Kernel, str]:
    """Return the blur kernel that a layer holds, and what was done to get it, in words.

    Parameters
    ----------
    data
        ``(H, W)``, or a stack of planes ``(Z, H, W)``.
    name
        The layer's name.
    own
        The layer's pixel size.
    wanted
        That of the restored image. Where both are known and differ, the kernel is resampled.

    Raises
    ------
    OperatorError
        If it cannot be a point-spread function; the message says why.
    """
    said = []
    if data.ndim == 3:
        plane = int(np.argmax(np.where(np.isfinite(data), data, -np.inf).max(axis=(1, 2))))
        said.append(f"Plane {plane + 1} of {len(data)}, the one with the highest peak.")
        data = data[plane]
    _check(data, name)
    kernel = data.astype(np.float64)
    factors = _factors(own, wanted)
    if factors is not None:
        kernel = resampled(_core(kernel, _KEPT), factors)
        said.append(f"Resampled from {_sizes(own)} to the restored image's {_sizes(wanted)}.")
    elif own.has_unit != wanted.has_unit:
        said.append("Taken as it is: one of the layers has no pixel size to tell whether the pixels are as large.")
    said.extend(_position(kernel))
    return kernel, " ".join(said)


def resampled(kernel: Kernel, factors: tuple[float, float]) -> Kernel:
    """Return a kernel on another grid, its centre kept, with odd sizes.

    Cubic splines between the samples; where the new pixels are larger, the mean over each of them.

    Parameters
    ----------
    kernel
        Centre at ``size // 2``.
    factors
        New samples per old one along each axis.

    Raises
    ------
    OperatorError
        If it became too large.
    """
    from scipy.ndimage import map_coordinates

    positions, fine = [], []
    for n, factor in zip(kernel.shape, factors, strict=True):
        reach = max(n // 2, n - 1 - n // 2)
        radius = max(1, int(np.ceil((reach + 0.5) * factor - 0.5)))
        parts = max(1, int(np.ceil(1 / factor)))
        within = (np.arange(parts) + 0.5) / parts - 0.5
        at = (np.arange(-radius, radius + 1)[:, None] + within[None, :]).ravel()
        positions.append(at / factor + n // 2)
        fine.append((2 * radius + 1, parts))
    if len(positions[0]) * len(positions[1]) > _MOST:
        raise OperatorError(
            "The point-spread function is too large on the restored image's pixels",
            found=" × ".join(str(size) for size, _ in fine),
            do="Crop its layer around the peak, or check the pixel sizes of both layers",
        )
    grid = np.meshgrid(*positions, indexing="ij")
    values = map_coordinates(kernel, grid, order=3, mode="grid-constant")
    (height, rows), (width, columns) = fine
    values = values.reshape(height, rows, width, columns).mean(axis=(1, 3))
    values = np.maximum(values, 0)  # splines overshoot
    return np.asarray(values / values.sum())


class PsfPreview(QWidget):
    """Draws the kernel of a blur, magnified, with its widths."""

    def __init__(self) -> None:
        super().__init__()
        self.picture = QLabel()
        self.picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.picture.setToolTip(
            "<qt>The image of a point, magnified: every square is a pixel of the restored image. Brightness is "
            "the square root of the intensity, so that faint rings show.</qt>"
        )
        self.picture.setAccessibleName("Point-spread function")
        self.text = note_label()
        self.text.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.text.setToolTip("<qt>Full width at half maximum along y and x: how wide a point becomes.</qt>")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.picture)
        column.addWidget(self.text)

    def show_blur(self, blur: Operator, grid: PixelGrid) -> None:
        """Draw the kernel of a blur on a grid; a blur that is impossible clears the drawing."""
        try:
            kernel = kernel_of(blur)
        except FidelityError:
            self.clear()
            return
        self.picture.setPixmap(_pixmap(kernel))
        set_note(self.text, widths_text(kernel, grid))
        self.setVisible(True)

    def clear(self) -> None:
        """Take the drawing away."""
        self.picture.clear()
        self.setVisible(False)


def kernel_of(blur: Operator) -> Kernel:
    """Return the 2-D kernel of any blur.

    Raises
    ------
    FidelityError
        If the blur is impossible.
    """
    chains = blur.chains(2) if not hasattr(blur, "kernel_array") else None
    if chains is None:
        kernel: Kernel = np.asarray(blur.kernel_array(2), np.float64)  # type: ignore[attr-defined]
        return kernel
    factors = [np.array(chain[0].weights) if chain else np.ones(1) for chain in chains]  # type: ignore[union-attr]
    return np.asarray(np.outer(*factors))


def widths_text(kernel: Kernel, grid: PixelGrid) -> str:
    """Return the widths of a kernel in words: ``FWHM 9.4 px = 0.47 µm``."""
    from napari_fidelity.operators.psf import fwhm

    y, x = fwhm(kernel)
    widths = [f"FWHM {_both(y, x)} px"]
    if grid.has_unit:
        widths.append(f"= {_both(*grid.to_unit((y, x)))} {grid.unit}")
    return " ".join(width.replace(" ", "\u00a0") for width in widths)  # a line ends between the two, if at all


def _both(y: float, x: float) -> str:
    texts = f"{y:.3g}", f"{x:.3g}"
    return texts[0] if texts[0] == texts[1] else " × ".join(texts)


def _check(data: NDArray[Any], name: str) -> None:
    """Refuse what cannot be a point-spread function."""
    if data.ndim != 2 or data.size == 0:
        raise OperatorError(
            f"'{name}' cannot be a point-spread function",
            found=f"shape {data.shape}",
            do="Choose a 2-D or 3-D layer",
        )
    if not np.isfinite(data).all():
        bad = int((~np.isfinite(data)).sum())
        raise OperatorError(
            f"The point-spread function '{name}' has NaN or infinite pixels",
            found=f"{bad} of {data.size}",
            do="Set them to 0",
        )
    if data.min() < 0:
        raise OperatorError(
            f"The point-spread function '{name}' has negative pixels",
            found=f"{int((data < 0).sum())} of {data.size}, the lowest {data.min():.4g}",
            do="Light is never negative: add back the background that was subtracted, or set them to 0",
        )
    if data.max() == 0:
        raise OperatorError(f"The point-spread function '{name}' is black everywhere", do="Choose another layer")


def _factors(own: PixelGrid, wanted: PixelGrid) -> tuple[float, float] | None:
    """Return new samples per old one; ``None`` if the grids agree or cannot be compared."""
    from napari_fidelity.widgets._units import factor

    if own.has_unit != wanted.has_unit or (not own.has_unit and 1.0 in (*own.size, *wanted.size)):
        return None  # a pixel size of 1 without a unit is what a layer has when nobody said anything
    ratio = factor(own.unit, wanted.unit)
    if ratio is None:
        return None
    y, x = (mine * ratio / other for mine, other in zip(own.size, wanted.size, strict=True))
    return None if abs(y - 1) < _SAME and abs(x - 1) < _SAME else (y, x)


def _sizes(grid: PixelGrid) -> str:
    return f"{_both(*grid.size)} {grid.unit if grid.has_unit else ''}".rstrip() + " per pixel"


def _position(kernel: Kernel) -> list[str]:
    """Say where the light lies if that is not the middle."""
    said = []
    even = [n for n in kernel.shape if n % 2 == 0]
    if even:
        said.append("An even size has no middle pixel: the centre is taken just after the middle.")
    total = kernel.sum()
    shift = [
        float((np.arange(n) * kernel.sum(axis=1 - axis)).sum() / total) - n // 2
        for axis, n in enumerate(kernel.shape)
    ]
    allowed = [0.75 if n % 2 == 0 else 0.25 for n in kernel.shape]
    if any(abs(s) > a for s, a in zip(shift, allowed, strict=True)):
        said.append(f"Its light lies {shift[0]:+.1f} px (y) and {shift[1]:+.1f} px (x) off the centre.")
    return said


def _pixmap(kernel: Kernel) -> QPixmap:
    shown = np.sqrt(np.maximum(_framed(_core(kernel, _SHOWN)), 0))
    gray = np.ascontiguousarray(255 * shown / max(float(shown.max()), 1e-300)).astype(np.uint8)
    times = max(1, _SIDE // max(gray.shape))
    gray = np.ascontiguousarray(np.kron(gray, np.ones((times, times), np.uint8)))
    image = QImage(gray.data, gray.shape[1], gray.shape[0], gray.shape[1], QImage.Format.Format_Grayscale8)
    pixmap = QPixmap.fromImage(image.copy())  # the copy does not lean on the array
    if max(gray.shape) > 2 * _SIDE:
        pixmap = pixmap.scaled(_SIDE, _SIDE, Qt.AspectRatioMode.KeepAspectRatio)
    return pixmap


def _framed(kernel: Kernel) -> Kernel:
    """Return a kernel in the middle of a square, with dark pixels around it."""
    side = max(kernel.shape) + 2
    before = [(side - n) // 2 for n in kernel.shape]
    return np.pad(kernel, [(b, side - n - b) for b, n in zip(before, kernel.shape, strict=True)])


def _core(kernel: Kernel, share: float) -> Kernel:
    """Return the middle of a kernel that holds a share of its light; its centre stays at ``size // 2``."""
    centre = [n // 2 for n in kernel.shape]
    total = kernel.sum()
    for radius in range(_LEAST // 2, max(centre)):
        part = kernel[tuple(slice(max(0, c - radius), c + radius + 1) for c in centre)]
        if part.sum() >= share * total:
            return part
    return kernel
