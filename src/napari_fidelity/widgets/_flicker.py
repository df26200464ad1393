"""The flicker of layers that are time series: read frame by frame, in a worker."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from napari_fidelity.core.errors import FidelityError
from napari_fidelity.widgets._news import News
from napari_fidelity.widgets._slices import Stopped, at, pixels, positions

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from napari_fidelity.metrics import Flicker
    from napari_fidelity.widgets._layers import Source
    from napari_fidelity.widgets._slices import Index


def flicker_scores(
    source: Source, reference: Source | None, measurement: Source | None
) -> Generator[News, str | None, tuple[float, float]]:
    """Return the flicker of a layer, and over that of the measurement; NaN where there is none, as without time.

    Parameters
    ----------
    source
        The layer, all its slices.
    reference, measurement
        What says where nothing moves, the reference first; and what the flicker is compared with.

    Raises
    ------
    Stopped
        If a reason to stop is sent.
    """
    found: list[Flicker] = []
    for frames in _series(source):
        if (yield News("flicker", text=f"Looking for flicker in '{source.name}'")):
            raise Stopped
        try:
            found.append(_of_series(source, frames, reference, measurement))
        except FidelityError:  # told of its slices already
            continue
    return _mean(one.value for one in found), _mean(one.relative for one in found)


def _mean(values: Iterable[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan


def _of_series(
    source: Source, frames: Sequence[Index], reference: Source | None, measurement: Source | None
) -> Flicker:
    from napari_fidelity.metrics.flicker import flicker_beside

    beside = (_if_series(other, len(frames)) for other in (reference, measurement))
    true, measured = (None if other is None else partial(_read, other, frames) for other in beside)
    return flicker_beside(partial(_read, source, frames), true, measured)


def _if_series(source: Source | None, length: int) -> Source | None:
    """Return a layer if it has as many frames: a single image stands for all of them, and never moves."""
    lengths = {} if source is None else dict(zip(source.axes, source.data.shape, strict=True))
    return source if lengths.get("T") == length else None


def _read(source: Source, frames: Sequence[Index]) -> Iterator[NDArray[np.generic]]:
    """Yield the frames of a layer at positions of another one."""
    for index in frames:
        yield pixels(at(source, index))


def _series(source: Source) -> list[list[Index]]:
    """Return the positions of each time series in a layer; none where it has no time."""
    series: dict[tuple[tuple[str, int], ...], list[Index]] = {}
    for index in positions(source):
        where = tuple((axis, place) for axis, place in index.items() if axis != "T")
        if "T" in index:
            series.setdefault(where, []).append(index)
    return [frames for frames in series.values() if len(frames) > 1]
