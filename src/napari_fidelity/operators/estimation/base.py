"""What an estimate of the blur holds, and how it is put in words."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_fidelity.operators import psf

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_fidelity.operators.base import Operator
    from napari_fidelity.operators.noise import GaussianNoise

PSFKind = Literal["gaussian", "airy", "defocus", "free"]
"""The blurs that are looked for."""

_SURE, _FAIRLY = 0.98, 0.93  # agreement of the kernels of random halves

_NAMES = {
    "gaussian": "Gaussian",
    "airy": "Diffraction pattern",
    "defocus": "Defocus disc",
    "free": "Kernel of any shape",
}


@dataclass(frozen=True, eq=False)
class PSFEstimate:
    """A blur that was found in an image.

    Attributes
    ----------
    kind
        What was looked for.
    blur
        The blur alone, on the grid of the restored image.
    operator
        The whole image formation model: the blur, then downsampling where the scale is above 1.
    kernel
        ``(h, w)``, sums to 1, odd sizes, centre at ``size // 2``.
    parameters
        Those of the blur: ``sigma_major``, ``sigma_minor`` (px of the restored image) and ``angle`` (degrees,
        counter-clockwise from the last axis) for a Gaussian; ``numerical_aperture`` or
        ``wavelength_over_aperture`` (px) for a diffraction pattern; ``radius`` (px) for a defocus.
    score
        How far it repeats: mean correlation of the kernels found in random halves of the image with each other,
        at most 1; NaN where that is not known. It does not see a scene without sharp edges, which makes every
        half too wide.
    count, source
        How many ``"edges"`` or ``"spots"`` it was fitted to; ``"pixels"`` for a free kernel, ``"optics"`` where
        it was calculated from what is known of the objective.
    noise
        The noise, in the intensity units of the image.
    pixel_size
        Of the restored image along y and x, in nm; ``None`` if not known.
    remarks
        What else there is to say, in sentences.
    """

    kind: PSFKind
    blur: Operator
    operator: Operator
    kernel: NDArray[np.float64]
    parameters: Mapping[str, float]
    score: float
    count: int
    source: Literal["edges", "spots", "pixels", "optics"]
    noise: GaussianNoise
    pixel_size: tuple[float, float] | None = None
    remarks: Sequence[str] = field(default=())

    @property
    def fwhm(self) -> tuple[float, float]:
        """Full widths at half maximum along y and x, in pixels of the restored image."""
        return psf.fwhm(self.kernel)

    @property
    def fwhm_nm(self) -> tuple[float, float] | None:
        """Full widths at half maximum along y and x, in nm; ``None`` if the pixel size is not known."""
        if self.pixel_size is None:
            return None
        return self.fwhm[0] * self.pixel_size[0], self.fwhm[1] * self.pixel_size[1]

    def widths(self) -> str:
        """Return the widths in words: ``FWHM 3.1 × 2.6 px = 202 × 169 nm (y × x)``."""
        text = f"FWHM {_both(self.fwhm)} px"
        if self.fwhm_nm is not None:
            text += f" = {_both(self.fwhm_nm)} nm"
        return text + (" (y × x)" if "×" in text else "")

    def shape(self) -> str:
        """Return the parameters in words."""
        p = self.parameters
        if "sigma_major" in p:
            if p["sigma_major"] < 1.05 * p["sigma_minor"]:
                return f"σ = {math.sqrt(p['sigma_major'] * p['sigma_minor']):.3g} px"
            return f"σ = {p['sigma_major']:.3g} px at {p['angle']:.0f}°, {p['sigma_minor']:.3g} px across"
        names = {
            "radius": "radius {:.3g} px",
            "numerical_aperture": "NA = {:.3g}",
            "wavelength_over_aperture": "λ/NA = {:.3g} px",
        }
        return ", ".join(text.format(p[name]) for name, text in names.items() if name in p)

    def sureness(self) -> str:
        """Return how far the estimate can be trusted, in words."""
        if self.source == "optics":
            return "Calculated, not measured."
        base = {"pixels": "the whole image"}.get(self.source, f"{self.count} {self.source}")
        if not np.isfinite(self.score):
            return f"Found from {base}; the image is too small to tell whether it repeats."
        sure = "well" if self.score >= _SURE else "fairly" if self.score >= _FAIRLY else "poorly"
        text = f"Found from {base}; random halves of the image agree {sure} ({self.score:.2f})."
        return text if self.score >= _FAIRLY else f"{text} Better measure it: a bead, a sharp edge."

    def words(self) -> str:
        """Return the whole estimate in a few sentences."""
        shape = f", {self.shape()}" if self.shape() else ""
        return " ".join([f"{_NAMES[self.kind]}{shape}; {self.widths()}.", self.sureness(), *self.remarks])


def correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return Pearson's correlation of two kernels with their centres at ``size // 2``, in a common frame.

    The frame is that of the larger sizes; for kernels of one sample each it is 1.
    """
    size = [2 * max(a // 2, b // 2) + 1 for a, b in zip(one.shape, other.shape, strict=True)]
    framed = []
    for kernel in (one, other):
        frame = np.zeros(size)
        corner = [n // 2 - k // 2 for n, k in zip(size, kernel.shape, strict=True)]
        frame[tuple(slice(c, c + k) for c, k in zip(corner, kernel.shape, strict=True))] = kernel
        framed.append(frame - frame.mean())
    norm = float(np.linalg.norm(framed[0]) * np.linalg.norm(framed[1]))
    return float((framed[0] * framed[1]).sum() / norm) if norm > 0 else 1.0


def _both(pair: tuple[float, float]) -> str:
    y, x = (f"{value:.3g}" for value in pair)
    return y if y == x else f"{y} × {x}"
