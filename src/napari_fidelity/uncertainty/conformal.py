"""Intervals with a stated coverage, from a few images whose truth is known.

A standard deviation map says where errors are large, not how large. What it has to be multiplied with is found on
calibration images: the smallest factor with which at most ``1 − level`` of the pixels of the next image like them
lie outside ``x̂ ± factor · std``, on average (conformal risk control: Angelopoulos, Bates, Fisch, Lei and Schuster
2022, arXiv:2208.02814, with the loss of Angelopoulos et al. 2022, arXiv:2202.05265: the share of an image's pixels
outside). For ``n`` images it is the smallest one whose shares ``r_i`` obey ``(Σ r_i + 1) / (n + 1) ≤ 1 − level``;
the 1 stands for the next image. The pixels of an image hang together; images must not.

The guarantee ends where the next image is not like them, which :meth:`Calibration.shift` looks for.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import numpy as np
from pydantic import Field, model_validator

from napari_fidelity.core.errors import OptionError, RecipeError
from napari_fidelity.core.options import Array, Options
from napari_fidelity.uncertainty._conformal import LEVELS, believed, covered, needed, smallest_factor
from napari_fidelity.uncertainty._made_for import plain_operator, settings_of, sha256_of
from napari_fidelity.uncertainty.shift import STATISTICS, Shift, Verdict, compare

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from napari_fidelity.uncertainty.base import UncertaintyMap

    Values = TypeVar("Values", NDArray[Any], torch.Tensor)


@dataclass(frozen=True)
class Pair:
    """A restored image with its map beside the truth.

    Attributes
    ----------
    estimate, std, truth
        The judged image, its standard deviation map and the truth: any shape, the same for all three, in the same
        intensity units. NaN in the truth marks pixels where it is not known.
    statistics
        Scores of the map's last step, of which those of :data:`STATISTICS` are kept.
    """

    estimate: NDArray[Any]
    std: NDArray[Any]
    truth: NDArray[Any]
    statistics: Mapping[str, float]


class Calibration(Options):
    """What standard deviation maps of one recipe have to be multiplied with, made by :func:`calibrate`.

    Raises
    ------
    OptionError
        If the numbers do not fit each other.
    """

    format: Literal[1] = Field(1, description="Version of this document's format.")
    map: dict[str, Any] = Field(description="The map with its options, and the method that it judges.")
    operator: dict[str, Any] | None = Field(
        None, description="Image formation model; left out, any, or one that only code can give."
    )
    model: str | None = Field(None, description="SHA-256 of the network; left out, any.")
    factors: Array = Field(
        description="For each image a row: the factor that covers each of LEVELS of its pixels."
    )
    statistics: dict[str, tuple[float, ...]] = Field(
        {}, description="Numbers by which a new image is compared with these, one for each image."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.factors.ndim != 2 or not len(self.factors) or self.factors.shape[1] != len(LEVELS):
            raise ValueError(f"factors need {len(LEVELS)} columns, found shape {self.factors.shape}")
        if (self.factors < 0).any() or (np.diff(self.factors, axis=1) < 0).any():
            raise ValueError("factors must rise along each row, from 0 upward")
        if any(len(numbers) != len(self.factors) for numbers in self.statistics.values()):
            raise ValueError(f"statistics need a number for each of {len(self.factors)} images")
        return self

    @property
    def count(self) -> int:
        """Number of calibration images."""
        return len(self.factors)

    def guaranteed(self, level: float) -> bool:
        """Return whether there are images enough to guarantee this coverage: ``level / (1 − level)``."""
        return (1 - level) * (self.count + 1) >= 1 - 1e-9

    def factor(self, level: float) -> float:
        """Return what the standard deviation has to be multiplied with.

        Parameters
        ----------
        level
            Share of the pixels that the intervals are to cover, between 0 and 1. Where too few images guarantee
            it, the factor is that with which it is covered in them.
        """
        return smallest_factor(self.factors, level, correct=self.guaranteed(level))

    def cross_fit(self, level: float) -> NDArray[np.float64]:
        """Return the coverage of each image by the factor found from the others; of a single image NaN."""
        if self.count < 2:
            return np.full(1, np.nan)
        correct = (1 - level) * self.count >= 1 - 1e-9
        rest = (np.delete(self.factors, i, axis=0) for i in range(self.count))
        found = (smallest_factor(rows, level, correct=correct) for rows in rest)
        return np.array([covered(row[None], one)[0] for row, one in zip(self.factors, found, strict=True)])

    def shift(self, statistics: Mapping[str, float]) -> Shift:
        """Compare a new image with the calibration images, see :func:`napari_fidelity.uncertainty.shift.compare`.

        Parameters
        ----------
        statistics
            Scores of the map's last step; others than those of :data:`STATISTICS` are ignored.
        """
        return compare(self.statistics, statistics)

    def verdict(self, level: float, statistics: Mapping[str, float], differences: Sequence[str] = ()) -> Verdict:
        """Say whether the coverage of an image's intervals is guaranteed.

        It is not where nothing tells whether the image is like those calibrated on.

        Parameters
        ----------
        level
            Share of the pixels that are to lie within.
        statistics
            As for :meth:`shift`.
        differences
            What :meth:`differences` says of the image formation model and the network that made the image.
        """
        shift = self.shift(statistics)
        percent = f"{100 * level:g} %"
        reasons = [*differences]
        if shift.void:
            reasons.append(f"{shift.words} (p = {shift.p_value:.1g})")
        if not shift.tested:
            reasons.append(f"not tested whether the image is like those calibrated on: {shift.words}")
        if not self.guaranteed(level):
            needed = math.ceil(level / (1 - level) - 1e-9)
            reasons.append(f"{percent} needs at least {needed} calibration images, there are {self.count}")
        if reasons:
            return Verdict(False, "guarantee void: " + "; ".join(reasons), shift)
        words = (
            f"intervals cover {percent} of the pixels, on average over images like the {self.count} calibrated on"
        )
        return Verdict(True, words, shift)

    def differences(self, operator: object = None, model: object = None) -> list[str]:
        """Say why an image that was made by them is none that the calibration is for; empty if it is.

        Parameters
        ----------
        operator, model
            Image formation model and network.
        """
        reasons = []
        # an operator holds arrays: it is put into words only where the calibration names one
        if self.operator is not None and plain_operator(operator) != self.operator:
            reasons.append("the calibration belongs to another image formation model")
        if self.model is not None and model is not None and sha256_of(model) != self.model:
            reasons.append("the calibration belongs to another network")
        return reasons

    def check(self, options: UncertaintyMap, *, method: bool = True) -> None:
        """Refuse a map that the calibration was not made for.

        Parameters
        ----------
        options
            The map.
        method
            Whether to look at the method that it judges, too.

        Raises
        ------
        OptionError
            If the map, its options or the method are others.
        """
        other = settings_of(options)
        names = sorted({*self.map, *other} - (set() if method else {"of"}))
        different = [name for name in names if self.map.get(name) != other.get(name)]
        if different:
            raise OptionError(
                f"The calibration belongs to another map ({self.map.get('kind')})",
                found=", ".join(f"another '{name}'" + " (the method)" * (name == "of") for name in different),
                do="Choose the settings it was made with, or calibrate again",
            )

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write it as a JSON document.

        Raises
        ------
        OutputError
            If the file exists and may not be replaced, or cannot be written.
        """
        from napari_fidelity.io import atomic_write

        with atomic_write(path, overwrite=overwrite) as file:
            file.write_text(self.model_dump_json(indent=1, exclude_none=True) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        RecipeError
            If the file is missing, unreadable or holds no calibration.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(values, dict):
                raise ValueError("it holds no table of settings")
            return cls.parse(values)
        except (OSError, ValueError, OptionError) as error:
            raise RecipeError(
                f"The calibration '{path}' cannot be read",
                found=str(error),
                do="Give a file that 'napari-fidelity calibrate' wrote",
            ) from error


def calibrate(
    pairs: Sequence[Pair], options: UncertaintyMap, *, operator: object = None, model: str | None = None
) -> Calibration:
    """Find what a standard deviation map has to be multiplied with.

    Parameters
    ----------
    pairs
        Images with their truth, which neither network nor settings were fitted to; at least
        ``level / (1 − level)``, 9 for 90 %, and better several times as many.
    options
        The map.
    operator
        The image formation model, if one alone.
    model
        SHA-256 of the network, if one alone.

    Raises
    ------
    OptionError
        If there is no image.
    ShapeError
        If the arrays of a pair have different shapes or no truth.
    NonFiniteError
        If an estimate or a map holds NaN or infinity.
    """
    if not pairs:
        raise OptionError(
            "A calibration needs images whose truth is known", do="Give at least one; 10 or more are better"
        )
    factors = np.stack([needed(pair.estimate, pair.std, pair.truth) for pair in pairs])
    common = [name for name in STATISTICS if all(name in pair.statistics for pair in pairs)]
    return Calibration(
        map=settings_of(options),
        operator=plain_operator(operator),
        model=model,
        factors=factors,
        statistics={name: tuple(float(pair.statistics[name]) for pair in pairs) for name in common},
    )


def intervals(
    estimate: Values, std: Values, calibration: Calibration, level: float = 0.9
) -> tuple[Values, Values]:
    """Return the lower and the upper end of every pixel's interval.

    Parameters
    ----------
    estimate, std
        The judged image and its standard deviation map, arrays or tensors of one shape and unit.
    calibration
        Of this map and method.
    level
        Share of the pixels that are to lie within, between 0 and 1.
    """
    half = calibration.factor(level) * believed(std)
    return estimate - half, estimate + half
