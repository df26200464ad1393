"""The network on one input during an iteration: at once, or tile by tile in bounded memory.

Both give the same three things: the equations of the last layer, the image, and the gradient of the parameters
from that of the image. At once the network runs once. In tiles it runs three times, on as little as possible: on
windows for the equations, on all tiles for the image, and on all tiles for the gradient, of which none is kept
meanwhile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch

from napari_fidelity.core.errors import ArchitectureError
from napari_fidelity.methods._tiles import in_tiles, scale_of, times
from napari_fidelity.operators.local import beyond, cut, relative

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_fidelity.methods._equations import Equations
    from napari_fidelity.methods._tiles import Tile, Tiles
    from napari_fidelity.methods.last_layer import Change, Pass, Regression
    from napari_fidelity.operators.local import Box

    Run = Callable[[torch.Tensor], Pass]


@dataclass(frozen=True)
class Crops:
    """Which tiles of an image a gradient step is taken from: all of them once, in random order, then again.

    Attributes
    ----------
    share
        Of the tiles that are taken in one step.
    step
        Of the run, from 0.
    seed
        Of the order.
    """

    share: float
    step: int
    seed: int

    def of(self, tiles: Sequence[Tile]) -> list[Tile]:
        """Return the tiles of this step."""
        order = torch.randperm(len(tiles), generator=torch.Generator().manual_seed(self.seed)).tolist()
        count = min(len(tiles), max(1, round(self.share * len(tiles))))
        return [tiles[order[(self.step * count + i) % len(tiles)]] for i in range(count)]


class Example(Protocol):
    """The network on one input ``(N, C, H, W)``."""

    def gather(self, equations: Equations, regression: Regression) -> None:
        """Add equations about the image to the regression of the last layer."""
        ...

    def image(self, change: Change | None) -> torch.Tensor:
        """Return the image as a changed last layer makes it, detached."""
        ...

    def pull_back(self, gradient: torch.Tensor, change: Change | None, crops: Crops | None = None) -> None:
        """Add to the parameters' gradients what follows from that of the image, on all of it or on crops."""
        ...


class AtOnce:
    """The network run once, with its graph if gradients are on."""

    def __init__(self, made: Pass) -> None:
        self._made = made
        self._image: torch.Tensor | None = None

    def gather(self, equations: Equations, regression: Regression) -> None:
        """See :class:`Example`."""
        equations.at_once(regression, self._made)

    def image(self, change: Change | None) -> torch.Tensor:
        """See :class:`Example`."""
        self._image = self._made.changed(change)
        return self._image.detach()

    def pull_back(self, gradient: torch.Tensor, change: Change | None, crops: Crops | None = None) -> None:
        """See :class:`Example`; once, and after :meth:`image`. There is but one crop: the whole."""
        assert self._image is not None
        if not self._image.requires_grad:
            raise no_dependence()
        self._image.backward(gradient)  # type: ignore[no-untyped-call]


class InTiles:
    """The network run tile by tile, as often as it is needed."""

    def __init__(self, run: Run, z: torch.Tensor, tiles: Tiles, scale: int) -> None:
        self._run, self._z, self._tiles, self._scale = run, z, tiles, scale

    @torch.no_grad()
    def gather(self, equations: Equations, regression: Regression) -> None:
        """See :class:`Example`."""
        finer = max(1, round(math.sqrt(equations.target[0, 0].numel() / self._z[0, 0].numel())))
        equations.in_tiles(regression, partial(self._around, regression.reach), self._tiles.side * finer)

    @torch.no_grad()
    def image(self, change: Change | None) -> torch.Tensor:
        """See :class:`Example`."""
        return in_tiles(lambda z: self._run(z).changed(change), self._z, self._tiles)

    def pull_back(self, gradient: torch.Tensor, change: Change | None, crops: Crops | None = None) -> None:
        """See :class:`Example`."""
        tiles = list(self._tiles.over(self._z.shape[2:]))
        chosen = tiles if crops is None else crops.of(tiles)
        for tile in chosen:
            z = cut(self._z, tile.seen)
            with torch.enable_grad():
                part = self._run(z).changed(change)
            if not part.requires_grad:
                raise no_dependence()
            scale = scale_of(part, z)
            cotangent = tile.cotangent(gradient, scale) * (len(tiles) / len(chosen))  # in the mean, that of all
            tile.inner(part, scale).backward(cotangent)  # type: ignore[no-untyped-call]

    def _around(self, reach: tuple[int, int], box: Box) -> tuple[Pass, Box]:
        """Run the network on what a part of the image hangs on; return that, and where in it the part lies."""
        scale = self._scale
        wide = beyond(box, reach, [scale * n for n in self._z.shape[2:]])
        (top, bottom), (left, right) = wide
        own = (top // scale, -(-bottom // scale)), (left // scale, -(-right // scale))
        seen = self._tiles.around(own, self._z.shape[2:])
        return self._run(cut(self._z, seen)), relative(box, times(seen, scale))


def no_dependence() -> ArchitectureError:
    """Return the error for parameters that no gradient reaches."""
    return ArchitectureError(
        "The loss does not depend on the chosen parameters",
        do="Check that network and operator are differentiable, or choose other parameters",
    )
