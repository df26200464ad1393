"""What a method sees at once: one block, or consecutive frames of a time series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_fidelity.core.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_fidelity.core.blocks import Block


@dataclass(frozen=True)
class Unit:
    """Blocks that a method is handed together: a frame, or frames that follow each other.

    Attributes
    ----------
    numbers
        Which blocks, in the order of time, those that only lie beside its own included.
    own
        Which of them are its own: of the others nothing is kept.
    """

    numbers: tuple[int, ...]
    own: slice

    def kept(self) -> tuple[int, ...]:
        """Return the numbers of its own blocks."""
        return self.numbers[self.own]


def lengths(frames: int, core: int, context: int) -> Iterator[tuple[range, range]]:
    """Yield which frames of a series each unit is handed, and which of them are its own.

    Parameters
    ----------
    frames
        Of the series.
    core
        Frames of each unit; the last one has what is left.
    context
        Frames beside them, before and after, which the ends of the series cut off.
    """
    for first in range(0, frames, core):
        last = min(first + core, frames)
        yield range(max(0, first - context), min(frames, last + context)), range(first, last)


def units(blocks: Sequence[Block], core: int = 1, context: int = 0) -> list[Unit]:
    """Put the blocks of an image that follow each other in time together.

    Parameters
    ----------
    blocks
        All of them, as :func:`~napari_fidelity.core.blocks.planes` gives them.
    core, context
        As for :func:`lengths`.

    Returns
    -------
    list of Unit
        In the order of their own first blocks: every block is the own one of exactly one unit. Blocks of different
        slices or channels, and those of images without time, are never put together.

    Raises
    ------
    OptionError
        If there is to be less than one frame, or less than none beside it.
    """
    if core < 1 or context < 0:
        raise OptionError(
            "A unit has one frame or more, and none or more beside them", found=f"{core} and {context}"
        )
    series: dict[tuple[tuple[str, int], ...], list[int]] = {}
    for number, block in enumerate(blocks):
        where = tuple((axis, at) for axis, at in block.index.items() if axis != "T")
        series.setdefault(where, []).append(number)
    found = [
        Unit(tuple(numbers[at] for at in seen), slice(own.start - seen.start, own.stop - seen.start))
        for numbers in series.values()
        for seen, own in lengths(len(numbers), core, context)
    ]
    return sorted(found, key=lambda unit: unit.kept()[0])
