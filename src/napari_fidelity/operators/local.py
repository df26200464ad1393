"""An operator on a window of the measurement, from that part of the image alone on which the window depends.

Exact, borders included: an axis matrix gives the rows and columns of the window, a kernel finds the samples that
stand for those beyond the border.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_fidelity.core.lazy import torch
from napari_fidelity.operators._axes import Chain, Convolve, border_index, chain_matrix
from napari_fidelity.operators.base import Operator
from napari_fidelity.operators.blur import ConvolutionOperator
from napari_fidelity.operators.compose import Compose
from napari_fidelity.operators.mask import Mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scipy.sparse import csr_array

    from napari_fidelity.operators.blur import Kernel

Interval = tuple[int, int]
Box = tuple[Interval, Interval]
"""Rows and columns, each from the first to before the last."""


class Stage(Protocol):
    """One linear map of images ``(N, C, H, W)`` that can be applied to windows."""

    def needs(self, box: Box) -> Box:
        """Return the part of its input on which a window of its output depends."""
        ...

    def apply(self, x: torch.Tensor, box: Box) -> torch.Tensor:
        """Return a window of its output from exactly that part of its input."""
        ...


@dataclass(frozen=True)
class LocalMap:
    """Stages, the first applied first."""

    stages: tuple[Stage, ...] = ()

    def needs(self, box: Box) -> Box:
        """Return the part of the image on which a window of the measurement depends."""
        for stage in reversed(self.stages):
            box = stage.needs(box)
        return box

    def apply(self, x: torch.Tensor, box: Box) -> torch.Tensor:
        """Return a window of the measurement from exactly that part of the image."""
        if not self.stages:
            return x
        *before, last = self.stages
        return last.apply(LocalMap(tuple(before)).apply(x, last.needs(box)), box)


@dataclass(frozen=True)
class Axes:
    """One chain of matrices per axis, for images of a spatial shape."""

    chains: tuple[Chain, ...]
    shape: tuple[int, ...]

    def needs(self, box: Box) -> Box:
        """See :class:`Stage`."""
        rows, columns = (
            _columns(chain, n, *part) if chain else part
            for chain, n, part in zip(self.chains, self.shape, box, strict=True)
        )
        return rows, columns

    def apply(self, x: torch.Tensor, box: Box) -> torch.Tensor:
        """See :class:`Stage`."""
        for dim, (chain, n, part) in enumerate(zip(self.chains, self.shape, box, strict=True), start=2):
            if chain:
                matrix = _part(chain, n, *part, x.dtype, x.device)
                x = torch.movedim(torch.tensordot(x, matrix, dims=([dim], [1])), -1, dim)
        return x


@dataclass(frozen=True)
class Multiply:
    """A factor for each sample, ``(H, W)`` or ``(N, 1, H, W)``."""

    factor: torch.Tensor

    def needs(self, box: Box) -> Box:
        """See :class:`Stage`."""
        return box

    def apply(self, x: torch.Tensor, box: Box) -> torch.Tensor:
        """See :class:`Stage`."""
        return x * cut(self.factor, box).to(x)


@dataclass(frozen=True)
class Kernelled:
    """Convolution with a kernel that does not separate, for images of a spatial shape."""

    kernel: Kernel
    border: str
    shape: tuple[int, ...]

    def needs(self, box: Box) -> Box:
        """See :class:`Stage`."""
        rows, columns = ((int(p.min()), int(p.max()) + 1) for p in self._positions(box))
        return rows, columns

    def apply(self, x: torch.Tensor, box: Box) -> torch.Tensor:
        """See :class:`Stage`."""
        from napari_fidelity.operators._convolve import convolve

        for dim, positions in enumerate(self._positions(box), start=2):
            index = torch.from_numpy(positions - positions.min()).to(x.device)
            x = x.index_select(dim, index)
        for dim, outside in enumerate(self._outside(box), start=2):
            if outside.any():  # nothing is there
                keep = torch.from_numpy(~outside).to(x)
                x = x * keep.reshape([-1 if axis == dim else 1 for axis in range(x.ndim)])
        return convolve(x, self.kernel, "valid")

    def _reach(self, box: Box) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
        """Return the samples along each axis that a window sees, beyond the borders too."""
        found = []
        for k, (start, stop) in zip(self.kernel.values.shape, box, strict=True):
            centre = k - 1 if self.border == "valid" else k // 2
            found.append(np.arange(start + centre - (k - 1), stop + centre))
        return found

    def _positions(self, box: Box) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
        """Return which samples stand for these; where nothing is, any."""
        return [
            border_index(p, n, "reflect") if self.border == "reflect" else p.clip(0, n - 1)
            for p, n in zip(self._reach(box), self.shape, strict=True)
        ]

    def _outside(self, box: Box) -> list[np.ndarray[tuple[int], np.dtype[np.bool_]]]:
        """Return for which of them nothing is there."""
        return [
            (p < 0) | (p >= n) if self.border == "zero" else np.zeros(len(p), bool)
            for p, n in zip(self._reach(box), self.shape, strict=True)
        ]


def local_map(operator: object, shape: Sequence[int]) -> LocalMap | None:
    """Return an operator as one that works on windows; ``None`` where a window depends on the whole image.

    That is so for line integrals, spatial frequencies and circular borders, and nothing is known of a foreign one.

    Parameters
    ----------
    operator
        Image formation model.
    shape
        Spatial shape ``(H, W)`` of the image.
    """
    if not isinstance(operator, Operator) or len(shape) != 2:
        return None
    shape = tuple(int(n) for n in shape)
    chains = operator.chains(2)
    if chains is not None:
        factors = [factor for chain in chains for factor in chain]
        circular = any(isinstance(factor, Convolve) and factor.border == "circular" for factor in factors)
        return None if circular else LocalMap((Axes(chains, shape),))
    if isinstance(operator, Mask):
        return LocalMap((Multiply(torch.from_numpy(operator.mask.copy())),))
    if isinstance(operator, ConvolutionOperator):
        if operator.border == "circular":
            return None
        return LocalMap((Kernelled(operator._kernel(2), operator.border, shape),))
    return _composed(operator, shape) if isinstance(operator, Compose) else None


def _composed(operator: Compose, shape: tuple[int, ...]) -> LocalMap | None:
    stages: list[Stage] = []
    for part in operator.operators:
        local = local_map(part, shape)
        if local is None:
            return None
        stages += local.stages
        shape = part.measurement_shape(shape)
    return LocalMap(tuple(stages))


def cut(x: torch.Tensor, box: Box) -> torch.Tensor:
    """Return a window of the last two axes; a view."""
    (top, bottom), (left, right) = box
    return x[..., top:bottom, left:right]


def relative(box: Box, origin: Box) -> Box:
    """Return a box counted from where another one begins."""
    (top, bottom), (left, right) = box
    (above, _), (before, _) = origin
    return (top - above, bottom - above), (left - before, right - before)


def beyond(box: Box, reach: Sequence[int], shape: Sequence[int]) -> Box:
    """Return a box with so many rows and columns more on each side, as far as the image goes."""
    rows, columns = (
        (max(0, start - more), min(n, stop + more))
        for (start, stop), more, n in zip(box, reach, shape, strict=True)
    )
    return rows, columns


@lru_cache(maxsize=64)
def _matrix(chain: Chain, n: int) -> csr_array:
    return chain_matrix(chain, n)


@lru_cache(maxsize=1024)
def _columns(chain: Chain, n: int, start: int, stop: int) -> Interval:
    """Return from which to before which sample an axis matrix has entries in some of its rows."""
    columns = _matrix(chain, n)[start:stop].indices
    return (int(columns.min()), int(columns.max()) + 1) if len(columns) else (0, 1)


@lru_cache(maxsize=128)
def _part(chain: Chain, n: int, start: int, stop: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    from napari_fidelity.operators._matrix import plain_tensor

    first, last = _columns(chain, n, start, stop)
    return plain_tensor(_matrix(chain, n)[start:stop, first:last].toarray(), dtype, device)
