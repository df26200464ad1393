"""How far the border of a tile reaches into what a network makes of it."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_fidelity.methods.last_layer import Pass

log = logging.getLogger(__name__)

FADE = 32
"""Margin of tiles that are blended, in pixels of the input."""
_FRAMES = 8  # of a batch, that are looked at
_SEEN = 2e-5  # of the range: thirty times less than what is to be seen of a seam
_RESERVE = 1.25  # another part of the image may show more of a border


@torch.no_grad()
def measured_margin(
    run: Callable[[torch.Tensor], Pass], y: torch.Tensor, align: int, side: int = 128
) -> int | None:
    """Return from which distance on a cut through the input makes no difference, in pixels of the input.

    The network is run on the part of the input with most detail and on one half of it, once for each axis.
    ``None`` where the difference never dies: the network looks at all of what it is shown.

    Parameters
    ----------
    run
        The network, in float32: coarser arithmetic would drown what is looked for.
    y
        Its input ``(N, C, H, W)``.
    align
        The cuts lie at multiples of this.
    side
        Of the part that is looked at.
    """
    part = _detailed(y[:_FRAMES], align, side)
    whole = run(part)
    margin = 0
    for dim in (2, 3):
        at = part.shape[dim] // 2 // align * align
        if at < align:
            continue
        half = run(part.narrow(dim, at, part.shape[dim] - at))
        reach = max(_reach(a, b, dim) for a, b in zip(_parts(whole), _parts(half), strict=True))
        scale = whole.image.shape[dim] / part.shape[dim]
        if reach >= 0.75 * half.image.shape[dim]:
            return None
        margin = max(margin, math.ceil(_RESERVE * reach / scale))
    return margin


def _parts(result: Pass) -> list[torch.Tensor]:
    height, width = result.image.shape[2:]
    return [result.image] if result.features is None else [result.image, result.features[..., :height, :width]]


def _reach(whole: torch.Tensor, half: torch.Tensor, dim: int) -> int:
    """Return how many samples behind the cut the two still differ."""
    size = half.shape[dim]
    kept = whole.narrow(dim, whole.shape[dim] - size, size)
    others = [axis for axis in range(kept.ndim) if axis != dim]
    differs = ((kept - half).abs().amax(others) > _SEEN * (kept.max() - kept.min()).clamp_min(1e-6)).nonzero()
    return int(differs.max()) + 1 if len(differs) else 0


def _detailed(y: torch.Tensor, align: int, side: int) -> torch.Tensor:
    """Return the part of an input in which neighbours differ most."""
    height, width = (min(side, n) for n in y.shape[2:])
    detail = nn.functional.pad(y.diff(dim=-1).abs().mean(dim=(0, 1)), (0, 1))
    blocks = nn.functional.avg_pool2d(detail[None], (height, width), stride=align)[0]
    top, left = divmod(int(blocks.argmax()), blocks.shape[1])
    return y[..., align * top : align * top + height, align * left : align * left + width]
