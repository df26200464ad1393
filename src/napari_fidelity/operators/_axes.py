"""What happens along one axis, as matrices: resampling and convolution. NumPy only.

A separable operator is one *chain* of such factors per axis, first applied first. Factors are small hashable
values, so that a chain and a size are all the key a cache needs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_fidelity.core.cubic import cubic
from napari_fidelity.core.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_array

Border = Literal["reflect", "circular", "zero", "valid"]

_ROUNDING = 1e-9  # n/scale and n·scale that should be whole numbers are, but for float rounding


@dataclass(frozen=True)
class Resample:
    """Antialiased bicubic downsampling by a factor of 1 or more; ``ceil(n / scale)`` samples."""

    scale: float

    def measurement_size(self, n: int) -> int:
        """Return the number of samples after."""
        return max(1, math.ceil(n / self.scale - _ROUNDING))

    def image_size(self, m: int) -> int:
        """Return the largest size that gives ``m`` samples."""
        # floor and not round: rounding up would give one sample more than m
        return math.floor(m * self.scale + _ROUNDING)

    def grid(self) -> tuple[float, float]:
        """Return scale and shift; see :class:`~napari_fidelity.operators.base.Grid`."""
        return self.scale, 0.0

    def matrix(self, n: int) -> csr_array:
        """Return the ``(m, n)`` matrix."""
        return cubic_matrix(n, self.measurement_size(n), self.scale)


@dataclass(frozen=True)
class Resize:
    """Bicubic resampling, up or down, to a given number of samples."""

    size: int

    def measurement_size(self, n: int) -> int:
        """Return the number of samples after."""
        return self.size

    def image_size(self, m: int) -> int:
        """Not defined: any size can be brought to ``m`` samples."""
        raise OperatorError("The size before a resize cannot be told from the size after it")

    def grid(self) -> tuple[float, float]:
        """Not defined, for the same reason."""
        raise OperatorError("The scale of a resize cannot be told from the size after it")

    def matrix(self, n: int) -> csr_array:
        """Return the ``(m, n)`` matrix."""
        return cubic_matrix(n, self.size, n / self.size)


@dataclass(frozen=True)
class Convolve:
    """Convolution with ``weights``, whose centre is sample ``len(weights) // 2``."""

    weights: tuple[float, ...]
    border: Border

    def measurement_size(self, n: int) -> int:
        """Return the number of samples after."""
        if self.border != "valid":
            return n
        if n < len(self.weights):
            raise kernel_too_large((len(self.weights),), (n,))
        return n - len(self.weights) + 1

    def image_size(self, m: int) -> int:
        """Return the number of samples before."""
        return m + len(self.weights) - 1 if self.border == "valid" else m

    def grid(self) -> tuple[float, float]:
        """Return scale and shift; see :class:`~napari_fidelity.operators.base.Grid`."""
        return 1.0, kernel_shift(np.asarray(self.weights), self.border)

    def matrix(self, n: int) -> csr_array:
        """Return the ``(m, n)`` matrix."""
        m, k = self.measurement_size(n), len(self.weights)
        # y[i] = Σ_j w[j] x[i + centre − j]
        centre = _centre(k, self.border)
        columns = np.arange(m)[:, None] + centre - np.arange(k)[None, :]
        return _from_taps(np.broadcast_to(self.weights, columns.shape), columns, n, self.border)


Factor = Resample | Resize | Convolve
Chain = tuple[Factor, ...]


def chain_sizes(chain: Chain, n: int) -> int:
    """Return the number of samples an axis of ``n`` has after the chain."""
    for factor in chain:
        n = factor.measurement_size(n)
    return n


def chain_image_size(chain: Chain, m: int) -> int:
    """Return the number of samples before the chain when there are ``m`` after it."""
    for factor in reversed(chain):
        m = factor.image_size(m)
    return m


def chain_grid(chain: Chain) -> tuple[float, float]:
    """Return scale and shift of an axis; see :class:`~napari_fidelity.operators.base.Grid`."""
    scale, shift = 1.0, 0.0
    for factor in chain:
        finer, moved = factor.grid()
        scale, shift = scale * finer, shift / finer + moved
    return scale, shift


def kernel_shift(weights: NDArray[np.floating[Any]], border: Border) -> float:
    """Return by how many samples a convolution along one axis moves what it blurs.

    A point becomes the kernel, whose centre of mass need not be its centre: it lies half a sample before that in
    an even, symmetric kernel. A kernel without a centre of mass of its own (a derivative, say) counts as centred.
    """
    centre = _centre(len(weights), border)
    total = float(weights.sum())
    if abs(total) > 1e-6 * float(np.abs(weights).sum()):
        mean = float(np.arange(len(weights)) @ weights) / total
        if 0 <= mean <= len(weights) - 1:
            return round(mean - centre, 9) + 0.0  # no -0.0
    return len(weights) // 2 - centre + 0.0


def _centre(k: int, border: Border) -> int:
    """Return which of ``k`` kernel samples lies on the sample with the same number as the result's."""
    # a valid convolution starts where all samples exist
    return k - 1 if border == "valid" else k // 2


def chain_matrix(chain: Chain, n: int) -> csr_array:
    """Return the product of the chain's matrices for an axis of ``n`` samples, in float64."""
    product = chain[0].matrix(n)
    for factor in chain[1:]:
        product = factor.matrix(product.shape[0]) @ product
    return product


def border_index(position: NDArray[np.int64], n: int, border: Border) -> NDArray[np.int64]:
    """Return the samples that stand for ``position`` beyond ``0..n-1`` (``reflect`` or ``circular``)."""
    if border == "circular":
        return position % n
    # half-sample symmetric, period 2n: ... 1 0 | 0 1 ... n-1 | n-1 n-2 ...
    folded = position % (2 * n)
    return np.minimum(folded, 2 * n - 1 - folded)


def cubic_matrix(n: int, m: int, scale: float) -> csr_array:
    """Return MATLAB's ``imresize`` bicubic from ``n`` to ``m`` samples, ``scale`` input samples apart.

    Cubic convolution (a = -0.5), stretched by ``scale`` where that is above 1 (antialiasing), half-sample
    symmetric border, every row normalised to sum 1. ``m`` rows, ``n`` columns.
    """
    stretch = max(scale, 1.0)
    centre = (np.arange(m) + 0.5) * scale - 0.5
    taps = math.ceil(4 * stretch) + 2
    columns = np.floor(centre - 2 * stretch).astype(np.int64)[:, None] + np.arange(taps)[None, :]
    weights = cubic((centre[:, None] - columns) / stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    return _from_taps(weights, columns, n, "reflect")


def kernel_too_large(kernel: Sequence[int], image: Sequence[int]) -> OperatorError:
    """Return the error for a kernel that is larger than the image."""
    return OperatorError(
        "The blur kernel is larger than the image",
        found=f"a kernel of {tuple(kernel)} on an image of {tuple(image)}",
        do="Use a smaller kernel or a larger image",
    )


def _from_taps(weights: NDArray[np.float64], columns: NDArray[np.int64], n: int, border: Border) -> csr_array:
    from scipy.sparse import coo_array

    rows = np.broadcast_to(np.arange(len(columns))[:, None], columns.shape)
    keep = weights != 0
    if border == "zero":
        keep = keep & (columns >= 0) & (columns < n)
    elif border in ("reflect", "circular"):
        columns = border_index(columns, n, border)
    entries = (weights[keep], (rows[keep], columns[keep]))
    return coo_array(entries, shape=(len(columns), n)).tocsr()  # adds up what the border folds together
