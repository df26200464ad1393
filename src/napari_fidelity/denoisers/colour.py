"""Colour as luminance and two differences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from napari_fidelity.core.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

_COLOURS = (
    (1, 1, 1),
    (1, 0, -1),
    (1, -2, 1),
)  # shares of red, green and blue, each row yet to be given the length 1


def opponent(x: Tensor) -> Tensor:
    """Return images ``(N, 3, *spatial)`` in the orthonormal opponent colours of BM3D; others as they are.

    Most of the image is in the first channel then, while white noise keeps its level in all of them.
    """
    return x if x.shape[1] != 3 else torch.einsum("dc,nc...->nd...", _matrix(x), x)


def from_opponent(x: Tensor) -> Tensor:
    """Undo :func:`opponent`."""
    return x if x.shape[1] != 3 else torch.einsum("dc,nd...->nc...", _matrix(x), x)


def _matrix(like: Tensor) -> Tensor:
    rows = [[value / math.hypot(*row) for value in row] for row in _COLOURS]
    return torch.tensor(rows, dtype=like.dtype, device=like.device)
