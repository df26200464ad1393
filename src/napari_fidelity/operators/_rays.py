"""Line integrals along parallel rays as sparse matrices, cached.

A detector sees the mean over its width, row of pixels by row (column by column, if rays are nearer to horizontal):
the distance-driven model of De Man and Basu 2004, doi:10.1088/0031-9155/49/11/024. Both ways are even: what each
pixel gives to all detectors is the same at all angles, which rays without a width do not keep. The matrix of rays
and its transpose are both kept, so that either product adds in a fixed order. Rays at an angle of more than 45° to
the columns are those of an image that is transposed or turned upside down: evenly spread angles share one matrix
among four.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from napari_fidelity.core.device import free_memory
from napari_fidelity.core.errors import MemoryNeededError
from napari_fidelity.operators._autograd import own_precision
from napari_fidelity.operators._matrix import plain_tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scipy.sparse import csr_array

_PIXELS = 3  # of a row that a detector can see: it is √2 pixels wide there at most
_ROUNDING = 1e-12  # parts of a pixel that are none
_SMALL = 1 << 26  # bytes that are not worth asking for


class _Folded(NamedTuple):
    """An angle as one between 0° and 45° of an image that is first transposed, then turned upside down."""

    degrees: float
    variant: tuple[bool, bool]  # transposed, upside down
    reverse: bool  # the detectors count from the other end


class _Sparse(NamedTuple):
    """A sparse matrix by rows, in the form that ``embedding_bag`` reads."""

    columns: torch.Tensor
    starts: torch.Tensor  # where each row begins, and where the last one ends
    values: torch.Tensor

    def times(self, dense: torch.Tensor) -> torch.Tensor:
        """Multiply a dense matrix.

        A bag is a row: faster than torch's sparse matrices, in any precision, with 32-bit indices, and always
        added in the same order.
        """
        return torch.nn.functional.embedding_bag(
            self.columns,
            dense.contiguous(),
            self.starts,
            mode="sum",
            per_sample_weights=self.values,
            include_last_offset=True,
        )


@dataclass(frozen=True)
class _Group:
    """The angles that use the same variants of the image."""

    variants: tuple[tuple[bool, bool], ...]
    angles: int  # of each variant
    rays: _Sparse  # (angles · detectors, pixels)
    transposed: _Sparse

    @property
    def slots(self) -> int:
        return self.angles * len(self.variants)

    def project(self, x: torch.Tensor) -> torch.Tensor:
        """Take images ``(N, n, n)`` to ``(N, slots, detectors)``."""
        variants = torch.stack([_turned(x, v).flatten(1) for v in self.variants])  # (variants, N, pixels)
        found = self.rays.times(variants.flatten(0, 1).T)
        shape = (self.angles, -1, len(self.variants), len(x))
        return found.reshape(shape).permute(3, 0, 2, 1).flatten(1, 2)

    def spread(self, y: torch.Tensor, size: int) -> torch.Tensor:
        """Take ``(N, slots, detectors)`` to images ``(N, n, n)``: the transpose of :meth:`project`."""
        shape = (len(y), self.angles, len(self.variants), -1)
        columns = y.reshape(shape).permute(1, 3, 2, 0).flatten(0, 1).flatten(1)
        images = self.transposed.times(columns).T.reshape(len(self.variants), len(y), size, size)
        return sum((_turned_back(x, v) for x, v in zip(images, self.variants, strict=True)), start=y.new_zeros(()))


@dataclass(frozen=True)
class Rays:
    """The rays of all angles through an image of ``size × size`` pixels."""

    size: int
    groups: tuple[_Group, ...]
    slots: torch.Tensor  # of each angle, among those of all groups
    angles: torch.Tensor  # of each slot
    reverse: torch.Tensor  # (angles, 1)

    def project(self, x: torch.Tensor) -> torch.Tensor:
        """Take images ``(N, C, n, n)`` to line integrals ``(N, C, angles, detectors)``."""
        with own_precision(x):
            flat = x.flatten(0, 1).to(self.groups[0].rays.values.dtype)
            y = torch.cat([group.project(flat) for group in self.groups], 1)[:, self.slots]
            y = torch.where(self.reverse, y.flip(-1), y)
        return y.reshape(*x.shape[:2], *y.shape[1:]).to(x.dtype)

    def spread(self, y: torch.Tensor) -> torch.Tensor:
        """Take line integrals ``(N, C, angles, detectors)`` back along their rays: the transpose."""
        with own_precision(y):
            flat = y.flatten(0, 1).to(self.groups[0].rays.values.dtype)
            flat = torch.where(self.reverse, flat.flip(-1), flat)[:, self.angles]
            parts = torch.split(flat, [group.slots for group in self.groups], 1)
            images = [group.spread(part, self.size) for group, part in zip(self.groups, parts, strict=True)]
            x = torch.stack(images).sum(0) if len(images) > 1 else images[0]
        return x.reshape(*y.shape[:2], *x.shape[1:]).to(y.dtype)


@lru_cache(maxsize=2)
def rays(degrees: tuple[float, ...], size: int, detectors: int, dtype: torch.dtype, device: torch.device) -> Rays:
    """Return the rays at some angles through an image of ``size × size`` pixels.

    Raises
    ------
    MemoryNeededError
        If there is not enough memory for them.
    """
    folded = [_fold(angle) for angle in degrees]
    groups = _grouped(folded)
    _check_memory(sum(len(members) for members in groups.values()) * detectors * size, dtype, device)
    made, order = [], []
    for variants, members in groups.items():
        matrix = _matrix([angle for angle, _ in members], size, detectors)
        parts = (_on_device(matrix, dtype, device), _on_device(matrix.T.tocsr(), dtype, device))
        made.append(_Group(variants, len(members), *parts))
        order += [index for _, indices in members for index in indices]
    angles = np.array(order)
    reverse = torch.tensor([[f.reverse] for f in folded], device=device)
    slots = torch.from_numpy(np.argsort(angles)).to(device)
    return Rays(size, tuple(made), slots, torch.from_numpy(angles).to(device), reverse)


def _fold(degrees: float) -> _Folded:
    reverse = degrees % 360 >= 180
    angle = degrees % 180
    if angle <= 45:
        return _Folded(angle, (False, False), reverse)
    if angle < 135:
        return _Folded(abs(90 - angle), (True, angle > 90), not reverse)
    return _Folded(180 - angle, (False, True), not reverse)


def _grouped(
    folded: Sequence[_Folded],
) -> dict[tuple[tuple[bool, bool], ...], list[tuple[float, list[int]]]]:
    """Return, for each set of variants, the folded angles that occur in them, with the indices of the angles."""
    seen: dict[tuple[float, tuple[bool, bool]], int] = defaultdict(int)
    together: dict[tuple[float, int], dict[tuple[bool, bool], int]] = defaultdict(dict)
    for index, fold in enumerate(folded):
        angle = round(fold.degrees, 9)  # 90 - 89.1 is not 0.9
        # an angle that is there twice, or from the other side, gets rays of its own
        repeat = seen[angle, fold.variant]
        seen[angle, fold.variant] += 1
        together[angle, repeat][fold.variant] = index
    groups: dict[tuple[tuple[bool, bool], ...], list[tuple[float, list[int]]]] = defaultdict(list)
    for (angle, _), members in together.items():
        variants = tuple(sorted(members))
        groups[variants].append((angle, [members[v] for v in variants]))
    return groups


def _matrix(degrees: Sequence[float], size: int, detectors: int) -> csr_array:
    """Return the ``(angles · detectors, size²)`` matrix of rays at angles between 0° and 45°."""
    from scipy.sparse import csr_array, vstack

    return vstack([csr_array(_one_angle(np.deg2rad(angle), size, detectors)) for angle in degrees], format="csr")


def _one_angle(angle: float, size: int, detectors: int) -> csr_array:
    from scipy.sparse import csr_array

    middle = (size - 1) / 2
    row = np.arange(size) - middle
    edge = np.arange(detectors + 1) - detectors / 2
    # where the edge ``s`` of a detector is seen in row ``y``, if pixel ``j`` reaches from j to j + 1
    seen = edge[:, None] / np.cos(angle) + row * np.tan(angle) + middle + 0.5
    left, right = seen[:-1, :, None], seen[1:, :, None]
    columns = np.floor(left).astype(np.int32) + np.arange(_PIXELS, dtype=np.int32)
    # the mean over the detector, times the way from row to row: 1 / cos of both cancel
    values = np.minimum(right, columns + 1) - np.maximum(left, columns)
    inside = (columns >= 0) & (columns < size) & (values > _ROUNDING)
    starts = np.concatenate([[0], np.cumsum(inside.sum((1, 2)))])
    pixels = columns + size * np.arange(size, dtype=np.int32)[:, None]
    return csr_array((values[inside], pixels[inside], starts), shape=(detectors, size**2))


def _on_device(matrix: csr_array, dtype: torch.dtype, device: torch.device) -> _Sparse:
    kind = np.int32 if matrix.nnz < np.iinfo(np.int32).max else np.int64
    with torch.inference_mode(False):
        columns, starts = (
            torch.from_numpy(array.astype(kind)).to(device) for array in (matrix.indices, matrix.indptr)
        )
    return _Sparse(columns, starts, plain_tensor(matrix.data, dtype, device))


def _check_memory(crossings: int, dtype: torch.dtype, device: torch.device) -> None:
    """Raise unless there is memory to make a matrix of that many rays through a row, and for its transpose."""
    entries = 2.2 * crossings  # 1 + 1 / cos on average
    needed = entries * (2 * (4 + dtype.itemsize) + 40)
    free = free_memory(device)
    if needed > _SMALL and free is not None and needed > free:
        raise MemoryNeededError(
            f"The rays through the image need about {needed / 1e9:.1f} GB of memory",
            found=f"{free / 1e9:.1f} GB free on {device}",
            do="Use fewer angles or detectors, or bin the measurement",
        )


def _turned(x: torch.Tensor, variant: tuple[bool, bool]) -> torch.Tensor:
    transposed, upside_down = variant
    x = x.mT if transposed else x
    return x.flip(-2) if upside_down else x


def _turned_back(x: torch.Tensor, variant: tuple[bool, bool]) -> torch.Tensor:
    transposed, upside_down = variant
    x = x.flip(-2) if upside_down else x
    return x.mT if transposed else x
