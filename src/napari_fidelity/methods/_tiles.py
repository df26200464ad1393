"""A network on a large image in overlapping tiles.

Each tile answers for its core; around that the network is shown a margin, beyond which the tile's own border makes
no difference. A network that looks at the whole image at once (attention, normalisation by the image's own mean)
has no such margin: its tiles differ from the whole, and are blended into each other so that no seams are seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_fidelity.core.errors import ArchitectureError
from napari_fidelity.operators.local import Box, Interval, cut, relative

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Run = Callable[[torch.Tensor], torch.Tensor]

ALIGN = 8
"""Tiles begin at multiples of this, so that a network's strides lie as on the whole image."""


@dataclass(frozen=True)
class Tile:
    """One tile of an input.

    Attributes
    ----------
    seen
        What the network is shown.
    used
        The part of its output that counts, in pixels of the input.
    ramps
        Weight of each row and each column of that part, or ``None`` where all count fully.
    """

    seen: Box
    used: Box
    ramps: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def put(self, image: torch.Tensor, part: torch.Tensor, scale: int) -> None:
        """Put what the network made of the tile into the image."""
        place, inner = cut(image, times(self.used, scale)), self.inner(part, scale)
        if self.ramps is None:
            place.copy_(inner)
        else:
            place.add_(inner * self._weight(scale, part))

    def inner(self, part: torch.Tensor, scale: int) -> torch.Tensor:
        """Return the part that counts of what the network made of the tile."""
        return cut(part, times(relative(self.used, self.seen), scale))

    def cotangent(self, whole: torch.Tensor, scale: int) -> torch.Tensor:
        """Return the gradient with respect to :meth:`inner` from that with respect to the image."""
        part = cut(whole, times(self.used, scale))
        return part if self.ramps is None else part * self._weight(scale, part)

    def _weight(self, scale: int, like: torch.Tensor) -> torch.Tensor:
        assert self.ramps is not None
        rows, columns = (torch.tensor(r, device=like.device).repeat_interleave(scale) for r in self.ramps)
        return rows[:, None] * columns


@dataclass(frozen=True)
class Tiles:
    """How an input is tiled.

    Attributes
    ----------
    side
        Largest side of a tile's core, in pixels of the input.
    margin
        What the network is shown beyond, at least.
    blend
        Whether neighbouring tiles fade into each other.
    align
        Tiles begin at multiples of this.
    """

    side: int
    margin: int
    blend: bool = False
    align: int = ALIGN

    def over(self, shape: Sequence[int]) -> Iterator[Tile]:
        """Yield the tiles of an input of spatial shape ``(H, W)``, row by row."""
        rows, columns = (self._cores(n) for n in shape)
        # no wider than that a pixel lies in two tiles at most along an axis
        smallest = [min(stop - start for start, stop in cores) for cores in (rows, columns)]
        fades = [min(self.margin, n) // 2 for n in smallest]
        for top in rows:
            for left in columns:
                yield self._tile((top, left), shape, fades)

    def number(self, shape: Sequence[int]) -> int:
        """Return how many tiles an input of spatial shape ``(H, W)`` has."""
        return math.prod(len(self._cores(n)) for n in shape)

    def around(self, box: Box, shape: Sequence[int]) -> Box:
        """Return what the network has to be shown of an input to answer for a part of it."""
        (rows, columns) = (self._seen(part, n) for part, n in zip(box, shape, strict=True))
        return rows, columns

    def _cores(self, n: int) -> list[Interval]:
        """Return cores of about equal size."""
        largest = max(self.align, self.side // self.align * self.align)
        step = math.ceil(n / math.ceil(n / largest) / self.align) * self.align
        return [(start, min(start + step, n)) for start in range(0, n, step)]

    def _seen(self, core: Interval, n: int) -> Interval:
        start, stop = core[0] - self.margin, core[1] + self.margin
        return max(0, start // self.align * self.align), min(n, -(-stop // self.align) * self.align)

    def _tile(self, core: Box, shape: Sequence[int], fades: Sequence[int]) -> Tile:
        seen = self.around(core, shape)
        if not self.blend:
            return Tile(seen, core)
        faded = [_faded(part, n, fade) for part, n, fade in zip(core, shape, fades, strict=True)]
        (rows, row_ramp), (columns, column_ramp) = faded
        return Tile(seen, (rows, columns), (row_ramp, column_ramp))


def in_tiles(run: Run, y: torch.Tensor, tiles: Tiles | None) -> torch.Tensor:
    """Return what a network makes of an input ``(N, C, H, W)``, tile by tile; at once without tiles."""
    if tiles is None:
        return run(y)
    image = None
    for tile in tiles.over(y.shape[2:]):
        part = run(cut(y, tile.seen))
        scale = scale_of(part, cut(y, tile.seen))
        if image is None:
            image = part.new_zeros(*part.shape[:2], *(scale * n for n in y.shape[2:]))
        tile.put(image, part, scale)
    assert image is not None
    return image


def scale_of(image: torch.Tensor, y: torch.Tensor) -> int:
    """Return how many times larger than its input an image is.

    Raises
    ------
    ArchitectureError
        If that is no whole number, the same along both axes: then a tile has no place in the image.
    """
    scale = image.shape[-1] // y.shape[-1]
    if scale < 1 or any(n != scale * m for n, m in zip(image.shape[2:], y.shape[2:], strict=True)):
        raise ArchitectureError(
            "A network whose image is no whole multiple of its input cannot be run in tiles",
            found=f"{tuple(y.shape[2:])} -> {tuple(image.shape[2:])}",
            do="Crop the image",
        )
    return scale


def times(box: Box, scale: int) -> Box:
    """Return a box on a grid that is so many times finer."""
    (top, bottom), (left, right) = box
    return (scale * top, scale * bottom), (scale * left, scale * right)


def _faded(core: Interval, n: int, fade: int) -> tuple[Interval, tuple[float, ...]]:
    """Return a core with the width of a fade beyond, and its weights: those of two neighbours add up to 1."""
    start = core[0] - fade if core[0] > 0 else 0
    stop = core[1] + fade if core[1] < n else n
    weights = []
    for i in range(start, stop):
        rising = (i + 0.5 - core[0] + fade) / (2 * fade) if core[0] > 0 and fade else 1.0
        falling = (core[1] + fade - i - 0.5) / (2 * fade) if core[1] < n and fade else 1.0
        weights.append(min(1.0, rising, falling))
    return (start, stop), tuple(weights)
