"""Reading part of an array piece by piece: dask, zarr and memory-mapped files come as they are stored."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    Slices = tuple[slice, ...]

_PIECE = 2**28  # bytes read between two looks at the Stop button, if the array's chunks allow


def part(axes: str, shape: Sequence[int], index: Mapping[str, int]) -> Slices:
    """Return where the wanted part lies: whole axes, but one position of those in ``index``; RGBA without A."""
    whole = zip(axes, shape, strict=True)
    return tuple(
        slice(index[axis], index[axis] + 1) if axis in index else slice(0, 3 if axis == "S" else n)
        for axis, n in whole
    )


def in_memory(data: Any) -> bool:
    """Whether an array can be read in no time."""
    return isinstance(data, np.ndarray) and not isinstance(data, np.memmap)


def read(data: Any, axes: str, where: Slices) -> Generator[tuple[int, int], None, NDArray[Any]]:
    """Read a part of an array.

    Parameters
    ----------
    data
        Anything with ``shape`` and ``dtype`` that can be indexed with slices.
    axes
        Letters of its dimensions.
    where
        The part to read, one slice for each dimension.

    Yields
    ------
    done, total
        Pieces read so far and all there are.

    Returns
    -------
    numpy.ndarray
        The part; a view, nothing is copied, if the array lies in memory already.
    """
    if in_memory(data):
        yield 1, 1
        return data[where]
    lengths = [s.stop - s.start for s in where]
    out = np.empty(lengths, np.dtype(data.dtype))
    pieces = list(_pieces(data, axes, where))
    for done, piece in enumerate(pieces, 1):
        there = tuple(slice(p.start - w.start, p.stop - w.start) for p, w in zip(piece, where, strict=True))
        out[there] = np.asarray(data[piece])
        yield done, len(pieces)
    return out


def _pieces(data: Any, axes: str, where: Slices) -> Iterator[Slices]:
    """Yield whole planes, as many at once as share a chunk: a chunk read in vain is unpacked again and again."""
    chunks = getattr(data, "chunks", None) or [1] * len(axes)
    cuts = [
        [(w.start, w.stop)] if axis in "YXS" else _cut(w, chunk)
        for axis, w, chunk in zip(axes, where, chunks, strict=True)
    ]
    longest = [max(stop - start for start, stop in spans) for spans in cuts]
    if prod(longest) * np.dtype(data.dtype).itemsize > _PIECE:
        cuts = [
            spans if axis in "YXS" else [(i, i + 1) for i in range(w.start, w.stop)]
            for axis, w, spans in zip(axes, where, cuts, strict=True)
        ]
    for spans in product(*cuts):
        yield tuple(slice(*span) for span in spans)


def _cut(span: slice, chunk: int | Sequence[int]) -> list[tuple[int, int]]:
    """Cut a span at the borders of chunks: all of one length (zarr), or each of its own (dask)."""
    if isinstance(chunk, int | np.integer):
        borders = list(range(chunk, span.stop, int(chunk)))
    else:
        borders = np.cumsum(chunk).tolist()
    inner = [border for border in borders if span.start < border < span.stop]
    return list(zip([span.start, *inner], [*inner, span.stop], strict=True))
