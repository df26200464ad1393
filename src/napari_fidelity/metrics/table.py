"""The table of several images against one reference."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_fidelity.core.errors import FidelityError, OptionError
from napari_fidelity.metrics.data import residual
from napari_fidelity.metrics.perceptual import lpips
from napari_fidelity.metrics.reference import psnr, ssim

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike

    from napari_fidelity.metrics.data import Forward
    from napari_fidelity.metrics.reference import Channels


@dataclass(frozen=True, slots=True)
class Row:
    """The numbers of one image; NaN where there is none, with the reason among the notes.

    Attributes
    ----------
    name
        Of the image.
    psnr, ssim
        Against the reference; PSNR in dB.
    residual, lr_psnr
        Against the measurement: root mean square in its units, and as PSNR in dB.
    lpips
        Against the reference.
    flicker, flicker_ratio
        Of a time series: standard deviation over time where nothing moves, in intensity units, and over that of
        the measurement (:func:`~napari_fidelity.metrics.flicker`).
    notes
        Why a number is missing.
    """

    name: str
    psnr: float = math.nan
    ssim: float = math.nan
    residual: float = math.nan
    lr_psnr: float = math.nan
    lpips: float = math.nan
    flicker: float = math.nan
    flicker_ratio: float = math.nan
    notes: tuple[str, ...] = ()

    def to_plain(self) -> dict[str, str | float | list[str]]:
        """Return what there is as plain values; numbers that JSON lacks (infinity) become words."""
        plain: dict[str, str | float | list[str]] = {"name": self.name}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isnan(value):
                plain[field.name] = "infinity" if math.isinf(value) else value
        if self.notes:
            plain["notes"] = list(self.notes)
        return plain


SCORES = tuple(field.name for field in fields(Row) if field.name not in ("name", "notes"))
"""The numbers of a row."""


def compare(
    images: Mapping[str, ArrayLike],
    reference: ArrayLike | None,
    *,
    data_range: float,
    channels: Channels = "rgb",
    crop: int = 0,
    rounded: bool = False,
    measurement: ArrayLike | None = None,
    operator: Forward | None = None,
    perceptual: bool = False,
) -> list[Row]:
    """Score several images.

    Parameters
    ----------
    images
        By name; each ``(H, W)`` or ``(H, W, C)``.
    reference
        The true image; without it only the measurement counts.
    data_range, channels, crop, rounded
        As for :func:`~napari_fidelity.metrics.psnr` (SSIM takes ``"each"`` as ``"rgb"``); LR-PSNR takes
        ``data_range`` too.
    measurement, operator
        What the images were restored from; without both there is no residual.
    perceptual
        Whether to compute LPIPS as well.

    Returns
    -------
    list of Row
        In the order of ``images``. Where SSIM or LPIPS cannot be had (the image is too small, the library is
        missing) it is NaN with a note, and the other numbers stand.

    Raises
    ------
    ShapeError
        If an image does not fit the reference or the measurement.
    NonFiniteError
        If an image holds NaN or infinity.
    """
    if (measurement is None) != (operator is None):
        raise OptionError("A residual needs both the measurement and the operator")
    luma: Literal["rgb", "y", "gray"] = "rgb" if channels == "each" else channels
    rows = []
    for name, image in images.items():
        numbers: dict[str, float] = {}
        notes: list[str] = []
        if reference is not None:
            numbers["psnr"] = psnr(
                image, reference, data_range=data_range, channels=channels, crop=crop, rounded=rounded
            )
            attempts: dict[str, Callable[[], float]] = {
                "ssim": partial(
                    ssim, image, reference, data_range=data_range, channels=luma, crop=crop, rounded=rounded
                )
            }
            if perceptual:
                attempts["lpips"] = partial(lpips, image, reference, data_range=data_range)
            for metric, attempt in attempts.items():
                try:
                    numbers[metric] = attempt()
                except FidelityError as error:
                    notes.append(f"{metric}: {error}")
        if measurement is not None and operator is not None:
            error_size = residual(image, measurement, operator)
            numbers["residual"] = error_size
            numbers["lr_psnr"] = 20 * math.log10(data_range / error_size) if error_size else math.inf
        rows.append(Row(name, **numbers, notes=tuple(notes)))
    return rows


def mean_row(name: str, rows: Sequence[Row]) -> Row:
    """Return the means of an image's slices or frames, of those that have the number."""
    numbers: dict[str, float] = {}
    notes = list(dict.fromkeys(note for row in rows for note in row.notes))
    for score in SCORES:
        values = [value for value in (getattr(row, score) for row in rows) if not math.isnan(value)]
        if values:
            numbers[score] = float(np.mean(values))
        if values and len(values) < len(rows):
            notes.append(f"{score}: mean of {len(values)} of {len(rows)} slices")
    return Row(name, **numbers, notes=tuple(notes))


def data_range_of(image: ArrayLike) -> float:
    """Return the data range an image suggests: 255 for 8 bit, 1 for values in [0, 1], or else their spread.

    That of a wider integer type says nothing: a 16-bit camera seldom fills it, and every PSNR would look high.
    """
    data = np.asarray(image)
    if data.dtype == np.uint8:
        return 255.0
    low, high = float(data.min()), float(data.max())
    if low >= 0 and high <= 1:
        return 1.0
    return high - low or 1.0


def to_csv(rows: Sequence[Row], delimiter: str = ",") -> str:
    """Return the numbers of all rows as text with a line of headings; notes are left out."""
    text = io.StringIO()
    names = [field.name for field in fields(Row) if field.name != "notes"]
    writer = csv.DictWriter(text, names, extrasaction="ignore", delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()
