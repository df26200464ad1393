"""What the last layer is solved from, in one view of the image: all at once or window by window."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_fidelity.methods import last_layer
from napari_fidelity.methods.views import box_from_view, box_to_view, from_view, to_view
from napari_fidelity.operators.local import cut

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from napari_fidelity.methods.last_layer import Pass, Regression
    from napari_fidelity.operators.local import Box, LocalMap

    Around = Callable[[Box], tuple[Pass, Box]]

_WINDOWS = 12  # at least, over a measurement of which only a part enters the regression
_SIDES = (16, 96)  # of such a window; the larger, the less is spent on what the network has to see beyond


@dataclass(frozen=True)
class Equations:
    """Ask that a linear map of the image be a target.

    Of more than :data:`~napari_fidelity.methods.last_layer.MAX_ROWS` pixels, those in evenly spread windows enter:
    as many as these can tell apart the unknowns, at the cost of a small image.

    Attributes
    ----------
    target
        What it should be, ``(N, C, *m)``, in its own orientation, as all that follows.
    linear
        The map.
    local
        The same on windows; ``None`` if it cannot be.
    shape
        Spatial shape of the image.
    view
        The view in which the network sees the image.
    weights
        1 where the target was observed, 0 elsewhere; or ``None``.
    factor
        Weight of these equations.
    """

    target: torch.Tensor
    linear: Callable[[torch.Tensor], torch.Tensor]
    local: LocalMap | None
    shape: tuple[int, ...]
    view: int
    weights: torch.Tensor | None = None
    factor: float = 1.0

    def at_once(self, regression: Regression, run: Pass) -> None:
        """Add them to a regression, from the run of the network on the whole image."""
        windows = self._windows(None)
        if windows is None or self.local is None:
            weights = None if self.weights is None else to_view(self.weights, self.view)
            target = to_view(self.target, self.view)
            regression.add(run, target, self._whole, weights=weights, factor=self.factor)
            return
        self._in(windows, regression, lambda box: run.around(box, regression.reach))

    def in_tiles(self, regression: Regression, around: Around, side: int) -> None:
        """Add them to a regression, window by window.

        Parameters
        ----------
        regression
            Where to.
        around
            Runs the network on what a part of the image hangs on; returns that, and where in it the part lies.
        side
            Of the largest window, on the target's grid.
        """
        self._in(self._windows(side) or [self._everything], regression, around)

    def _in(self, windows: list[Box], regression: Regression, around: Around) -> None:
        factor = self.factor / self._share(windows)
        for window in windows:
            self._add(regression, around, window, factor)

    def _add(self, regression: Regression, around: Around, window: Box, factor: float) -> None:
        assert self.local is not None  # else nothing is solved in tiles
        local, view = self.local, self.view
        own = box_from_view(window, self.target.shape[2:], view)
        run, part = around(box_to_view(local.needs(own), self.shape, view))
        regression.add(
            run,
            to_view(cut(self.target, own), view),
            lambda z: to_view(local.apply(from_view(z, view).contiguous(), own), view),
            weights=None if self.weights is None else to_view(cut(self.weights, own), view),
            factor=factor,
            part=part,
        )

    def _whole(self, z: torch.Tensor) -> torch.Tensor:
        return to_view(self.linear(from_view(z, self.view)), self.view)

    @property
    def _everything(self) -> Box:
        rows, columns = to_view(self.target[:1, :1], self.view).shape[2:]
        return (0, rows), (0, columns)

    def _windows(self, side: int | None) -> list[Box] | None:
        """Return the windows of the target, in the view, whose pixels enter; ``None`` if all do, at once."""
        (_, rows), (_, columns) = self._everything
        count = len(self.target)
        if count * rows * columns <= last_layer.MAX_ROWS:
            if side is None or side >= max(rows, columns):
                return None
            starts = [range(0, n, side) for n in (rows, columns)]
            return [((i, min(i + side, rows)), (j, min(j + side, columns))) for i in starts[0] for j in starts[1]]
        least, most = _SIDES
        width = max(
            least, min(most, math.isqrt(last_layer.MAX_ROWS // (_WINDOWS * count)), *([side] if side else []))
        )
        number = last_layer.MAX_ROWS / (count * width**2)
        down = max(1, round(math.sqrt(number * rows / columns)))
        across = max(1, int(number / down))
        return [(i, j) for i in _spread(rows, down, width) for j in _spread(columns, across, width)]

    def _share(self, windows: list[Box]) -> float:
        """Return the share of all observed pixels that lies in the windows."""
        if self.weights is None:
            inside = sum((b - a) * (d - c) for (a, b), (c, d) in windows)
            return inside / self.target[0, 0].numel()
        seen = to_view((self.weights > 0).expand_as(self.target).all(dim=1), self.view)
        return max(1, sum(int(cut(seen, window).sum()) for window in windows)) / max(1, int(seen.sum()))


def _spread(n: int, count: int, width: int) -> list[tuple[int, int]]:
    """Return intervals of a width in the middle of equal parts of an axis."""
    width = min(width, n)
    count = min(count, n // width)
    starts = [round((i + 0.5) * n / count - width / 2) for i in range(count)]
    return [(start, start + width) for start in starts]
