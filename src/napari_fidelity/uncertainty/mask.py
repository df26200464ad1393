"""A map as the weights of the pixels in fine-tuning: what is uncertain counts less."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fidelity.core.errors import NonFiniteError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def mask_from(values: ArrayLike) -> NDArray[np.float32]:
    """Return the weights that a map stands for, for the option ``mask`` of :class:`FineTune`.

    A pixel counts by its inverse variance, ``1 / (1 + (u / m)²)`` with the map's median ``m``, so that the typical
    pixel has half the weight of one that is certain; divided by the largest. The map's unit does not matter.

    Masked fine-tuning is equation 2 of Lucas et al. 2020 (arXiv:1912.12879); maps of the variance as masks are
    proposed in its section VI.

    Parameters
    ----------
    values
        The map, of any shape; of a signed one the absolute values count.

    Returns
    -------
    numpy.ndarray
        Weights from 0 to 1, float32, of the same shape; 1 where the map is smallest, 0 where it is not finite.

    Raises
    ------
    NonFiniteError
        If no value is finite.
    """
    size = np.abs(np.asarray(values, np.float64))
    finite = np.isfinite(size)
    if not finite.any():
        raise NonFiniteError("A map without finite values weighs nothing", do="Choose another map")
    typical = float(np.median(size[finite])) or float(size[finite].max()) or 1.0
    weights = np.where(finite, 1 / (1 + (np.where(finite, size, 0) / typical) ** 2), 0)
    return np.asarray(weights / weights.max(), np.float32)
