"""Whether intervals and standard deviations have the size of the errors.

Pixels where one of the arrays is NaN are left out; a number that does not exist is NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_fidelity.core.errors import OptionError, ShapeError
from napari_fidelity.metrics.ranking import known, pair

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def coverage(lower: ArrayLike, upper: ArrayLike, truth: ArrayLike) -> float:
    """Share of the pixels whose true value lies within the interval, its ends included.

    Parameters
    ----------
    lower, upper, truth
        Of one shape and in the same units; infinite ends mean that nothing is claimed.

    Returns
    -------
    float
        0 … 1; NaN where nothing is known.
    """
    low, high, true = (np.asarray(a, np.float64) for a in (lower, upper, truth))
    if not low.shape == high.shape == true.shape or true.size == 0:
        raise ShapeError(
            "Both ends of an interval and the truth must have one shape, which is not empty",
            found=f"{low.shape}, {high.shape} and {true.shape}",
        )
    told = ~(np.isnan(low) | np.isnan(high) | np.isnan(true))
    inside = (low <= true) & (true <= high)
    return float(inside[told].mean()) if told.any() else math.nan


def width(lower: ArrayLike, upper: ArrayLike) -> float:
    """Mean width of intervals, in the image's units; NaN where nothing is known."""
    low, high = (np.asarray(a, np.float64) for a in (lower, upper))
    if low.shape != high.shape:
        raise ShapeError("The ends of an interval differ in shape", found=f"{low.shape} and {high.shape}")
    widths = (high - low)[~(np.isnan(low) | np.isnan(high))]
    return float(widths.mean()) if widths.size else math.nan


@dataclass(frozen=True, slots=True)
class Reliability:
    """Data of a reliability diagram: pixels in bins of as many pixels each, from certain to uncertain.

    Attributes
    ----------
    std
        Root mean square of the predicted standard deviations of each bin.
    error
        Root mean square of its errors: as large as ``std`` where the map is calibrated.
    count
        Its pixels.
    """

    std: NDArray[np.float64]
    error: NDArray[np.float64]
    count: NDArray[np.int64]

    @property
    def calibration_error(self) -> float:
        """Expected normalised calibration error: mean of ``|error - std| / std``; infinity where a std is 0."""
        if not self.count.size:
            return math.nan
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.abs(self.error - self.std) / self.std
        # certain, and right so
        relative = np.where((self.std == 0) & (self.error == 0), 0.0, relative)
        return float(np.average(relative, weights=self.count))


def reliability(std: ArrayLike, error: ArrayLike, *, bins: int = 10) -> Reliability:
    """Reliability diagram of a map of standard deviations.

    Parameters
    ----------
    std
        Predicted standard deviations, in the units of the error.
    error
        Estimate minus truth.
    bins
        At most so many; equal standard deviations share a bin.

    References
    ----------
    Levi et al. 2019, Evaluating and calibrating uncertainty prediction in regression tasks, arXiv:1905.11659.
    """
    if bins < 1:
        raise OptionError("A diagram needs 1 bin or more", found=str(bins))
    doubt, size = known(*pair(std, error))
    if not doubt.size:
        return Reliability(np.empty(0), np.empty(0), np.empty(0, np.int64))
    order = np.argsort(doubt, kind="stable")
    doubt, size = doubt[order], size[order]
    cuts = np.rint(np.linspace(0, doubt.size, min(bins, doubt.size) + 1)[:-1]).astype(int)
    # a bin begins with the first of equal values
    cuts = np.unique(np.searchsorted(doubt, doubt[cuts], side="left"))
    count = np.diff(np.append(cuts, doubt.size))
    predicted, found = (np.sqrt(np.add.reduceat(a**2, cuts) / count) for a in (doubt, size))
    return Reliability(predicted, found, count.astype(np.int64))
