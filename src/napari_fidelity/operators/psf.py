"""Blur kernels (point-spread functions) as NumPy arrays that sum to 1."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from napari_fidelity.core.errors import OperatorError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Kernel = NDArray[np.float64]

_AIRY_DARK_RINGS = 16.4706  # fifth zero of J1: 96 % of the energy lies inside
_AIRY_LARGEST_RADIUS = 512  # px


@lru_cache(maxsize=64)
def gaussian_weights(sigma: float, truncate: float = 4.0) -> Kernel:
    """Return a sampled 1-D Gaussian of standard deviation ``sigma`` px, cut off at ``truncate·sigma``.

    At four standard deviations 6e-5 of the energy is left out. Odd length.
    """
    radius = max(1, math.ceil(truncate * sigma))
    t = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (t / sigma) ** 2)
    weights /= weights.sum()
    weights.setflags(write=False)
    return np.asarray(weights)


def gaussian(sigma: float, ndim: int = 2, truncate: float = 4.0) -> Kernel:
    """Return an isotropic Gaussian kernel of ``ndim`` axes; see :func:`gaussian_weights`."""
    weights = gaussian_weights(sigma, truncate)
    kernel = weights
    for _ in range(ndim - 1):
        kernel = kernel[..., None] * weights
    return kernel


def motion(length: float, angle: float) -> Kernel:
    """Return the kernel of a straight, uniform movement.

    Parameters
    ----------
    length
        Length of the path in px, at least 1 (1 is no movement).
    angle
        Direction in degrees, counter-clockwise from the last axis (seen with the first axis pointing down).

    Notes
    -----
    Every pixel weighs ``max(0, 1 - d)``, with ``d`` its distance from the path: an antialiased line. Odd sizes.
    """
    half = (length - 1) / 2
    radians = math.radians(angle)
    direction = np.array([-math.sin(radians), math.cos(radians)])
    extent = np.ceil(np.abs(direction) * half - 1e-9).astype(int)
    rows, columns = np.mgrid[-extent[0] : extent[0] + 1, -extent[1] : extent[1] + 1].astype(np.float64)
    along = np.clip(rows * direction[0] + columns * direction[1], -half, half)
    distance = np.hypot(rows - along * direction[0], columns - along * direction[1])
    kernel = np.maximum(0, 1 - distance)
    return np.asarray(kernel / kernel.sum())


def airy(wavelength: float, numerical_aperture: float, pixel_size: float) -> Kernel:
    """Return the in-focus diffraction pattern of a circular aperture, averaged over each pixel.

    ``I(r) = (2 J₁(v) / v)²`` with ``v = 2π NA r / λ``, up to the fifth dark ring. Odd sizes.

    Parameters
    ----------
    wavelength
        Emission wavelength λ in nm.
    numerical_aperture
        Numerical aperture NA of the objective.
    pixel_size
        Pixel size in the sample plane in nm.

    Raises
    ------
    OperatorError
        If the pattern is more than a thousand pixels wide: a unit is wrong.

    References
    ----------
    Born and Wolf, Principles of Optics, section 8.5.2, doi:10.1017/CBO9781139644181.
    """
    from scipy.special import j1

    per_pixel = 2 * math.pi * numerical_aperture * pixel_size / wavelength
    radius = math.ceil(_AIRY_DARK_RINGS / per_pixel)
    if radius > _AIRY_LARGEST_RADIUS:
        raise OperatorError(
            "The Airy pattern is too large for its pixels",
            found=f"a radius of {radius} px",
            do="Check the units: wavelength and pixel size are in nm",
        )
    fine = 5 if radius < 64 else 1  # sub-samples per pixel and axis
    t = (np.arange(-radius * fine - fine // 2, radius * fine + fine // 2 + 1)) / fine * per_pixel
    v = np.hypot(t[:, None], t[None, :])
    v[v == 0] = 1e-9
    intensity = (2 * j1(v) / v) ** 2
    size = 2 * radius + 1
    kernel = intensity.reshape(size, fine, size, fine).mean(axis=(1, 3))
    return np.asarray(kernel / kernel.sum())


def gaussian_of(covariance: Kernel, truncate: float = 4.0) -> Kernel:
    """Return a sampled 2-D Gaussian of any orientation, cut off at ``truncate`` deviations along each axis.

    Parameters
    ----------
    covariance
        ``(2, 2)`` in px², positive definite, axes in the order y, x.
    """
    radii = [max(1, math.ceil(truncate * math.sqrt(covariance[axis, axis]))) for axis in (0, 1)]
    places = np.mgrid[-radii[0] : radii[0] + 1, -radii[1] : radii[1] + 1]
    distances = np.einsum("iyx,ij,jyx->yx", places, np.linalg.inv(covariance), places)
    kernel = np.exp(-0.5 * distances)
    return np.asarray(kernel / kernel.sum())


def defocus(radius: float) -> Kernel:
    """Return the disc that geometrical optics makes of a point out of focus, averaged over each pixel. Odd sizes.

    Parameters
    ----------
    radius
        Radius of the disc in px, above 0.

    References
    ----------
    Goodman, Introduction to Fourier Optics, section 6.4: it holds where the defocus is many wavelengths deep.
    """
    reach = math.ceil(radius + 0.5) if radius > 0.5 else 1
    size, fine = 2 * reach + 1, 16  # sub-samples per pixel and axis
    t = (np.arange(size * fine) + 0.5) / fine - size / 2
    inside = (np.hypot(t[:, None], t[None, :]) <= radius).astype(np.float64)
    kernel = inside.reshape(size, fine, size, fine).mean(axis=(1, 3))
    return np.asarray(kernel / kernel.sum()) if kernel.any() else np.ones((1, 1))


def fwhm(kernel: Kernel) -> tuple[float, float]:
    """Return the full widths at half maximum of a 2-D kernel along y and x, through the peak, in samples."""
    peak = np.unravel_index(int(np.argmax(kernel)), kernel.shape)
    return _width(kernel[:, peak[1]], int(peak[0])), _width(kernel[peak[0]], int(peak[1]))


def _width(profile: Kernel, peak: int) -> float:
    half = profile[peak] / 2
    ends = []
    for side in (profile[peak::-1], profile[peak:]):
        below = np.flatnonzero(side < half)
        if len(below) == 0:
            ends.append(len(side) - 0.5)  # to the edge of the last pixel
            continue
        i = int(below[0])
        ends.append(i - 1 + float((side[i - 1] - half) / (side[i - 1] - side[i])))
    return sum(ends)


def separate(kernel: Kernel, tolerance: float) -> tuple[Kernel, ...] | None:
    """Return 1-D factors whose outer product is ``kernel``, or ``None`` if there are none.

    ``tolerance`` is the largest second singular value accepted, relative to the first.
    """
    factors: list[Kernel] = []
    rest = kernel
    while rest.ndim > 1:
        u, s, vt = np.linalg.svd(rest.reshape(rest.shape[0], -1), full_matrices=False)
        if len(s) > 1 and s[1] > tolerance * s[0]:
            return None
        factors.append(u[:, 0] * s[0])
        rest = vt[0].reshape(rest.shape[1:])
    return (*factors, rest)
