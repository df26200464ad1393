"""The sizes that :class:`napari_fidelity.methods.ZSSR` goes through on the way to its image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from napari_fidelity.core.errors import OperatorError, OptionError
from napari_fidelity.methods._start import pictures
from napari_fidelity.operators._foreign import name_of
from napari_fidelity.operators.base import Operator
from napari_fidelity.operators.compose import Compose
from napari_fidelity.operators.identity import Identity
from napari_fidelity.operators.mask import Mask
from napari_fidelity.operators.resample import Downsample

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from napari_fidelity.methods.base import LinearOperator
    from napari_fidelity.methods.zssr import ZSSR

_ENLARGES = 1.01  # least number of image samples per measurement sample along some axis


class Size(NamedTuple):
    """One size of the image on the way to the last.

    Attributes
    ----------
    operator
        Between an image of this size and what it is made of.
    scale
        Image samples per sample of that, along each axis.
    chained
        Whether it is made of the size before, not of the measurement.
    """

    operator: LinearOperator
    scale: tuple[float, float]
    chained: bool = False


def enlargement(operator: LinearOperator, y: torch.Tensor, shape: tuple[int, ...]) -> tuple[float, float]:
    """Return the image samples per measurement sample along each axis.

    Raises
    ------
    OperatorError
        If the operator does not downsample.
    """
    rows, columns = (n / m for n, m in zip(shape[2:], y.shape[2:], strict=True))
    if isinstance(operator, Operator) and operator.shares_grid:
        rows, columns = operator.grid(2).scale
    if not pictures(operator) or shape[1] != y.shape[1] or max(rows, columns) < _ENLARGES:
        raise OperatorError(
            "ZSSR learns from the measurement's own reduced copies, and this operator does not reduce it",
            found=getattr(operator, "kind", name_of(operator)),
            do="Add the downsampling, as in 'gaussian_blur:sigma=1.6 + downsample:scale=2', or choose RED, DIP or "
            "DeepRED, which take every operator",
        )
    return rows, columns


def planned(options: ZSSR, operator: LinearOperator, scale: tuple[float, float]) -> list[Size]:
    """Return the sizes on the way to the image of an operator of that enlargement.

    Raises
    ------
    OptionError
        If the published sizes are asked for, and there is more than downsampling.
    """
    operator = without_masks(operator)
    if not isinstance(operator, Downsample):
        if options.gradual == "published":
            raise OptionError(
                "The published sizes are for downsampling alone: a blur belongs to one size",
                found=getattr(operator, "kind", name_of(operator)),
                do="Set gradual to none or doubling",
            )
        return [Size(operator, scale)]
    if options.gradual == "published":
        return [Size(Downsample(scale=on_the_way), on_the_way) for on_the_way in sizes_on_the_way(scale)]
    factors = factors_of(scale) if options.gradual == "doubling" else []
    if len(factors) < 2:
        return [Size(operator, scale)]
    return [Size(Downsample(scale=factor), (factor, factor), chained=True) for factor in factors]


def fold_of(options: ZSSR, scale: Sequence[float]) -> tuple[int, int]:
    """Return the sides of the blocks of image pixels that the network works on."""
    if options.grid == "fine":
        return (1, 1)
    rows, columns = (max(1, min(4, math.ceil(s - 0.01))) for s in scale)
    return (rows, columns)


def without_masks(operator: LinearOperator) -> LinearOperator:
    """Return an operator without its masks, which belong to an image of one size."""
    if not isinstance(operator, Compose):
        return operator
    parts = [part for part in operator.operators if not isinstance(part, Mask | Identity)]
    return parts[0] if len(parts) == 1 else Compose(operators=tuple(parts))


def sizes_on_the_way(scale: tuple[float, float]) -> list[tuple[float, float]]:
    """Return the scales to go through to the last one, rows and columns in turn.

    For ×2 the six of the authors' code; for others its halfway point is kept.
    """
    rows, columns = scale
    i, j = (1 + rows) / 2, (1 + columns) / 2
    way = [(1, j), (i, 1), (i, j), (i, columns), (rows, j), (rows, columns)]
    return [size for size in dict.fromkeys(way) if max(size) > 1]


def factors_of(scale: tuple[float, float]) -> list[float]:
    """Return doublings, and a smaller step in the end, that make a whole scale; nothing for others."""
    rows, columns = scale
    if rows != columns or not float(rows).is_integer():
        return []
    doublings = int(math.log2(rows))
    rest = rows / 2**doublings
    return [2.0] * doublings + ([rest] if rest > 1 else [])
