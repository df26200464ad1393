"""The scores of layers, slice by slice: what Compare computes in a worker."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from napari_fidelity.core.errors import FidelityError
from napari_fidelity.widgets._flicker import flicker_scores
from napari_fidelity.widgets._news import News
from napari_fidelity.widgets._slices import Stopped, at, in_words, pixels, positions

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_fidelity.metrics import Row
    from napari_fidelity.metrics.data import Forward
    from napari_fidelity.widgets._layers import Source

    Index = Mapping[str, int]


@dataclass(frozen=True)
class Settings:
    """How images are scored.

    Attributes
    ----------
    channels, crop, rounded
        As for :func:`napari_fidelity.metrics.compare`.
    data_range
        The peak; ``None`` to take what the reference suggests.
    every_slice
        Whether all slices are scored and averaged, or only the current one.
    """

    channels: Literal["rgb", "y", "gray", "each"] = "rgb"
    crop: int = 0
    data_range: float | None = None
    rounded: bool = False
    every_slice: bool = False


class Scored(NamedTuple):
    """The scores of one layer: over all slices, and of each if there are several."""

    row: Row
    slices: tuple[Row, ...] = ()


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of all layers, their data range, and whether the user stopped before the end."""

    layers: tuple[Scored, ...]
    data_range: float
    stopped: bool = False

    def rows(self) -> list[Row]:
        """Return every row, each layer's before those of its slices."""
        return [row for scored in self.layers for row in (scored.row, *scored.slices)]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Layers, what they are compared with, and how; it holds their data but no layers.

    Attributes
    ----------
    images
        The layers to be scored, each at the slice the viewer shows (``index``).
    reference, measurement
        What with, either or both.
    operator
        Image formation model of the measurement.
    settings
        Options.
    """

    images: tuple[Source, ...]
    reference: Source | None = None
    measurement: Source | None = None
    operator: Forward | None = None
    settings: Settings = field(default_factory=Settings)

    def scores(self) -> Generator[News, str | None, Scores]:
        """Score every image; once a reason to stop is sent, return what there is."""
        from napari_fidelity import metrics

        try:
            data_range = self.settings.data_range or (yield from self._data_range())
        except Stopped:
            return Scores((), math.nan, stopped=True)
        perceptual = self.reference is not None and metrics.lpips_available()[0]
        plan = [(source, self._positions(source)) for source in self.images]
        total, done = sum(len(indices) for _, indices in plan), 0
        scored: list[Scored] = []
        for source, indices in plan:
            rows = []
            for index in indices:
                reply = yield News("score", done=done, total=total, text=f"Scoring '{source.name}'")
                if reply:
                    return Scores(tuple(scored), data_range, stopped=True)
                name = source.name if len(indices) == 1 else f"{source.name} {in_words(index)}"
                rows.append(self._row(name, replace(source, index=index), data_range, perceptual))
                done += 1
            try:
                scored.append((yield from self._scored(source, rows)))
            except Stopped:
                return Scores(tuple(scored), data_range, stopped=True)
        return Scores(tuple(scored), data_range)

    def _scored(self, source: Source, rows: Sequence[Row]) -> Generator[News, str | None, Scored]:
        """Return the scores of a layer from those of its slices, with its flicker if it is a time series."""
        from napari_fidelity import metrics

        if len(rows) == 1:
            return Scored(rows[0])
        measured = self.measurement if getattr(self.operator, "shares_grid", True) else None
        value, ratio = yield from flicker_scores(source, self.reference, measured)
        mean = replace(metrics.mean_row(source.name, rows), flicker=value, flicker_ratio=ratio)
        return Scored(mean, tuple(rows))

    def _row(self, name: str, source: Source, data_range: float, perceptual: bool) -> Row:
        """Score one slice; what cannot be had becomes a note, and the rest stands."""
        from napari_fidelity import metrics

        numbers: dict[str, float] = {}
        notes: list[str] = []
        options = self.settings
        try:
            image = pixels(source)
        except FidelityError as error:
            return metrics.Row(name, notes=(str(error),))
        if self.reference is not None:
            try:
                row = metrics.compare(
                    {name: image}, pixels(at(self.reference, source.index)), data_range=data_range,
                    channels=options.channels, crop=options.crop, rounded=options.rounded, perceptual=perceptual,
                )[0]  # fmt: skip
                numbers |= {score: getattr(row, score) for score in ("psnr", "ssim", "lpips")}
                notes += row.notes
            except FidelityError as error:
                notes.append(f"PSNR and SSIM: {error}")
        if self.measurement is not None and not self.is_measurement(source):
            try:
                left = self.left_over(source, at(self.measurement, source.index))
                size = math.sqrt(float(np.nanmean(left**2)))
                numbers["residual"] = size
                numbers["lr_psnr"] = math.inf if size == 0 else 20 * math.log10(data_range / size)
            except FidelityError as error:
                notes.append(f"residual: {error}")
        return metrics.Row(name, **numbers, notes=tuple(notes))

    def is_measurement(self, source: Source) -> bool:
        """Whether an image is the measurement itself, which has nothing to explain."""
        return self.measurement is not None and source.data is self.measurement.data

    def left_over(self, image: Source, measurement: Source) -> NDArray[np.float64]:
        """Return ``A x − y``; pixels where the measurement is no number were not observed, and stay so."""
        from napari_fidelity import metrics

        assert self.operator is not None
        y = pixels(measurement)
        seen = np.isfinite(y)
        left = metrics.residual_image(pixels(image), np.where(seen, y, 0), self.operator)
        left[~seen] = np.nan
        return left

    def _positions(self, source: Source) -> list[Index]:
        """Return the slices of a layer to go through."""
        return positions(source) if self.settings.every_slice else [source.index]

    def _data_range(self) -> Generator[News, str | None, float]:
        """Return the range that the slices of the reference, or else of the measurement, suggest."""
        from napari_fidelity import metrics

        source = self.reference or self.measurement
        assert source is not None
        if np.dtype(source.data.dtype) == np.uint8:
            return metrics.data_range_of(np.zeros(1, source.data.dtype))
        ends: list[float] = []
        for index in self._positions(source):
            if (yield News("range", text=f"Reading '{source.name}'")):
                raise Stopped
            data = pixels(replace(source, index=index))
            finite = data[np.isfinite(data)]
            ends += [float(finite.min()), float(finite.max())] if finite.size else []
        return metrics.data_range_of(np.array(ends)) if ends else 1.0


def load_libraries() -> None:
    """Import what scores need, so that the first comparison does not wait for it."""
    import skimage.metrics  # noqa: F401
    import torch  # noqa: F401

    from napari_fidelity import metrics

    metrics.lpips_available()  # imports it where it is installed
