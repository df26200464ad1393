"""The numbers behind conformal calibration: what a standard deviation map has to be multiplied with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.errors import NonFiniteError, OptionError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

LEVELS = np.concatenate(
    [np.arange(5, 80, 5) / 100, np.arange(320, 397) / 400, 1 - np.geomspace(0.0075, 1e-4, 9), [1.0]]
)
"""Coverages of the pixels of one image for which its factor is kept."""

_FLOOR = 0.05  # of the map's root mean square: a smaller standard deviation is not taken at its word


def believed(std: Any) -> Any:
    """Return a standard deviation map, array or tensor, without values that are too small to be believed."""
    return std.clip(float((std * std).mean()) ** 0.5 * _FLOOR, None)


def needed(estimate: NDArray[Any], std: NDArray[Any], truth: NDArray[Any]) -> Numbers:
    """Return for each of :data:`LEVELS` the smallest factor that covers this share of an image's pixels.

    Parameters
    ----------
    estimate, std, truth
        Of one shape; NaN in the truth marks pixels where it is not known.

    Raises
    ------
    ShapeError
        If the shapes differ or there is no truth.
    NonFiniteError
        If the estimate or the map holds NaN or infinity.
    """
    estimate, std, truth = (np.asarray(array, np.float64) for array in (estimate, std, truth))
    known = np.isfinite(truth)
    if not estimate.shape == std.shape == truth.shape or not known.any():
        raise ShapeError(
            "Estimate, map and truth must have one shape, and some of the truth be known",
            found=f"{estimate.shape}, {std.shape} and {truth.shape}",
        )
    if not (np.isfinite(estimate).all() and np.isfinite(std).all()):
        raise NonFiniteError("A calibration needs finite estimates and maps")
    error = np.abs(estimate - truth)[known]
    # a map of zeros covers exact pixels alone, whatever it is multiplied with
    scale = np.maximum(believed(std)[known], np.finfo(np.float32).tiny)
    with np.errstate(over="ignore"):
        ratio = np.sort(np.minimum(error / scale, float(np.finfo(np.float32).max)))
    ranks = np.ceil(LEVELS * ratio.size - 1e-9).astype(int) - 1
    found: Numbers = ratio[np.clip(ranks, 0, None)]
    return found


def covered(factors: NDArray[Any], factor: float) -> Numbers:
    """Return the share of each image's pixels that a factor covers, from below.

    Parameters
    ----------
    factors
        One row for each image: the factor that covers each of :data:`LEVELS`.
    factor
        What the map is multiplied with.
    """
    counts = (factors <= factor).sum(axis=1)
    shares: Numbers = np.concatenate([[0.0], LEVELS])[counts]
    return shares


def smallest_factor(factors: NDArray[Any], level: float, *, correct: bool) -> float:
    """Return the smallest factor with which at most ``1 − level`` of the pixels are not covered.

    Parameters
    ----------
    factors
        As for :func:`covered`.
    level
        Between 0 and 1.
    correct
        Whether the next image counts, as one of which nothing is covered.

    Raises
    ------
    OptionError
        If the level is none.
    """
    if not 0 < level < 1:
        raise OptionError("A level lies between 0 and 1", found=str(level))
    allowed = (1 - level) * (len(factors) + 1) - 1 if correct else (1 - level) * len(factors)
    candidates = np.unique(factors)
    low, high = 0, len(candidates) - 1  # with the largest one, nothing is missed
    while low < high:
        middle = (low + high) // 2
        missed = float((1 - covered(factors, candidates[middle])).sum())
        low, high = (low, middle) if missed <= allowed + 1e-9 else (middle + 1, high)
    return float(candidates[low])
