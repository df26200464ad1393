"""Flicker: how much a restored series changes over time where nothing moves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.errors import NonFiniteError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import ArrayLike, NDArray

    Frame = NDArray[Any]
    Frames = Callable[[], Iterable[Frame]]

_CLASSES = 16  # of brightness, in which the variance over time is looked at
_PROBABILITY = 1e-3  # of calling noise motion
_LEAST = 1e-3  # of the range of intensities: smaller changes are none
_SLACK = 4.0  # how much larger than between pixels the noise's variance may be between frames
_TOO_FEW = 0.01  # share of static pixels below which nothing is said


@dataclass(frozen=True, eq=False)
class Course:
    """What becomes of every pixel of a series.

    Attributes
    ----------
    mean, variance
        Over time, of each pixel: ``(H, W, C)``; the variance with ``n − 1``.
    count
        Frames.
    noise
        Variance of the noise as a single frame shows it, the mean of its channels.
    """

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    count: int
    noise: float


@dataclass(frozen=True, slots=True)
class Flicker:
    """The flicker of a series.

    Attributes
    ----------
    value
        Standard deviation over time where nothing moves, in intensity units; NaN where nothing is static.
    relative
        Over that of the measurement, enlarged to the same grid; NaN without a measurement.
    static
        Share of the pixels in which nothing moves.
    """

    value: float
    relative: float = math.nan
    static: float = 0.0


def flicker(series: ArrayLike, measured: ArrayLike | None = None, static: ArrayLike | None = None) -> Flicker:
    """Measure how much a series changes over time where nothing moves.

    That is the square root of the mean, over the static pixels, of the variance over time (``n − 1``). The warping
    error of Lai et al. 2018 (arXiv:1808.00449), the mean square of what changes from frame to frame beside the
    motion, is twice its square there if the flicker is white in time.

    Parameters
    ----------
    series
        ``(T, H, W)`` or ``(T, H, W, C)``, two frames or more.
    measured
        What it was restored from, or the true series, on the same or another grid; without it the series itself
        says what moves.
    static
        ``(H, W)`` of any size, true where nothing moves; left out, :func:`static_region` of ``measured``.

    Raises
    ------
    ShapeError
        If the series has a single frame, its frames differ in shape, or it has more or fewer frames than
        ``measured``.
    NonFiniteError
        If an intensity is NaN or infinite.
    """
    frames = np.asarray(series)
    data = None if measured is None else np.asarray(measured)
    if data is not None and len(data) != len(frames):
        raise ShapeError("Both series must have as many frames", found=f"{len(frames)} and {len(data)}")
    still = None if static is None else np.asarray(static, bool)
    return flicker_beside(partial(iter, frames), None, None if data is None else partial(iter, data), still)


def flicker_beside(
    series: Frames, reference: Frames | None, measurement: Frames | None, static: NDArray[np.bool_] | None = None
) -> Flicker:
    """Return the flicker of a series, whose frames and those beside it are looked at one by one.

    Parameters
    ----------
    series
        Returns the frames ``(H, W)`` or ``(H, W, C)``, each time anew.
    reference
        The true series: it says what moves. Without it the measurement does, without both the series itself.
    measurement
        What the flicker is compared with.
    static
        As for :func:`flicker`: goes before what all of these say.
    """
    own = course(series())
    if static is None:
        guide = reference or measurement
        static = static_region(own if guide is None else course(guide()))
    if measurement is None:
        return flicker_of(own, static)
    shape = own.mean.shape[:2]
    return flicker_of(own, static, course(enlarged(frame, shape) for frame in measurement()))


def course(frames: Iterable[Frame]) -> Course:
    """Return what becomes of every pixel of frames ``(H, W)`` or ``(H, W, C)``, which are looked at one by one."""
    count, noise = 0, 0.0
    mean = squares = np.zeros(())
    for frame in frames:
        now = np.asarray(frame, np.float64)
        now = now[..., None] if now.ndim == 2 else now
        if now.ndim != 3 or (count and now.shape != mean.shape):
            raise ShapeError("A series has frames (H, W) or (H, W, C) of one shape", found=str(now.shape))
        if not np.isfinite(now).all():
            raise NonFiniteError("Flicker needs finite numbers", found=f"{int((~np.isfinite(now)).sum())} others")
        noise = _noise_between_pixels(now) if not count else noise
        count += 1
        step = now - mean
        mean = mean + step / count  # Welford 1962, doi:10.1080/00401706.1962.10490022
        squares = squares + step * (now - mean)
    if count < 2:
        raise ShapeError("Flicker is that of two frames or more", found=str(count))
    return Course(mean, squares / (count - 1), count, noise)


def static_region(series: Course) -> NDArray[np.bool_]:
    """Return where nothing moves: where a series changes no more over time than its noise makes it.

    The noise has the variance ``a + b · brightness`` (read-out and photons), fitted by Theil and Sen's median of
    slopes to the median variance over time in 16 classes of brightness. So more than half of the pixels, and of
    the classes, have to be static. Where everything moves, that would be the motion's variance: the noise's is
    bounded by four times what neighbouring pixels of one frame show of it (median of Haar details: Donoho and
    Johnstone 1994, doi:10.1093/biomet/81.3.425). A pixel is static if the mean variance of 3 × 3 pixels is
    not larger than noise makes it once in a thousand times (χ² test); changes below a thousandth of the range
    count as none.

    Returns
    -------
    numpy.ndarray
        ``(H, W)``.
    """
    from scipy.ndimage import uniform_filter
    from scipy.stats import chi2

    brightness, variance = series.mean.mean(axis=2), series.variance.mean(axis=2)
    channels, freedom = series.mean.shape[2], series.count - 1
    middle = chi2.median(channels * freedom) / (channels * freedom)
    noise = _noise_model(brightness, variance / middle)
    if _SLACK * series.noise < noise.mean():
        noise = noise * (_SLACK * series.noise / noise.mean())
    spread = float(brightness.max() - brightness.min())
    noise = np.maximum(noise, (_LEAST * (spread or 1.0)) ** 2)
    # edges have fewer neighbours; counted as if they had nine, the test is a little too kind to them
    total = 9 * channels * freedom
    found: NDArray[np.bool_] = uniform_filter(variance / noise, 3) <= chi2.isf(_PROBABILITY, total) / total
    return found


def flicker_of(series: Course, static: NDArray[np.bool_], measured: Course | None = None) -> Flicker:
    """Return the flicker of a series, its static pixels on any grid; ``measured`` lies on the series' own."""
    rows, columns = (
        np.minimum((np.arange(n) + 0.5) * m // n, m - 1).astype(int)
        for n, m in zip(series.mean.shape[:2], static.shape, strict=True)
    )
    here = static[np.ix_(rows, columns)]
    share = float(here.mean())
    if share < _TOO_FEW:
        return Flicker(math.nan, static=share)
    value = math.sqrt(float(series.variance[here].mean()))
    relative = math.nan
    if measured is not None:
        beside = math.sqrt(float(measured.variance[here].mean()))
        relative = value / beside if beside > 0 else math.nan
    return Flicker(value, relative, share)


def enlarged(frame: Frame, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return a frame ``(H, W)`` or ``(H, W, C)`` on a grid of another size, by cubic splines."""
    from scipy.ndimage import zoom

    data = np.asarray(frame, np.float64)
    factors = [n / m for n, m in zip(shape, data.shape[:2], strict=True)] + [1] * (data.ndim - 2)
    if all(factor == 1 for factor in factors):
        return data
    larger: NDArray[np.float64] = zoom(data, factors, order=3, mode="reflect", grid_mode=True)
    return larger


def _noise_model(brightness: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the noise's variance at each pixel, a line over its brightness, from the variance over time."""
    from scipy.stats import theilslopes

    order = np.argsort(brightness, axis=None)
    parts = [part for part in np.array_split(order, _CLASSES) if part.size]
    levels = np.array([np.median(brightness.ravel()[part]) for part in parts])
    found = np.array([np.median(variance.ravel()[part]) for part in parts])
    slope = float(theilslopes(found, levels)[0]) if np.ptp(levels) > 0 else 0.0
    slope = max(slope, 0.0)  # noise does not fall with brightness
    line: NDArray[np.float64] = np.median(found - slope * levels) + slope * brightness
    return np.maximum(line, 0.0)


def _noise_between_pixels(frame: NDArray[np.float64]) -> float:
    """Return the variance of white noise in one frame, from the diagonal details of its Haar transform."""
    even = frame[: len(frame) // 2 * 2, : frame.shape[1] // 2 * 2]
    if even.size == 0:
        return math.inf  # a line of pixels says nothing
    detail = (even[::2, ::2] - even[1::2, ::2] - even[::2, 1::2] + even[1::2, 1::2]) / 2
    sigma = np.median(np.abs(detail), axis=(0, 1)) / 0.6745
    return float((sigma**2).mean())
