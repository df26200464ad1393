"""A map beside the control, which finds nothing but edges."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_fidelity.core.errors import NonFiniteError, OptionError, ShapeError
from napari_fidelity.metrics.ranking import BLOCK, ause, known, pair, rank_correlation, spearman

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def control_map(image: ArrayLike, *, sigma: float = 1.0, spatial_dims: Literal[2, 3] = 2) -> NDArray[np.float64]:
    """Local gradient magnitude of an image: the map that knows nothing but edges, to judge others beside.

    Parameters
    ----------
    image
        ``(H, W)``, ``(H, W, C)`` or a volume; every channel for itself.
    sigma
        Width of the Gaussian whose derivatives are taken, in pixels.
    spatial_dims
        3 for volumes.

    Returns
    -------
    numpy.ndarray
        Of the same shape, per pixel; NaN where the image is NaN.
    """
    from scipy.ndimage import gaussian_gradient_magnitude

    values = np.asarray(image, np.float64)
    if values.ndim not in (spatial_dims, spatial_dims + 1) or values.size == 0:
        raise ShapeError(f"An image with {spatial_dims} spatial axes is needed", found=f"shape {values.shape}")
    if np.isinf(values).any():
        raise NonFiniteError("A map needs finite numbers, or NaN where nothing is known", found="infinity")
    if not (math.isfinite(sigma) and sigma > 0):
        raise OptionError("sigma must be a positive number of pixels", found=str(sigma))
    finite = np.isfinite(values)
    filled = np.where(finite, values, values[finite].mean() if finite.any() else 0.0)
    channels = filled.reshape(*filled.shape[:spatial_dims], -1)
    edges = [
        gaussian_gradient_magnitude(channels[..., i], sigma, mode="nearest") for i in range(channels.shape[-1])
    ]
    return np.where(finite, np.stack(edges, axis=-1).reshape(values.shape), np.nan)


@dataclass(frozen=True, slots=True)
class MapScore:
    """The numbers of a map beside those of the control, which finds nothing but edges.

    Attributes
    ----------
    spearman, spearman_block, ause
        Of the map: rank correlation with the size of the error by pixel and by block, area under the
        sparsification error.
    control_spearman, control_spearman_block, control_ause
        The same of :func:`control_map`.
    alike
        Rank correlation of map and control by pixel: near 1 for a map that finds nothing but edges.
    beyond
        Rank correlation of map and error by pixel with the control held fixed (partial correlation of the ranks):
        what the map knows beyond edges.
    """

    spearman: float
    spearman_block: float
    ause: float
    control_spearman: float
    control_spearman_block: float
    control_ause: float
    alike: float
    beyond: float

    def to_plain(self) -> dict[str, float | None]:
        """Return the numbers by name; ``None`` for those that do not exist."""
        return {name: None if math.isnan(value) else value for name, value in asdict(self).items()}


def evaluate_map(
    map: ArrayLike, error: ArrayLike, image: ArrayLike, *, block: int = BLOCK, spatial_dims: Literal[2, 3] = 2
) -> MapScore:
    """Judge a map by the true error, beside the control map of the image.

    Parameters
    ----------
    map, error
        As for :func:`spearman`.
    image
        The estimate that the map is of; its local gradient is the control. Of the same shape, or with a channel
        axis more where map and error have one number for each pixel: the control is then the root mean square over
        the channels.
    block
        Edge of the blocks.
    spatial_dims
        3 for volumes.
    """
    doubt, size = pair(map, error)
    control = control_map(image, spatial_dims=spatial_dims)
    if control.ndim == doubt.ndim + 1:
        control = np.sqrt(np.mean(control**2, axis=-1))
    control, _ = pair(control, error)
    everywhere = np.isfinite(doubt) & np.isfinite(size) & np.isfinite(control)
    doubt, size, control = (np.where(everywhere, a, np.nan) for a in (doubt, size, control))
    own, other = (_numbers(a, size, block, spatial_dims) for a in (doubt, control))
    alike = rank_correlation(*known(doubt, control))
    return MapScore(*own, *other, alike, _partial(own[0], other[0], alike))


def _numbers(
    doubt: NDArray[np.float64], size: NDArray[np.float64], block: int, spatial_dims: Literal[2, 3]
) -> tuple[float, float, float]:
    by_block = spearman(doubt, size, block=block, spatial_dims=spatial_dims)
    return spearman(doubt, size), by_block, ause(doubt, size)


def _partial(map_error: float, control_error: float, alike: float) -> float:
    """Return the correlation of map and error with the control held fixed."""
    free = (1 - control_error**2) * (1 - alike**2)
    if math.isnan(free) or free <= 1e-12:
        return math.nan
    return float(np.clip((map_error - control_error * alike) / math.sqrt(free), -1, 1))
