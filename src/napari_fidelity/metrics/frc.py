"""Fourier ring correlation of two images, and ways to make two images of one measurement."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_fidelity.core.errors import NonFiniteError, OptionError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Numbers = NDArray[np.float64]

Threshold = Literal["1/7", "half-bit"]
FIXED = 1 / 7
_HALF_BIT = (math.sqrt(2) - 1) / 2  # signal-to-noise ratio of each half when both together hold half a bit
_FEWEST = 4  # pixels along the shortest axis


@dataclass(frozen=True, slots=True)
class FRC:
    """Correlation of two images over spatial frequency.

    Attributes
    ----------
    frequency
        Mean of each ring (shell), in cycles per ``unit``.
    correlation
        -1 … 1; NaN where one of the images holds nothing.
    count
        Fourier coefficients of each ring, one of each conjugate pair (under a window, neighbours are correlated).
    pixel_size
        Of the finest axis, in ``unit``.
    unit
        Of lengths.
    """

    frequency: Numbers
    correlation: Numbers
    count: NDArray[np.int64]
    pixel_size: float = 1.0
    unit: str = "pixel"

    @property
    def half_bit(self) -> Numbers:
        """Half-bit threshold of each ring (van Heel and Schatz 2005): the fewer coefficients, the higher."""
        chance = 1 / np.sqrt(self.count)
        cross = 2 * math.sqrt(_HALF_BIT) * chance
        return np.asarray((_HALF_BIT + cross + chance) / (_HALF_BIT + cross + 1))

    def resolution(self, threshold: Threshold | float = "1/7") -> float:
        """Return the length where the curve first falls below a threshold, in ``unit``.

        Two rings in a row must be below it, as one with few coefficients may fall by chance.

        Parameters
        ----------
        threshold
            ``"1/7"``, ``"half-bit"`` or a number between 0 and 1.

        Returns
        -------
        float
            Two pixels (of the finest axis) where the curve never falls below it: the grid ends before the signal
            does. NaN where it begins below, or there is no curve.

        Raises
        ------
        OptionError
            If there is no such threshold.
        """
        known = np.isfinite(self.correlation)
        if not known.any():
            return math.nan
        frequency, level = self.frequency[known], self._level(threshold)[known]
        above = self.correlation[known] - level
        # after the last ring there is nothing
        below = np.flatnonzero((above < 0) & np.append(above[1:] < 0, True))
        if not below.size:
            return 2 * self.pixel_size
        i = int(below[0])
        if i == 0:
            return math.nan
        share = above[i - 1] / (above[i - 1] - above[i])
        return float(1 / (frequency[i - 1] + share * (frequency[i] - frequency[i - 1])))

    def _level(self, threshold: Threshold | float) -> Numbers:
        if threshold == "half-bit":
            return self.half_bit
        level = FIXED if threshold == "1/7" else threshold
        if isinstance(level, str) or not 0 < level < 1:
            raise OptionError("A threshold is 1/7, half-bit or a number between 0 and 1", found=repr(threshold))
        return np.full_like(self.frequency, level)


def frc(
    a: ArrayLike,
    b: ArrayLike,
    *,
    pixel_size: float | Sequence[float] = 1.0,
    unit: str = "pixel",
    window: bool = True,
    spatial_dims: Literal[2, 3] = 2,
) -> FRC:
    """Fourier ring correlation of two images of the same thing with independent noise; of volumes, shell.

    Of a restored image it says something only if the *other* half is raw: two restored halves have in common what
    the network or the prior added, which raises the curve.

    Parameters
    ----------
    a, b
        ``(H, W)`` or ``(H, W, C)``, of any one size; volumes ``(D, H, W)`` or ``(D, H, W, C)``. Channels are
        summed within each ring.
    pixel_size
        One number, or one per axis; rings are round in physical frequencies and reach to the Nyquist frequency
        of the finest axis.
    unit
        Of ``pixel_size``, such as ``"nm"``.
    window
        Whether a Hann window is put over the images, so that their borders do not appear as a cross.
    spatial_dims
        3 for volumes.

    Raises
    ------
    ShapeError
        If the shapes differ or an axis has fewer than 4 pixels.
    NonFiniteError
        If the images hold NaN or infinity.
    OptionError
        If a pixel size is not positive.

    References
    ----------
    Saxton and Baumeister 1982, doi:10.1111/j.1365-2818.1982.tb00405.x; 1/7: Nieuwenhuizen et al. 2013,
    doi:10.1038/nmeth.2448; half-bit: van Heel and Schatz 2005, doi:10.1016/j.jsb.2005.05.009.
    """
    images = [_checked(image, spatial_dims) for image in (a, b)]
    if images[0].shape != images[1].shape:
        raise ShapeError("Two images of one shape are needed", found=f"{images[0].shape} and {images[1].shape}")
    shape = images[0].shape[:spatial_dims]
    sizes = _pixel_sizes(pixel_size, spatial_dims)
    axes = tuple(range(spatial_dims))
    spectra = [np.fft.rfftn(_windowed(image, spatial_dims, window), axes=axes) for image in images]
    radius, weight = _frequencies(shape, sizes)
    # rings as wide as the coarsest sampling of frequencies, so that none is empty
    ring_width = max(1 / (n * p) for n, p in zip(shape, sizes, strict=True))
    ring = np.rint(radius / ring_width).astype(int)
    last = round(1 / (2 * float(sizes.min())) / ring_width)
    keep = (ring >= 1) & (ring <= last) & (weight > 0)
    first, second = (spectrum.reshape(*spectrum.shape[:spatial_dims], -1)[keep] for spectrum in spectra)
    ring, weight, radius = ring[keep] - 1, weight[keep], radius[keep]

    def total(values: Numbers) -> Numbers:
        return np.bincount(ring, weight * values, minlength=last).astype(np.float64)

    product = total((first * second.conj()).real.sum(axis=-1))
    power = total((np.abs(first) ** 2).sum(axis=-1)) * total((np.abs(second) ** 2).sum(axis=-1))
    count = total(np.ones_like(radius))
    correlation = np.divide(product, np.sqrt(power), out=np.full(last, np.nan), where=power > 0)
    some = count >= 1
    return FRC(
        total(radius)[some] / count[some],
        np.clip(correlation[some], -1, 1),
        count[some].astype(np.int64),
        float(sizes.min()),
        unit,
    )


def split_counts(
    y: ArrayLike, *, gain: float = 1.0, offset: float = 0.0, rng: int | np.random.Generator = 0
) -> tuple[Numbers, Numbers]:
    """Split photon counts into two independent halves by a fair coin for each photon (binomial thinning).

    Parameters
    ----------
    y
        Measurement of any shape with photon noise.
    gain, offset
        ``counts = (y - offset) / gain``, rounded to whole photons and at least 0: read noise that is not small
        beside the photons leaves the halves correlated.
    rng
        Seed or generator.

    Returns
    -------
    tuple of numpy.ndarray
        Two images with the mean of ``y`` and twice its variance: photon noise of twice the gain.

    Raises
    ------
    NonFiniteError
        If ``y`` holds NaN or infinity.
    OptionError
        If ``gain`` is not positive.
    """
    if not (math.isfinite(gain) and gain > 0):
        raise OptionError("The gain must be a positive number", found=str(gain))
    counts = np.rint((_finite(y) - offset) / gain).clip(min=0).astype(np.int64)
    first = np.random.default_rng(rng).binomial(counts, 0.5)
    one, other = ((offset + 2 * gain * half).astype(np.float64) for half in (first, counts - first))
    return one, other


def split_gaussian(
    y: ArrayLike, sigma: ArrayLike, *, rng: int | np.random.Generator = 0
) -> tuple[Numbers, Numbers]:
    """Split a measurement with Gaussian noise into two of independent noise, ``y + σ z`` and ``y - σ z``.

    Parameters
    ----------
    y
        Measurement of any shape.
    sigma
        Standard deviation of its noise, one number or one per pixel; the halves are independent if it is right.
    rng
        Seed or generator.

    Returns
    -------
    tuple of numpy.ndarray
        Two images with the mean of ``y`` and twice its variance.

    References
    ----------
    Leiner, Duan, Wasserman and Ramdas 2023, Data fission, doi:10.1080/01621459.2023.2270748.
    """
    data, level = _finite(y), _finite(sigma)
    if (level < 0).any():
        raise OptionError("A noise level is 0 or positive", found=str(level.min()))
    z = level * np.random.default_rng(rng).standard_normal(data.shape)
    return data + z, data - z


def checkerboard(shape: Sequence[int]) -> NDArray[np.bool_]:
    """Return a mask of every second pixel, so that no two of a kind touch along an axis; the first one is true."""
    return np.asarray(np.indices(tuple(shape)).sum(axis=0) % 2 == 0)


def _checked(image: ArrayLike, spatial_dims: int) -> Numbers:
    values = _finite(image)
    if values.ndim not in (spatial_dims, spatial_dims + 1):
        raise ShapeError(f"An image with {spatial_dims} spatial axes is needed", found=f"shape {values.shape}")
    if min(values.shape[:spatial_dims]) < _FEWEST or values.size == 0:
        raise ShapeError(
            f"A Fourier ring correlation needs {_FEWEST} pixels or more along every axis",
            found=f"shape {values.shape}",
        )
    return values


def _pixel_sizes(given: float | Sequence[float], spatial_dims: int) -> Numbers:
    sizes = np.asarray(given, np.float64)
    if sizes.shape not in ((), (1,), (spatial_dims,)) or not (np.isfinite(sizes).all() and (sizes > 0).all()):
        raise OptionError("A pixel size is a positive number, or one for each spatial axis", found=str(given))
    return np.broadcast_to(sizes, (spatial_dims,))


def _finite(image: ArrayLike) -> Numbers:
    values = np.asarray(image, np.float64)
    if not np.isfinite(values).all():
        raise NonFiniteError("Finite numbers are needed", found=f"{int((~np.isfinite(values)).sum())} others")
    return values


def _windowed(image: Numbers, spatial_dims: int, window: bool) -> Numbers:
    axes = tuple(range(spatial_dims))
    rounding = 1e-12 * np.abs(image).max()
    image = image - image.mean(axis=axes, keepdims=True)
    # of a constant nothing but rounding is left, which would correlate with itself
    image = np.where(np.abs(image).max(axis=axes, keepdims=True) > rounding, image, 0.0)
    if window:
        for axis in axes:
            n = image.shape[axis]
            hann = np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2
            image = image * hann.reshape([-1 if i == axis else 1 for i in range(image.ndim)])
    return image


def _frequencies(shape: Sequence[int], sizes: Numbers) -> tuple[Numbers, Numbers]:
    """Return the radius of each coefficient of a real transform and 1 for one of each conjugate pair, else 0."""
    parts = [np.fft.fftfreq(n, p) for n, p in zip(shape[:-1], sizes[:-1], strict=True)]
    parts.append(np.fft.rfftfreq(shape[-1], sizes[-1]))
    grid = np.meshgrid(*parts, indexing="ij")
    radius = np.sqrt(np.sum([part**2 for part in grid], axis=0))
    # the first and, of even sizes, the last column hold both of each pair
    weight = np.ones_like(radius)
    weight[..., 0] = 0.5
    if shape[-1] % 2 == 0:
        weight[..., -1] = 0.5
    return radius, weight
