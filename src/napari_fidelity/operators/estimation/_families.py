"""Families of blurs with one to three parameters, and what each of them makes of a step edge."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from napari_fidelity.core.cubic import cubic
from napari_fidelity.operators import psf

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_fidelity.operators.estimation._edges import Edges

    Numbers = NDArray[np.float64]

_FREQUENCIES = np.linspace(0, math.sqrt(0.5), 48)  # cycles per pixel of the measurement, to its furthest corner
_AIRY_SIGMA = 0.21  # λ/NA: the Gaussian nearest to the pattern, Zhang, Zerubia, Olivo-Marin 2007
_DISC_SIGMA = 0.631  # radii: the Gaussian nearest to a disc, least squares
_SHARPEST = 0.4  # px of the restored image: σ of its own edges, before the blur; see docs/blind.md
_THINNEST = 0.25  # px of the restored image: what is thinner cannot be told from no blur


class Family(ABC):
    """Blurs that differ in a few numbers; lengths in pixels of the restored image.

    Attributes
    ----------
    smoothing
        How far edges are best smoothed before they are measured, in units of the blur's own deviation.
    """

    smoothing: ClassVar[float] = 0.4

    @abstractmethod
    def start(self, covariance: Numbers) -> Numbers:
        """Return the parameters, free to take any real values, of the blur nearest to a Gaussian of that width."""

    @abstractmethod
    def transfer(self, parameters: Numbers, fy: Numbers, fx: Numbers) -> Numbers:
        """Return the optical transfer function at frequencies in cycles per pixel."""

    @abstractmethod
    def kernel(self, parameters: Numbers) -> Numbers:
        """Return the kernel, which sums to 1."""

    @abstractmethod
    def describe(self, parameters: Numbers) -> dict[str, float]:
        """Return the parameters as the user knows them."""


class Gaussian(Family):
    """A Gaussian of any two widths and orientation, or a round one."""

    def __init__(self, *, is_round: bool = False) -> None:
        self.is_round = is_round

    def start(self, covariance: Numbers) -> Numbers:
        if self.is_round:
            return np.array([math.sqrt(np.trace(covariance) / 2)])
        lower = np.linalg.cholesky(covariance)
        return np.array([lower[0, 0], lower[1, 0], lower[1, 1]])

    def covariance(self, parameters: Numbers) -> Numbers:
        """Return the covariance ``(2, 2)``, axes in the order y, x."""
        if self.is_round:
            return np.asarray(np.eye(2) * max(parameters[0] ** 2, _THINNEST**2))
        a, b, c = parameters
        values, vectors = np.linalg.eigh(np.array([[a * a, a * b], [a * b, b * b + c * c]]))
        return np.asarray(vectors * np.maximum(values, _THINNEST**2) @ vectors.T)

    def transfer(self, parameters: Numbers, fy: Numbers, fx: Numbers) -> Numbers:
        c = self.covariance(parameters)
        squared = c[0, 0] * fy**2 + 2 * c[0, 1] * fy * fx + c[1, 1] * fx**2
        return np.asarray(np.exp(-2 * np.pi**2 * squared))

    def kernel(self, parameters: Numbers) -> Numbers:
        return psf.gaussian_of(self.covariance(parameters))

    def describe(self, parameters: Numbers) -> dict[str, float]:
        values, vectors = np.linalg.eigh(self.covariance(parameters))
        y, x = vectors[:, 1]
        return {
            "sigma_major": math.sqrt(values[1]),
            "sigma_minor": math.sqrt(values[0]),
            "angle": math.degrees(math.atan2(-y, x)) % 180,
        }


class Airy(Family):
    """In-focus diffraction patterns of a round aperture; the parameter is ``λ / NA``."""

    def start(self, covariance: Numbers) -> Numbers:
        return np.array([_round_width(covariance) / _AIRY_SIGMA])

    def width(self, parameters: Numbers) -> float:
        """Return ``λ / NA`` in pixels, below which Nyquist's frequency would not see the pattern at all."""
        return max(abs(float(parameters[0])), _THINNEST / _AIRY_SIGMA)

    def transfer(self, parameters: Numbers, fy: Numbers, fx: Numbers) -> Numbers:
        ratio = np.minimum(np.hypot(fy, fx) * self.width(parameters) / 2, 1)  # to the cut-off 2 NA / λ
        overlap = 2 / np.pi * (np.arccos(ratio) - ratio * np.sqrt(1 - ratio**2))  # of two apertures
        return np.asarray(overlap * _pixel(fy, fx))

    def kernel(self, parameters: Numbers) -> Numbers:
        return psf.airy(self.width(parameters), 1.0, 1.0)

    def describe(self, parameters: Numbers) -> dict[str, float]:
        return {"wavelength_over_aperture": self.width(parameters)}


