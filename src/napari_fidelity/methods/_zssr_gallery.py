"""The fathers of :class:`napari_fidelity.methods.ZSSR` in several sizes, made once: crops are drawn of them."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING

import torch

from napari_fidelity.core.errors import OperatorError, ShapeError
from napari_fidelity.methods._zssr_pairs import WHOLE, Pair
from napari_fidelity.methods._zssr_sizes import fold_of
from napari_fidelity.methods.views import VIEWS, to_view
from napari_fidelity.operators.resample import resize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fidelity.methods._zssr_pairs import Making, Source

MOST = 2**24
"""Values of all fathers that are kept, the first one excepted."""
FATHERS = 16
"""Of how many measurements' size the fathers are together, about, where there are not too many."""
_SIZES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)  # of the fathers, times the measurement's


class Gallery:
    """Fathers in several sizes with their sons, made once; crops are drawn of them.

    A father is cut at every position relative to the sampling grid, as the image may lie, too. Where the operator
    is not the same in all views, its sons are made of the turned fathers; else crops of both are turned.
    """

    def __init__(
        self, making: Making, sources: Sequence[Source], views: Sequence[int], rng: torch.Generator
    ) -> None:
        options = making.options
        self.options, self.rng = options, rng
        self.fold = fold_of(options, making.scale)
        turned = VIEWS if options.turns else VIEWS[:1]
        self.same = [view for view in turned if view in views] or [0]
        self.pairs: list[Pair] = []
        wanted = _planned(sources, making.scale, turned if len(self.same) < len(turned) else (0,), rng)
        values = 0
        for source, size, shift, view in wanted:
            image, seen = (None if z is None else to_view(z, view) for z in (source.image, source.seen))
            assert image is not None
            shape = [math.ceil(size * n) for n in image.shape[2:]]
            if size < 1:
                image = resize(image, shape)
                seen = None if seen is None else (resize(seen, shape) > WHOLE).to(seen)
            image = image[..., shift[0] :, shift[1] :]
            seen = None if seen is None else seen[..., shift[0] :, shift[1] :]
            try:
                self.pairs.append(making.pair(image, seen, rng))
            except (ShapeError, OperatorError):
                if not self.pairs:  # the largest one
                    raise
                continue
            values += image.numel()
            if values > MOST:
                break

    def residual(self) -> float:
        """Return the root mean square of what the bases lack."""
        squares = sum(float((pair.father - pair.base).square().sum()) for pair in self.pairs)
        return math.sqrt(squares / sum(pair.father.numel() for pair in self.pairs))

    def draw(self) -> Pair:
        """Return a batch of crops of a father, drawn in proportion to its size."""
        areas = torch.tensor([pair.father[0, 0].numel() for pair in self.pairs], dtype=torch.float64)
        pair = self.pairs[int(torch.multinomial(areas, 1, generator=self.rng))]
        sizes = [
            max(f, min(self.options.crop, n) // f * f) if n >= f else n
            for n, f in zip(pair.father.shape[2:], self.fold, strict=True)
        ]
        same = self.same if sizes[0] == sizes[1] else [view for view in self.same if view < 4]
        crops = [self._crop(pair, sizes, same) for _ in range(self.options.batch)]
        father, base, seen = (None if part[0] is None else torch.cat(part) for part in zip(*crops, strict=True))
        assert father is not None
        assert base is not None
        return Pair(father, base.contiguous(memory_format=torch.channels_last), seen)

    def _crop(self, pair: Pair, sizes: Sequence[int], views: Sequence[int]) -> Pair:
        lengths = zip(pair.father.shape[2:], sizes, self.fold, strict=True)
        # blocks of the coarse grid stay whole: their pixels differ in what the operator lets through
        i, j = (self._below((n - size) // fold + 1) * fold for n, size, fold in lengths)
        number, view = self._below(len(pair.father)), views[self._below(len(views))]
        part = (slice(number, number + 1), slice(None), slice(i, i + sizes[0]), slice(j, j + sizes[1]))
        return Pair(*(None if z is None else to_view(z[part], view) for z in pair))  # type: ignore[arg-type]

    def _below(self, end: int) -> int:
        return int(torch.randint(end, (1,), generator=self.rng))


def _planned(
    sources: Sequence[Source], scale: Sequence[float], views: Sequence[int], rng: torch.Generator
) -> list[tuple[Source, float, tuple[int, int], int]]:
    """Return of what fathers are made: source, size, position on the sampling grid, view; the whole one first.

    Each is made in one of the views, in turn.
    """
    rows, columns = (range(math.ceil(s - 0.01)) for s in scale)
    plan = list(product(sources, _SIZES, product(rows, columns)))
    order = [0, *(int(at) + 1 for at in torch.randperm(len(plan) - 1, generator=rng))]
    return [(*plan[at], views[number % len(views)]) for number, at in enumerate(order)]
