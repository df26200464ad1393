"""Isolated spots, such as beads: their widths are those of the point-spread function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.operators.estimation._families import Gaussian
from napari_fidelity.operators.estimation.parametric import Fit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_fidelity.operators.estimation._families import Family

    Numbers = NDArray[np.float64]

_FEWEST = 5  # spots
_MOST = 60  # the brightest ones are fitted
_TRIED = 16  # the brightest ones, of which some must be spots
_BRIGHT = 8.0  # noise deviations above what is around
_RADII = (4, 6, 9, 13)  # px, of the window around a spot; the smallest that holds it is taken
_GOOD = 0.9  # coefficient of determination of a fitted spot
_SHARE = 0.6  # of the image's contrast that lies in its spots, for it to be an image of spots


def fit_to_spots(
    image: Numbers, usable: NDArray[np.bool_], noise: Numbers, family: Family, scale: tuple[float, float]
) -> Fit | None:
    """Fit a blur to isolated spots; ``None`` if the image does not consist of such.

    A Gaussian is fitted to each spot, with its place, brightness and background; the medians of their covariances
    are taken. A bead that is not much smaller than the blur makes it wider.

    Parameters
    ----------
    image, usable, noise, family, scale
        As for :func:`~napari_fidelity.operators.estimation.parametric.fit_to_edges`.
    """
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(image, 1.0)
    background = float(np.median(image))
    threshold = np.maximum(_BRIGHT * noise / np.sqrt(4 * np.pi), 0.1 * float(smooth.max() - background))
    peaks = _peaks(smooth, usable, background + threshold)
    if not _FEWEST <= len(peaks) <= image.size / 200:
        return None
    windows: list[tuple[NDArray[np.intp], int]] = []
    covariances: list[Numbers] = []
    for i, peak in enumerate(peaks[:_MOST]):
        if i == _TRIED and len(covariances) < 0.25 * _TRIED:
            return None
        found = _fitted_spot(image, peak, _others(peaks, peak))
        if found is not None:
            windows.append((peak, found[0]))
            covariances.append(found[1])
    if len(covariances) < _FEWEST or len(covariances) < 0.5 * min(len(peaks), _MOST):
        return None
    if len(peaks) <= _MOST and _share(smooth - background, windows, threshold) < _SHARE:
        return None
    one = np.diag(scale)
    values = np.array([one @ covariance @ one for covariance in covariances])
    rng = np.random.default_rng(0)
    some = [values[rng.permutation(len(values))[: len(values) // 2]] for _ in range(8)]
    return Fit(
        family, _median(family, values), len(values), tuple(_median(family, part) for part in some), spots=True
    )


def _median(family: Family, covariances: Numbers) -> Numbers:
    middle = np.median(covariances, axis=0)
    if not isinstance(family, Gaussian):
        middle = np.eye(2) * np.sqrt(max(float(np.linalg.det(middle)), 1e-4))
    return family.start(middle)


def _peaks(smooth: Numbers, usable: NDArray[np.bool_], threshold: Numbers) -> NDArray[np.intp]:
    """Return the places ``(N, 2)`` of local maxima, the brightest first."""
    from scipy.ndimage import maximum_filter

    top = (smooth == maximum_filter(smooth, 5)) & (smooth > threshold) & usable
    places = np.argwhere(top)
    return places[np.argsort(-smooth[tuple(places.T)], kind="stable")]


def _others(peaks: NDArray[np.intp], peak: NDArray[np.intp]) -> float:
    """Return the distance to the next peak."""
    distances = np.abs(peaks - peak).max(axis=1).astype(np.float64)
    return float(np.min(distances[distances > 0], initial=np.inf))


def _fitted_spot(image: Numbers, peak: NDArray[np.intp], next_one: float) -> tuple[int, Numbers] | None:
    """Return radius of the window and covariance of a spot; ``None`` if it is no single spot."""
    for radius in _RADII:
        low, high = peak - radius, peak + radius + 1
        if (low < 0).any() or (high > image.shape).any() or next_one < radius + 2:
            return None
        covariance, good = _gaussian_of(image[low[0] : high[0], low[1] : high[1]])
        if covariance is None or not good:
            continue
        if np.sqrt(np.linalg.eigvalsh(covariance)[-1]) <= radius / 2.5:
            return radius, covariance
    return None


def _gaussian_of(window: Numbers) -> tuple[Numbers | None, bool]:
    """Return the covariance of the Gaussian nearest to a window, and whether it is near."""
    from scipy.optimize import least_squares

    radius = window.shape[0] // 2
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    span = float(np.ptp(window))
    if span == 0:
        return None, False
    values = (window - window.min()) / span

    def model(p: Numbers) -> Numbers:
        (a, b, c), dy, dx = p[:3], y - p[3], x - p[4]
        u, v = a * dy + b * dx, c * dx  # the Cholesky factor of the inverse covariance
        return np.asarray(p[5] * np.exp(-0.5 * (u * u + v * v)) + p[6])

    start = np.array([0.6, 0.0, 0.6, 0.0, 0.0, 1.0, 0.0])
    found: Any = least_squares(lambda p: (model(p) - values).ravel(), start, max_nfev=60)
    a, b, c = found.x[:3]
    if abs(a * c) < 1e-6:
        return None, False
    inverse = np.array([[a * a, a * b], [a * b, b * b + c * c]])
    explained = 1 - 2 * found.cost / max(float(np.square(values - values.mean()).sum()), 1e-12)
    return np.linalg.inv(inverse), bool(explained >= _GOOD and np.abs(found.x[3:5]).max() < 1.5)


def _share(contrast: Numbers, windows: list[tuple[NDArray[np.intp], int]], threshold: Numbers) -> float:
    """Return the share of the light above the background that lies within the spots' windows."""
    light = np.where(contrast > threshold / 2, contrast, 0)
    inside = np.zeros(light.shape, bool)
    for (row, column), radius in windows:
        inside[row - radius : row + radius + 1, column - radius : column + radius + 1] = True
    return float(light[inside].sum() / max(float(light.sum()), 1e-30))
