"""Whether a map of uncertainty orders the errors: rank correlation and sparsification.

Maps and errors are arrays of one shape, ``(H, W)`` or ``(H, W, C)`` (volumes: ``spatial_dims=3``). The sign of an
error does not matter. Pixels where one of the two is NaN are left out; infinity is refused. A number that does not
exist, such as the rank correlation of a constant, is NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_fidelity.core.errors import NonFiniteError, OptionError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

BLOCK = 8
Measure = Literal["mae", "rmse"]


def spearman(
    map: ArrayLike, error: ArrayLike, *, block: int | None = None, spatial_dims: Literal[2, 3] = 2
) -> float:
    """Rank correlation of a map with the size of the error; ties have their mean rank.

    Parameters
    ----------
    map
        Larger where it is less certain.
    error
        Of the same shape: estimate minus truth, or its absolute value.
    block
        Edge of square blocks (cubes) whose means are compared; of single pixels if left out. Blocks at the far
        edges are as large as there are pixels.
    spatial_dims
        3 for volumes; for the blocks only.

    Returns
    -------
    float
        -1 … 1; NaN where one of the two is constant or fewer than two pixels are known.

    Raises
    ------
    ShapeError
        If the shapes differ or are empty.
    NonFiniteError
        If one of the two holds infinity.
    OptionError
        If ``block`` is not positive.
    """
    doubt, size = pair(map, error)
    if block is not None:
        both = np.isfinite(doubt) & np.isfinite(size)
        doubt, size = (
            block_mean(np.where(both, a, np.nan), block, spatial_dims=spatial_dims) for a in (doubt, size)
        )
    doubt, size = known(doubt, size)
    return rank_correlation(doubt, size)


def block_mean(image: ArrayLike, block: int = BLOCK, *, spatial_dims: Literal[2, 3] = 2) -> NDArray[np.float64]:
    """Means of square blocks (cubes) of an image ``(H, W)``, ``(H, W, C)`` or volume, without its NaN.

    Returns
    -------
    numpy.ndarray
        ``ceil(H / block)`` by ``ceil(W / block)``; NaN for a block of which nothing is known.
    """
    if block < 1:
        raise OptionError("A block must have 1 pixel or more along each axis", found=str(block))
    values = np.asarray(image, np.float64)
    if values.ndim < spatial_dims or values.size == 0:
        raise ShapeError(f"An image with {spatial_dims} spatial axes is needed", found=f"shape {values.shape}")
    finite = np.isfinite(values)
    sums, counts = np.where(finite, values, 0.0), finite.astype(np.float64)
    for axis in range(spatial_dims):
        starts = np.arange(0, values.shape[axis], block)
        sums, counts = (np.add.reduceat(a, starts, axis=axis) for a in (sums, counts))
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


@dataclass(frozen=True, slots=True)
class Sparsification:
    """The error of what is left when the least certain pixels are taken away.

    Attributes
    ----------
    removed
        Share of the pixels taken away, from 0 to 1 (a single pixel is left).
    error
        Error of the rest, in units of that of the whole image.
    oracle
        The same when the pixels with the largest errors are taken away first: the least there can be.
    """

    removed: NDArray[np.float64]
    error: NDArray[np.float64]
    oracle: NDArray[np.float64]

    @property
    def ause(self) -> float:
        """Area between the two curves: 0 for a map that orders the errors perfectly."""
        from scipy.integrate import trapezoid

        return float(trapezoid(self.error - self.oracle, self.removed))


def sparsification(
    map: ArrayLike, error: ArrayLike, *, measure: Measure = "mae", points: int = 101
) -> Sparsification:
    """Sparsification curve of a map; of equal values of the map none is taken away before the others.

    Parameters
    ----------
    map, error
        As for :func:`spearman`.
    measure
        Mean absolute error, or root mean square error.
    points
        Of the curve.

    Returns
    -------
    Sparsification
        NaN where there is no error at all, or nothing is known.

    References
    ----------
    Ilg et al. 2018, Uncertainty estimates and multi-hypotheses networks for optical flow, arXiv:1802.07095.
    """
    if points < 2:
        raise OptionError("A curve needs 2 points or more", found=str(points))
    if measure not in ("mae", "rmse"):
        raise OptionError("measure must be mae or rmse", found=repr(measure))
    doubt, size = known(*pair(map, error))
    removed = np.linspace(0, 1, points)
    cost = size**2 if measure == "rmse" else size
    if not cost.size or not cost.any():
        return Sparsification(removed, *(np.full(points, np.nan) for _ in range(2)))
    kept = np.maximum(1, np.rint((1 - removed) * cost.size)).astype(int)
    curves = []
    for order in (doubt, cost):
        means = np.cumsum(_expected(order, cost))[kept - 1] / kept / cost.mean()
        curves.append(np.sqrt(means) if measure == "rmse" else means)
    return Sparsification(removed, *curves)


def ause(map: ArrayLike, error: ArrayLike, *, measure: Measure = "mae") -> float:
    """Area under the sparsification error (:attr:`Sparsification.ause`), in units of the image's error.

    It is 0 for the perfect order; compare it with that of other maps of the same image, such as
    :func:`control_map`. Parameters as for :func:`sparsification`.
    """
    return sparsification(map, error, measure=measure).ause


def pair(map: ArrayLike, error: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a map and the size of its error as finite numbers or NaN, or refuse them by name."""
    doubt, size = np.asarray(map, np.float64), np.abs(np.asarray(error, np.float64))
    if doubt.shape != size.shape or doubt.size == 0:
        raise ShapeError(
            "A map and the error must have one shape, which is not empty", found=f"{doubt.shape} and {size.shape}"
        )
    if np.isinf(doubt).any() or np.isinf(size).any():
        raise NonFiniteError("A map and its error need finite numbers, or NaN where nothing is known")
    return doubt, size


def known(*arrays: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return the values of arrays of one shape where all of them are known."""
    both = np.logical_and.reduce([np.isfinite(a) for a in arrays])
    return [a[both] for a in arrays]


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Rank correlation of two lists of finite numbers; NaN where one of them is constant."""
    from scipy.stats import rankdata

    if a.size < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    first, second = (rank - rank.mean() for rank in (rankdata(a), rankdata(b)))
    return float(np.clip(first @ second / math.sqrt((first @ first) * (second @ second)), -1, 1))


def _expected(order: NDArray[np.float64], cost: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the costs in ascending order of another quantity, each the mean of those that are tied there."""
    by = np.argsort(order, kind="stable")
    _, starts, count = np.unique(order[by], return_index=True, return_counts=True)
    return np.repeat(np.add.reduceat(cost[by], starts) / count, count)
