"""Axis matrices as tensors: dense or banded, with their eigendecompositions, cached."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from napari_fidelity.operators._autograd import linear_map, own_precision
from napari_fidelity.operators._axes import Chain, chain_matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_array


def _blocking(device: torch.device) -> tuple[int, int]:
    """Return the samples from which an axis is applied in blocks of rows, and the rows of a block.

    Measured on one CPU core, float32, ×4 and ×2 downsampling and Gaussian blur of 256² to 2048²: blocks of 32 rows
    gain a factor 2 at 512 samples and 10 at 2048, nothing at 256. A GPU prefers few large products.
    """
    return (384, 32) if device.type == "cpu" else (4096, 512)


class _Block(NamedTuple):
    rows: tuple[int, int]
    columns: tuple[int, int]
    values: torch.Tensor  # (rows, columns)


@dataclass(frozen=True)
class AxisMatrix:
    """An ``(m, n)`` matrix as one dense block, or as row blocks that leave out the zeros beside the band."""

    shape: tuple[int, int]
    blocks: tuple[_Block, ...]

    def apply(self, x: torch.Tensor, dim: int) -> torch.Tensor:
        """Multiply along axis ``dim`` of ``n`` samples."""
        return linear_map(x, lambda t: self._forward(t, dim), lambda t: self._backward(t, dim))

    def apply_transposed(self, y: torch.Tensor, dim: int) -> torch.Tensor:
        """Multiply by the transpose along axis ``dim`` of ``m`` samples."""
        return linear_map(y, lambda t: self._backward(t, dim), lambda t: self._forward(t, dim))

    def _forward(self, x: torch.Tensor, dim: int) -> torch.Tensor:
        if len(self.blocks) == 1:
            return _multiply(self.blocks[0].values, x, dim)
        parts = [_multiply(b.values, x.narrow(dim, b.columns[0], _extent(b.columns)), dim) for b in self.blocks]
        return torch.cat(parts, dim)

    def _backward(self, y: torch.Tensor, dim: int) -> torch.Tensor:
        if len(self.blocks) == 1:
            return _multiply(self.blocks[0].values.T, y, dim)
        shape = list(y.shape)
        shape[dim] = self.shape[1]
        out = y.new_zeros(shape)
        for b in self.blocks:
            part = _multiply(b.values.T, y.narrow(dim, b.rows[0], _extent(b.rows)), dim)
            out.narrow(dim, b.columns[0], _extent(b.columns)).add_(part)
        return out


class Spectrum(NamedTuple):
    """``M Mᵀ = U diag(values) Uᵀ`` of one axis matrix ``M (m, n)``."""

    values: torch.Tensor  # (m,)
    analysis: torch.Tensor  # Uᵀ (m, m)
    synthesis: torch.Tensor  # Mᵀ U (n, m)

    def analyse(self, y: torch.Tensor, dim: int) -> torch.Tensor:
        """Return ``Uᵀ y`` along ``dim``."""
        return _multiply(self.analysis, y, dim)

    def synthesise(self, z: torch.Tensor, dim: int) -> torch.Tensor:
        """Return ``Mᵀ U z`` along ``dim``."""
        return _multiply(self.synthesis, z, dim)


@lru_cache(maxsize=32)
def axis_matrix(chain: Chain, n: int, dtype: torch.dtype, device: torch.device) -> AxisMatrix:
    """Return the matrix of ``chain`` on an axis of ``n`` samples."""
    matrix = chain_matrix(chain, n)
    m = matrix.shape[0]
    limit, rows = _blocking(device)
    if max(m, n) < limit:
        rows = m
    blocks = []
    for start in range(0, m, rows):
        stop = min(start + rows, m)
        first, last = _column_range(matrix, start, stop) if rows < m else (0, n)
        values = matrix[start:stop, first:last].toarray()
        blocks.append(_Block((start, stop), (first, last), plain_tensor(values, dtype, device)))
    return AxisMatrix((m, n), tuple(blocks))


@lru_cache(maxsize=8)
def axis_spectrum(chain: Chain, n: int, dtype: torch.dtype, device: torch.device) -> Spectrum:
    """Return the eigendecomposition of ``M Mᵀ``, computed in float64."""
    matrix = chain_matrix(chain, n)
    values, vectors = np.linalg.eigh((matrix @ matrix.T).toarray())
    parts = (np.maximum(values, 0), vectors.T, matrix.T @ vectors)
    return Spectrum(*(plain_tensor(part, dtype, device) for part in parts))


def plain_tensor(values: NDArray[np.floating[Any]], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Copy an array into a tensor that autograd accepts later, whatever mode is on now."""
    # A cache filled under inference mode would hold tensors that autograd refuses later.
    with torch.inference_mode(False):
        return torch.from_numpy(np.array(values, order="C")).to(dtype).to(device)


def _column_range(matrix: csr_array, start: int, stop: int) -> tuple[int, int]:
    columns = matrix.indices[matrix.indptr[start] : matrix.indptr[stop]]
    return (int(columns.min()), int(columns.max()) + 1) if len(columns) else (0, 1)


def _extent(interval: tuple[int, int]) -> int:
    return interval[1] - interval[0]


def _multiply(matrix: torch.Tensor, x: torch.Tensor, dim: int) -> torch.Tensor:
    """Multiply ``matrix (m, n)`` along axis ``dim`` of ``x``, without transposing ``x``."""
    before, after = x.shape[:dim], x.shape[dim + 1 :]
    inner = math.prod(after)
    with own_precision(x):
        if inner == 1:
            flat = x.reshape(-1, x.shape[dim]) @ matrix.T
        else:
            flat = torch.matmul(matrix, x.reshape(-1, x.shape[dim], inner))
    return flat.reshape(*before, matrix.shape[0], *after)


@dataclass(frozen=True, eq=False)
class Held:
    """An array held by an operator; compared by identity, so that caches can key on it."""

    values: NDArray[np.floating[Any]]


@lru_cache(maxsize=16)
def held_tensor(held: Held, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return the array as a tensor, converted once per dtype and device."""
    return plain_tensor(held.values, dtype, device)
