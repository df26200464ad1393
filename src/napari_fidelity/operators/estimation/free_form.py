"""A blur kernel of any shape, by alternating maximum a posteriori estimation. NumPy and SciPy only.

Kotera, Šroubek and Milanfar 2013, doi:10.1007/978-3-642-40246-3_8: the sharp image has few large derivatives (the
penalty is ``Σ |Du|^p`` with ``p = 0.3``), the kernel is non-negative and sparse; both are found in turn by the
alternating direction method of multipliers in the Fourier domain, from a coarse image to the full one. The
settings are the published ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_fidelity.core.cubic import cubic
from napari_fidelity.operators.estimation.base import correlation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Spectrum = NDArray[np.complex128]

_POWER = 0.3  # of the derivatives' penalty
_IMAGE_WEIGHT, _IMAGE_PENALTY = 0.01, 1.0  # α_u, β_u in units of γ
_KERNEL_WEIGHT, _KERNEL_PENALTY = 10.0, 1e4  # α_h, β_h in units of γ
_GROWTH = (
    1.5  # of the data's weight γ in each round; with all else in units of it, its value at first is no matter
)
_LEVELS = 4  # of the pyramid
_ROUNDS, _INNER = 10, 10  # of both, and of each within
_TOLERANCE = 1e-3
_REACH = 8  # px of the measurement: the largest radius of the kernel
_LEAST = 16  # px, the smallest side of the coarsest level
_FEEBLE = 0.02  # of the peak: what is left out of the final kernel


@dataclass(frozen=True)
class FreeFit:
    """A kernel ``(h, w)`` that sums to 1, and how far the two halves of the image agree on it."""

    kernel: Numbers
    score: float


def fit_free_form(image: Numbers, scale: tuple[float, float]) -> FreeFit:
    """Find the kernel of an image.

    Parameters
    ----------
    image
        ``(H, W)`` in [0, 1].
    scale
        Pixels of the restored image per pixel of the measurement along y and x: the image is enlarged by it first
        (bicubic), so that the kernel comes out on the finer grid.
    """
    whole = _enlarged(image, scale)
    radius = math.ceil(_REACH * max(scale))
    axis = int(np.argmax(whole.shape))
    halves = np.array_split(whole, 2, axis=axis)
    score = math.nan
    if min(halves[1].shape) >= 4 * (2 * radius + 1):
        score = correlation(*(_kernel(half, radius) for half in halves))
    return FreeFit(_kernel(whole, radius), score)


def _enlarged(image: Numbers, scale: tuple[float, float]) -> Numbers:
    for axis, factor in enumerate(scale):
        if factor != 1:
            image = np.moveaxis(
                _resampled(np.moveaxis(image, axis, 0), round(image.shape[axis] * factor)), 0, axis
            )
    return image


def _resampled(columns: Numbers, size: int) -> Numbers:
    """Return the first axis with ``size`` samples: bicubic, antialiased where it shrinks."""
    n = columns.shape[0]
    stretch = max(1.0, n / size)
    centre = (np.arange(size) + 0.5) * n / size - 0.5
    taps = np.floor(centre)[:, None] + np.arange(-math.ceil(2 * stretch), math.ceil(2 * stretch) + 1)
    weights = cubic((centre[:, None] - taps) / stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    inside = taps.astype(int) % (2 * n)
    inside = np.where(inside < n, inside, 2 * n - 1 - inside)  # mirrored
    return np.asarray(np.einsum("st,st...->s...", weights, columns[inside]))


def _kernel(image: Numbers, radius: int) -> Numbers:
    """Return the kernel of an image, found from coarse to fine."""
    levels = [level for level in range(_LEVELS) if min(image.shape) >> level >= _LEAST and radius >> level >= 1][
        ::-1
    ] or [0]
    kernel = np.zeros((3, 3))
    kernel[1, 1] = 1
    for level in levels:
        size = [max(_LEAST // 2, n >> level) for n in image.shape]
        small = _resampled(_resampled(image, size[0]).T, size[1]).T
        reach = max(1, radius >> level)
        if level != levels[0]:
            kernel = np.maximum(_resampled(_resampled(kernel, 2 * len(kernel)).T, 2 * len(kernel)).T, 0)
        kernel = _alternate(small, _fit_into(kernel, reach))
    kernel[kernel < _FEEBLE * kernel.max()] = 0
    return _cropped(_centred(kernel))


def _alternate(image: Numbers, kernel: Numbers) -> Numbers:
    """Improve the kernel at one level of the pyramid."""
    reach, gamma = kernel.shape[0] // 2, 1.0
    for _ in range(_ROUNDS):
        before = kernel
        tapered = _tapered(image, kernel)
        data = np.fft.rfft2(tapered)
        sharp = _image_step(data, tapered, kernel, gamma)
        kernel = _kernel_step(data, sharp, kernel, reach, gamma)
        kernel = _fit_into(_centred(kernel), reach)
        gamma *= _GROWTH
        if np.linalg.norm(kernel - before) <= _TOLERANCE * np.linalg.norm(kernel):
            break
    return kernel


def _image_step(data: Spectrum, image: Numbers, kernel: Numbers, gamma: float) -> Numbers:
    """Return the sharp image for a kernel, with the data ``γ`` times as heavy as at first."""
    shape, penalty = image.shape, _IMAGE_PENALTY / gamma
    blur = _spectrum(kernel, shape)
    slopes = _derivatives(shape)
    normal = np.abs(blur) ** 2 + penalty * sum(np.abs(d) ** 2 for d in slopes)
    fitted = np.conj(blur) * data
    sharp = data
    split = [np.zeros(shape) for _ in slopes]
    scaled = [np.zeros(shape) for _ in slopes]
    for _ in range(_INNER):
        before = sharp
        pull = sum(np.conj(d) * np.fft.rfft2(v + a) for d, v, a in zip(slopes, split, scaled, strict=True))
        sharp = (fitted + penalty * pull) / normal
        moved = [np.fft.irfft2(d * sharp, s=shape) for d in slopes]
        free = [m - a for m, a in zip(moved, scaled, strict=True)]
        length = np.sqrt(sum(f**2 for f in free))
        shrunk = _shrinkage(length, _IMAGE_WEIGHT / _IMAGE_PENALTY)
        split = [f * shrunk for f in free]
        scaled = [a + v - m for a, v, m in zip(scaled, split, moved, strict=True)]
        if np.linalg.norm(sharp - before) <= _TOLERANCE * np.linalg.norm(sharp):
            break
    return np.asarray(np.fft.irfft2(sharp, s=shape))


def _kernel_step(data: Spectrum, sharp: Numbers, kernel: Numbers, reach: int, gamma: float) -> Numbers:
    """Return the kernel for a sharp image, with the data ``γ`` times as heavy as at first."""
    shape, penalty = sharp.shape, _KERNEL_PENALTY / gamma
    slopes = _derivatives(shape)
    image = np.fft.rfft2(sharp)
    energy = sum(np.abs(d * image) ** 2 for d in slopes)
    fitted = sum(np.conj(d * image) * (d * data) for d in slopes)
    split, scaled = _placed(kernel, shape), np.zeros(shape)
    for _ in range(_INNER):
        before = split
        moved = np.fft.irfft2((fitted + penalty * np.fft.rfft2(split + scaled)) / (energy + penalty), s=shape)
        split = np.maximum(moved - scaled - _KERNEL_WEIGHT / _KERNEL_PENALTY, 0)
        split = _placed(_taken(split, reach), shape)
        scaled = scaled + split - moved
        if np.linalg.norm(split - before) <= _TOLERANCE * np.linalg.norm(split):
            break
    found = _taken(split, reach)
    return found / found.sum() if found.sum() > 0 else kernel


def _shrinkage(length: Numbers, weight: float) -> Numbers:
    """Return the factors by which lengths shrink: the proximal map of ``weight · length^p``.

    Marjanovic and Solo 2012, doi:10.1109/TSP.2012.2212015.
    """
    p = _POWER
    # up to the threshold zero is the better of the two minima
    least = (2 * weight * (1 - p)) ** (1 / (2 - p))
    threshold = least + weight * p * least ** (p - 1)
    kept = length > threshold
    safe = np.where(kept, length, 1.0)
    x = safe.copy()
    for _ in range(4):
        x = np.maximum(safe - weight * p * np.maximum(x, least) ** (p - 1), least)
    return np.where(kept, x / safe, 0.0)


# -- arrays and spectra -----------------------------------------------------------------------------------------


def _derivatives(shape: tuple[int, ...]) -> tuple[Spectrum, Spectrum]:
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :]
    return 1 - np.exp(-2j * np.pi * fy) + 0 * fx, 1 - np.exp(-2j * np.pi * fx) + 0 * fy


def _spectrum(kernel: Numbers, shape: tuple[int, ...]) -> Spectrum:
    return np.asarray(np.fft.rfft2(_placed(kernel, shape)))


def _placed(kernel: Numbers, shape: tuple[int, ...]) -> Numbers:
    """Return a kernel on the image's grid, its centre at the first pixel, periodic."""
    whole = np.zeros(shape)
    whole[: kernel.shape[0], : kernel.shape[1]] = kernel
    return np.roll(whole, [-(n // 2) for n in kernel.shape], (0, 1))


def _taken(whole: Numbers, reach: int) -> Numbers:
    return np.roll(whole, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]


def _fit_into(kernel: Numbers, reach: int) -> Numbers:
    """Return a kernel with sides of ``2·reach + 1``, cut off or with zeros around it."""
    side = 2 * reach + 1
    padded = np.pad(kernel, side)
    corner = [side + n // 2 - reach for n in kernel.shape]
    cut = padded[corner[0] : corner[0] + side, corner[1] : corner[1] + side]
    return np.asarray(cut / cut.sum() if cut.sum() > 0 else cut)


def _centred(kernel: Numbers) -> Numbers:
    """Return a kernel with its centre of mass at the middle, to half a pixel: its place cannot be told."""
    total = kernel.sum()
    shift = [
        round(n // 2 - float((np.arange(n) * kernel.sum(axis=1 - axis)).sum() / total))
        for axis, n in enumerate(kernel.shape)
    ]
    return np.roll(kernel, shift, (0, 1))


def _cropped(kernel: Numbers) -> Numbers:
    """Return the middle of a kernel without the zeros around it."""
    places = np.abs(np.argwhere(kernel > 0) - [n // 2 for n in kernel.shape])
    reach = np.maximum(places.max(axis=0), 1)
    centre = [n // 2 for n in kernel.shape]
    cut = kernel[tuple(slice(c - r, c + r + 1) for c, r in zip(centre, reach, strict=True))]
    return np.asarray(cut / cut.sum())


def _tapered(image: Numbers, kernel: Numbers) -> Numbers:
    """Return an image that goes on periodically: towards its borders it passes into itself, blurred."""
    from scipy.ndimage import gaussian_filter

    width = max(2, kernel.shape[0] // 2)
    blurred = gaussian_filter(image, width / 2, mode="wrap")
    ramps = [np.clip((np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5) / width, 0, 1) for n in image.shape]
    weight = np.outer(*(0.5 - 0.5 * np.cos(np.pi * ramp) for ramp in ramps))
    return np.asarray(weight * image + (1 - weight) * blurred)