class Defocus(Family):
    """Discs; the parameter is the radius."""

    smoothing: ClassVar[float] = 0.5  # the middle of an edge is flat, its crest is hard to find

    def start(self, covariance: Numbers) -> Numbers:
        return np.array([_round_width(covariance) / _DISC_SIGMA])

    def transfer(self, parameters: Numbers, fy: Numbers, fx: Numbers) -> Numbers:
        from scipy.special import j1

        v = np.maximum(2 * np.pi * abs(parameters[0]) * np.hypot(fy, fx), 1e-9)
        return np.asarray(2 * j1(v) / v * _pixel(fy, fx))

    def kernel(self, parameters: Numbers) -> Numbers:
        return psf.defocus(max(abs(float(parameters[0])), _THINNEST))

    def describe(self, parameters: Numbers) -> dict[str, float]:
        return {"radius": max(abs(float(parameters[0])), _THINNEST)}


class Step:
    """What a blur and the sampling after it make of step edges: the ratio that :class:`Edges` holds.

    Parameters
    ----------
    edges
        Edges of the measurement.
    scale
        Pixels of the restored image per pixel of the measurement along y and x; where above 1, the measurement was
        sampled by antialiased bicubic downsampling.
    """

    def __init__(self, edges: Edges, scale: tuple[float, float]) -> None:
        along = [np.abs(part)[:, None] * _FREQUENCIES for part in edges.normal]
        seen = (along[0] <= 0.5) & (along[1] <= 0.5)  # beyond, frequencies lie folded, in no phase on average
        for f, factor in zip(along, scale, strict=True):
            seen = seen * (_bicubic(f) if factor > 1 else 1.0)
        self._places = [
            part[:, None] * _FREQUENCIES / factor for part, factor in zip(edges.normal, scale, strict=True)
        ]
        self._sampling = seen * np.exp(-2 * np.pi**2 * _SHARPEST**2 * sum(f**2 for f in self._places))
        self._smoothing = [np.exp(-2 * (np.pi * s * _FREQUENCIES) ** 2) for s in edges.smoothing]

    def ratio(self, family: Family, parameters: Numbers) -> Numbers:
        """Return the ratio ``(N,)`` for a blur: integrals of the transfer function along the edges' normals."""
        response = family.transfer(parameters, *self._places) * self._sampling
        narrow, wide = (response @ smoothing for smoothing in self._smoothing)
        return np.asarray(wide / np.maximum(narrow, 1e-12))


def _bicubic(f: Numbers) -> Numbers:
    """Return the transfer function of bicubic downsampling at frequencies in cycles per sample it leaves."""
    t = np.linspace(-2, 2, 401)
    table = np.linspace(0, 0.75, 151)
    weights = cubic(t)
    return np.asarray(np.interp(f, table, np.cos(2 * np.pi * table[:, None] * t) @ weights / weights.sum()))


def _pixel(fy: Numbers, fx: Numbers) -> Numbers:
    """Return the transfer function of the mean over a pixel, which the sampled kernels hold."""
    return np.asarray(np.sinc(fy) * np.sinc(fx))


def _round_width(covariance: Numbers) -> float:
    return math.sqrt(math.sqrt(float(np.linalg.det(covariance))))
