"""Fathers and sons: what :class:`napari_fidelity.methods.ZSSR` learns from.

A father is an image made of the measurement, its son the measurement of it by the very operator, on the father's
grid again (``base``): what the network is shown, beside what it is to make of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import torch

from napari_fidelity.core.errors import OperatorError, ShapeError
from napari_fidelity.methods._start import starting_image
from napari_fidelity.methods.base import call_operator
from napari_fidelity.methods.projection import proximal, ridge_for
from napari_fidelity.methods.scores import known_variance
from napari_fidelity.methods.views import VIEWS, to_view
from napari_fidelity.operators.base import Operator
from napari_fidelity.operators.noise import GaussianNoise
from napari_fidelity.operators.resample import resize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fidelity.methods.base import LinearOperator
    from napari_fidelity.methods.zssr import ZSSR
    from napari_fidelity.operators.noise import Noise

SMALLEST = 16
"""Pixels of the measurement along an axis below which there is nothing to learn from."""
STRIP = 2**20
"""Pixels of the network's grid that go through it together when an image is made."""
MOST = 2**24
"""Values of all fathers that are kept, the first one excepted."""
FATHERS = 16
"""Of how many measurements' size the fathers are together, about, where there are not too many."""
WHOLE = 0.999
"""Share of a scaled pixel that must have been seen for it to count."""
_TOLERANCE = 1e-3  # of bases that conjugate gradients solve for
_SMALLEST_SON = 4  # pixels along an axis
_SIZES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)  # of the fathers, times the measurement's


class Pair(NamedTuple):
    """A father ``(N, C, H, W)``, its son on the same grid, and 1 where the father was seen or ``None``."""

    father: torch.Tensor
    base: torch.Tensor
    seen: torch.Tensor | None


@dataclass(frozen=True)
class Source:
    """An image that fathers are made of.

    Attributes
    ----------
    image
        The measurement, or what was made of it ``(N, C, H, W)``.
    seen
        1 where it was observed, or ``None`` for all over.
    size
        Its size over that of the measurement, along the shorter axis.
    """

    image: torch.Tensor
    seen: torch.Tensor | None = None
    size: float = 1.0


@dataclass(frozen=True)
class Making:
    """How a son is made of its father.

    Attributes
    ----------
    options
        Of the method.
    operator
        The operator without masks, which belong to one size.
    noise
        Noise of the measurement, or ``None``.
    scale
        Image samples per measurement sample, along each axis.
    """

    options: ZSSR
    operator: LinearOperator
    noise: Noise | None
    scale: tuple[float, float]

    def pair(self, father: torch.Tensor, seen: torch.Tensor | None, rng: torch.Generator) -> Pair:
        """Return a father, cut to a size that an image can have, with its son.

        Raises
        ------
        ShapeError
            If it is too small for a son.
        OperatorError
            If the operator does not take an image of its size.
        """
        try:
            height, width = self.fitting(father.shape[2:])
        except OperatorError as error:
            raise OperatorError(
                "The kernel is larger than the measurement, which is measured once more to learn from",
                found=error.found,
                do="Take a larger part, cut the kernel, or choose RED",
            ) from error
        father = father[..., :height, :width].contiguous(memory_format=torch.channels_last)
        son = call_operator(self.operator, father)
        if min(son.shape[2:]) < _SMALLEST_SON:
            raise too_small(father.shape[2:], son.shape[2:])
        son = self._noisy(son, rng)
        base = self.base(son)
        if base.shape != father.shape:
            raise OperatorError(
                "The operator does not say what image belongs to a measurement of another size",
                found=f"{tuple(base.shape[2:])} beside {tuple(father.shape[2:])}",
            )
        seen = None if seen is None else seen[..., :height, :width].expand_as(father)
        return Pair(father, base.contiguous(memory_format=torch.channels_last), seen)

    def base(self, y: torch.Tensor) -> torch.Tensor:
        """Return a measurement on the grid of its image: what the network is shown."""
        x = starting_image("measurement", y, self.operator)
        if self.options.base == "bicubic":
            return x
        ridge = ridge_for(x, y, self.operator, noise=self.noise)
        if math.isinf(ridge):
            return x
        variance = known_variance(self.noise, y)
        return proximal(x, y, self.operator, ridge, variance=variance, tolerance=_TOLERANCE)

    def fitting(self, shape: Sequence[int]) -> list[int]:
        """Return the largest size up to ``shape`` that an image of this operator can have."""
        sizes = [int(n) for n in shape]
        if not isinstance(self.operator, Operator):
            return [int(n // s * s) for n, s in zip(sizes, self.scale, strict=True)]
        for axis in range(len(sizes)):
            while sizes[axis] > 1:
                found = self.operator.image_shape(self.operator.measurement_shape(sizes))
                if found[axis] <= sizes[axis]:
                    break
                sizes[axis] -= 1
        return sizes

    def _noisy(self, son: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        # drawn on the processor, whose generator it is, whatever the device
        clean = son.cpu()
        if self.noise is not None:
            clean = self.noise.sample(clean, rng)
        if self.options.noise_level:
            clean = GaussianNoise(sigma=self.options.noise_level).sample(clean, rng)
        if self.options.clip:
            clean = clean.clamp(0, 1)
        return clean.to(son)


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


def fold_of(options: ZSSR, scale: Sequence[float]) -> tuple[int, int]:
    """Return the sides of the blocks of image pixels that the network works on."""
    if options.grid == "fine":
        return (1, 1)
    rows, columns = (max(1, min(4, math.ceil(s - 0.01))) for s in scale)
    return (rows, columns)


def too_small(father: Sequence[int], son: Sequence[int]) -> ShapeError:
    """Return the error for a measurement that is too small to learn from."""
    return ShapeError(
        "The measurement is too small to learn from its own reduced copy",
        found=f"{' × '.join(map(str, father))} pixels, reduced to {' × '.join(map(str, son))}",
        do=f"Take a part of at least {SMALLEST} pixels, and {_SMALLEST_SON} when reduced, along each axis, or a "
        "method with a trained prior, such as RED or FineTune",
    )


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
