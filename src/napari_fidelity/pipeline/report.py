"""Numbers about a restored image and its map: what the measurement says, and, where it is known, the truth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_fidelity.core.blocks import planes
from napari_fidelity.core.errors import OptionError, ShapeError
from napari_fidelity.core.units import units
from napari_fidelity.metrics import coverage, evaluate_map, reliability, squirrel, whiteness, width
from napari_fidelity.pipeline._observed import observed_part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.blocks import Block
    from napari_fidelity.core.step import Result
    from napari_fidelity.pipeline.recipe import Recipe

Report = dict[str, float]


def data_report(restored: Image, measurement: Image, recipe: Recipe) -> Report:
    """Return how well a restored image explains its measurement; means over slices or volumes.

    Parameters
    ----------
    restored
        Finite intensities.
    measurement
        What it was restored from; pixels that are not finite count as unobserved.
    recipe
        Its image formation model, and whether it is of slices or volumes.

    Returns
    -------
    dict
        ``rse`` and ``rsp``: resolution-scaled error, in the measurement's intensity units, and correlation (Culley
        et al. 2018, doi:10.1038/nmeth.4605); ``residual``: root mean square of ``y − A x̂``, in these units;
        ``whiteness``: 1 for a residual without structure, with its p-value ``whiteness_p``.

    Raises
    ------
    OptionError
        If the recipe names no image formation model.
    ShapeError
        If the restored image does not belong to the measurement.
    """
    operator = recipe.operator
    if operator is None:
        raise OptionError("The recipe names no image formation model", do="Give one (--operator)")
    filled, observed = observed_part(measurement, operator, recipe.replace(nonfinite="mask"))
    known = filled.data if observed is None else np.where(observed, filled.data, np.nan)
    predicted = planes(_simulated(restored, recipe), recipe.spatial)
    measured = planes(measurement.replace(data=np.asarray(known, np.float64)), recipe.spatial)
    if [block.data.shape for block in predicted] != [block.data.shape for block in measured]:
        raise ShapeError(
            "The restored image does not belong to the measurement",
            found=f"{restored.shape} beside {measurement.shape}",
            do="Give the result of this very measurement, or another image formation model",
        )
    dims = dimensions(recipe)
    return means([_data_numbers(*pair, dims) for pair in zip(predicted, measured, strict=True)])


def truth_report(maps: Mapping[str, Image], restored: Image, truth: Image, recipe: Recipe) -> dict[str, Report]:
    """Return how well a map tells the true errors, beside the control; means over slices or volumes.

    Parameters
    ----------
    maps
        The map's images by name, the map itself first.
    restored
        The image that was judged.
    truth
        The true image, of its shape; NaN where it is not known.
    recipe
        Whether they are slices or volumes.

    Returns
    -------
    dict
        ``"map"`` and ``"control"`` (local gradient magnitude), each with Spearman's correlation with the absolute
        error by pixel and by block, and AUSE; ``"alike"``: Spearman's correlation of the two, and ``beyond``,
        what the map knows beyond edges. Of a map on the measurement's grid nothing. ``"intervals"``:
        coverage and width, where there are any; ``"size"``: the expected normalised calibration error of a
        standard deviation, 0 where errors are as large as it says.

    Raises
    ------
    ShapeError
        If truth and restored image have different shapes.
    """
    check_truth(truth, restored)
    name, main = next(iter(maps.items()))
    report: dict[str, Report] = {}
    dims = dimensions(recipe)
    x, true = (_arrays(image, recipe) for image in (restored, truth))
    errors = [a - b for a, b in zip(x, true, strict=True)]
    if main.shape == restored.shape:
        doubts = _arrays(main, recipe)
        found = [
            evaluate_map(np.abs(doubt), error, image, spatial_dims=dims)
            for doubt, error, image in zip(doubts, errors, x, strict=True)
        ]
        report |= _beside([one.to_plain() for one in found])
        if name == "std":
            pairs = zip(doubts, errors, strict=True)
            report["size"] = means([{"calibration_error": reliability(*pair).calibration_error} for pair in pairs])
    if {"lower", "upper"} <= maps.keys():
        ends = maps["lower"].data, maps["upper"].data
        report["intervals"] = {"coverage": coverage(*ends, truth.data), "width": width(*ends)}
    return report


def check_truth(truth: Image, restored: Image) -> None:
    """Raise :class:`ShapeError` where a truth does not have the restored image's shape and axes."""
    if truth.shape != restored.shape or truth.axes != restored.axes:
        raise ShapeError(
            "The truth must have the restored image's shape and axes",
            found=f"{truth.shape} ({truth.axes}) beside {restored.shape} ({restored.axes})",
        )


def scores_by_block(result: Result[Image], blocks: Sequence[Block]) -> dict[int, Report]:
    """Return the scores that each slice or volume of a run ended with, by its number.

    Frames that were restored together have the same; ``blocks`` are all slices or volumes of the image.
    """
    together = result.provenance.get("series", {})
    scores = {record.block: dict(record.scores) for record in result.history}
    return {
        number: scores[at]
        for at, unit in enumerate(units(blocks, **together))
        if at in scores
        for number in unit.kept()
    }


def means(numbers: Sequence[Mapping[str, float | None]]) -> Report:
    """Return the mean of each number over those records that have it; what is not finite is left out.

    Of p-values (``…_p``) there is no mean: the least one counts, times their number (Bonferroni).
    """
    found: Report = {}
    for name in dict.fromkeys(name for one in numbers for name in one):
        values = [one[name] for one in numbers if name in one]
        finite = [value for value in values if value is not None and math.isfinite(value)]
        if finite:
            found[name] = min(1.0, len(finite) * min(finite)) if name.endswith("_p") else float(np.mean(finite))
    return found


def dimensions(recipe: Recipe) -> Literal[2, 3]:
    """Return how many spatial axes a block of a recipe's images has."""
    return 3 if recipe.spatial == "ZYX" else 2


def _simulated(restored: Image, recipe: Recipe) -> Image:
    from napari_fidelity.pipeline.simulation import simulate  # not before it is needed: it loads torch

    assert recipe.operator is not None
    steps = simulate(restored, recipe.operator, recipe.spatial)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            image: Image = end.value
            return image


def _data_numbers(predicted: Block, measured: Block, dims: Literal[2, 3]) -> Report:
    seen, known = (np.moveaxis(np.asarray(block.data, np.float64), 0, -1) for block in (predicted, measured))
    found = squirrel(seen, known)
    left = known - seen
    rms = math.sqrt(float(np.nanmean(left**2)))
    numbers = {"rse": found.rse, "rsp": found.rsp, "residual": rms}
    if max(left.shape[:-1]) > 1:
        white = whiteness(left, spatial_dims=dims)
        numbers |= {"whiteness": white.ratio, "whiteness_p": white.p_value}
    return numbers


def _beside(scores: Sequence[Mapping[str, float | None]]) -> dict[str, Report]:
    """Return the numbers of maps, of their controls, and of both."""
    all_means = means(scores)
    names = ("spearman", "spearman_block", "ause")
    return {
        "map": {name: all_means[name] for name in names if name in all_means},
        "control": {name: all_means[f"control_{name}"] for name in names if f"control_{name}" in all_means},
        "alike": {name: all_means[name] for name in ("alike", "beyond") if name in all_means},
    }


def _arrays(image: Image, recipe: Recipe) -> list[NDArray[Any]]:
    """Return the slices or volumes of an image, channels last."""
    blocks = planes(image, recipe.spatial)
    return [np.moveaxis(np.asarray(block.data, np.float64), 0, -1) for block in blocks]
