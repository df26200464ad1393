"""Flips, turns and shifts of an image, which scenes are taken to be indifferent to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from napari_fidelity.methods.views import from_view, to_view

if TYPE_CHECKING:
    from collections.abc import Sequence

Transforms = Literal["auto", "shifts", "flips", "rotations", "none"]

_FARTHEST = 32  # px, of a shift; beyond it, what comes in at the border has little to do with the image
_SHARE = 4  # of an axis may be shifted out: one part in so many
_FLIPS = (0, 1, 2, 3)  # views, as in methods.views
_TURNS = (0, 3, 5, 6)
_ALL = tuple(range(8))


@dataclass(frozen=True)
class Transform:
    """A flip or turn of the last two axes, a flip of the first of three, then a shift by whole pixels.

    What a shift leaves free is filled by mirroring the image at its border.

    Attributes
    ----------
    view
        As in :mod:`napari_fidelity.methods.views`.
    upside_down
        Whether the first of three spatial axes is flipped.
    shift
        Pixels along each spatial axis.
    """

    view: int
    upside_down: bool
    shift: tuple[int, ...]

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """Return an image ``(…, *n)`` transformed, of the same shape."""
        x = to_view(x, self.view)
        x = x.flip(-3) if self.upside_down else x
        for axis, n, by in self._axes(x):
            x = x.index_select(axis, _mirrored(torch.arange(n, device=x.device) - by, n))
        return x

    def undo(self, x: torch.Tensor) -> torch.Tensor:
        """Return a transformed image as it was; pixels that had been shifted out (see :meth:`kept`) are others."""
        for axis, n, by in self._axes(x):
            x = x.index_select(axis, _mirrored(torch.arange(n, device=x.device) + by, n))
        x = x.flip(-3) if self.upside_down else x
        return from_view(x, self.view)

    def kept(self, like: torch.Tensor) -> torch.Tensor:
        """Return 1 where a pixel of an image ``(N, C, *n)`` was not shifted out of it, else 0; ``(1, 1, *n)``."""
        inside = torch.ones_like(like[:1, :1])
        for axis, n, by in self._axes(inside):
            if by:
                out = torch.arange(n - by, n) if by > 0 else torch.arange(-by)
                inside.index_fill_(axis, out.to(inside.device), 0.0)
        inside = inside.flip(-3) if self.upside_down else inside
        return from_view(inside, self.view)

    def _axes(self, x: torch.Tensor) -> list[tuple[int, int, int]]:
        dims = len(self.shift)
        return [(axis - dims, x.shape[axis - dims], by) for axis, by in enumerate(self.shift) if by]


def draw(kind: Transforms, spatial: Sequence[int], scale: Sequence[float], rng: torch.Generator) -> Transform:
    """Return a transform drawn at random.

    Quarter turns are among them for square images alone. Shifts go as far as a quarter of an axis, at most 32
    pixels; where the measurement has fewer pixels than the image by a whole factor, they are no multiple of it
    along at least one axis: the others only move the pixels of the measurement.

    Parameters
    ----------
    kind
        Which ones; ``"auto"`` for all together.
    spatial
        Of the image.
    scale
        Its pixels per pixel of the measurement, along each axis.
    rng
        A generator on the CPU.
    """
    square = spatial[-1] == spatial[-2]
    views: tuple[int, ...] = (0,)
    if kind == "auto":
        views = _ALL if square else _FLIPS
    elif kind == "flips":
        views = _FLIPS
    elif kind == "rotations":
        views = _TURNS if square else _TURNS[:2]
    view = views[_below(len(views), rng)]
    upside_down = len(spatial) == 3 and kind in ("auto", "flips") and bool(_below(2, rng))
    shift = _shift(spatial, scale, rng) if kind in ("auto", "shifts") else (0,) * len(spatial)
    return Transform(view, upside_down, shift)


def _shift(spatial: Sequence[int], scale: Sequence[float], rng: torch.Generator) -> tuple[int, ...]:
    reach = [min(_FARTHEST, n // _SHARE) for n in spatial]
    whole = [round(s) if s > 1 and float(s).is_integer() else 1 for s in scale]
    can_differ = any(r >= 1 and s > 1 for r, s in zip(reach, whole, strict=True))
    while True:
        shift = tuple(_below(2 * r + 1, rng) - r for r in reach)
        if not can_differ or any(by % s for by, s in zip(shift, whole, strict=True)):
            return shift


def _below(n: int, rng: torch.Generator) -> int:
    return int(torch.randint(n, (1,), generator=rng))


def _mirrored(index: torch.Tensor, n: int) -> torch.Tensor:
    """Return the pixel of an axis of ``n`` that lies at an index outside it, the image being mirrored there."""
    index = index % (2 * n)
    return torch.minimum(index, 2 * n - 1 - index)
