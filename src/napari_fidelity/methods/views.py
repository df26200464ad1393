"""The eight flips and quarter turns of an image, and the average of a network over them.

A restoration network should not care which way up an image is; what changes from view to view is what it made
up. Averaging over the views (the geometric self-ensemble of Timofte 2016, doi:10.1109/CVPR.2016.206) keeps
what they agree on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_fidelity.core.errors import FidelityError
from napari_fidelity.core.lazy import torch
from napari_fidelity.methods.calls import call_operator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fidelity.methods.base import LinearOperator, Network
    from napari_fidelity.operators.local import Box

_SAME = 1e-4  # relative to the measurement: larger than rounding, smaller than any half-pixel shift

VIEWS = (0, 3, 5, 6, 1, 2, 4, 7)
"""The views in the order to go through them: as it is, half turn, quarter turns, then the mirrored ones."""


def to_view(x: torch.Tensor, view: int) -> torch.Tensor:
    """Flip and turn the last two axes: bit 0 flips rows, bit 1 flips columns, bit 2 swaps the axes."""
    axes = [axis for bit, axis in ((1, -2), (2, -1)) if view & bit]
    x = x.flip(axes) if axes else x
    return x.transpose(-2, -1) if view & 4 else x


def from_view(x: torch.Tensor, view: int) -> torch.Tensor:
    """Undo :func:`to_view`."""
    x = x.transpose(-2, -1) if view & 4 else x
    axes = [axis for bit, axis in ((1, -2), (2, -1)) if view & bit]
    return x.flip(axes) if axes else x


def commuting_views(operator: LinearOperator, y: torch.Tensor) -> list[int]:
    """Return the views in which an operator is the same, ``A V x = V A x``, as random data tell."""
    from napari_fidelity.methods._start import image_shape

    x = torch.randn(image_shape(y, operator), generator=torch.Generator().manual_seed(0)).to(y)
    seen = call_operator(operator, x)

    def commutes(view: int) -> bool:
        try:
            turned = call_operator(operator, to_view(x, view).contiguous())
        except FidelityError:
            return False
        wanted = to_view(seen, view)
        return turned.shape == wanted.shape and bool((turned - wanted).norm() <= _SAME * wanted.norm())

    return [view for view in VIEWS if commutes(view)]


def views_for(network: Network, operator: LinearOperator, y: torch.Tensor, count: int) -> Sequence[int]:
    """Return the first ``count`` views in which a network can look at a measurement.

    One that is told the operator would be told a wrong one in views with which that does not commute.
    """
    from napari_fidelity.networks.adapters import is_bound

    return (commuting_views(operator, y) if count > 1 and is_bound(network) else VIEWS)[:count]


def box_to_view(box: Box, shape: Sequence[int], view: int) -> Box:
    """Return where a part of an image of spatial shape ``(H, W)`` lies after :func:`to_view`."""
    rows, columns = _flipped(box, shape, view)
    return (columns, rows) if view & 4 else (rows, columns)


def box_from_view(box: Box, shape: Sequence[int], view: int) -> Box:
    """Undo :func:`box_to_view`; the shape is that before the view, too."""
    rows, columns = box
    return _flipped((columns, rows) if view & 4 else (rows, columns), shape, view)


def _flipped(box: Box, shape: Sequence[int], view: int) -> Box:
    rows, columns = (
        (n - stop, n - start) if view & bit else (start, stop)
        for bit, (start, stop), n in zip((1, 2), box, shape, strict=True)
    )
    return rows, columns
