"""The numbers of a map on the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from napari_fidelity.cli._console import out
from napari_fidelity.cli._on_file import kept

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.step import Result
    from napari_fidelity.pipeline import Recipe

_DATA = {
    "residual": "residual, root mean square",
    "rse": "RSE (residual with gain and offset fitted)",
    "rsp": "RSP (correlation of data and prediction)",
    "whiteness": "whiteness of the residual (1: white noise)",
    "whiteness_p": "its p-value",
}
_COLUMNS = {"spearman": "Spearman, pixels", "spearman_block": "Spearman, 8×8 blocks", "ause": "AUSE"}
_ROWS = {"map": "this map", "control": "control: edges of the image"}
_WHITE = 0.01  # p-value below which a residual is said to have structure


def print_report(
    result: Result[Image],
    files: dict[str, Path],
    numbers: dict[str, Any],
    recipe: Recipe,
    *,
    interrupted: bool,
) -> None:
    """Print what was written, how well the image explains its data, and how well the map tells the errors."""
    target, *others = files.values()
    title = getattr(recipe.method, "title", "")
    said = f"{kept(interrupted)}{target}: {title}; {result.stop_reason}, {result.seconds:.1f} s"
    out.print(said, markup=False)
    if others:
        out.print("Beside it: " + ", ".join(path.name for path in others), markup=False)
    out.print(_sizes(result))
    out.print(_data(numbers["data"]))
    if numbers["data"].get("whiteness_p", 1) < _WHITE:
        out.print("The residual is not white: the image lacks structure of the data, or follows their noise.")
    for table in _truth(numbers.get("truth", {})):
        out.print(table)


def _sizes(result: Result[Image]) -> Table:
    table = _table("image", "mean", "median", "99th percentile of the size")
    for name, image in result.maps.items():
        known = image.data[np.isfinite(image.data)]
        table.add_row(name, *(_sizes_of(known) if known.size else ["–"] * 3))
    return table


def _sizes_of(known: NDArray[Any]) -> list[str]:
    values = (known.mean(), np.median(known), np.percentile(np.abs(known), 99))
    return [f"{value:.4g}" for value in values]


def _data(found: dict[str, float]) -> Table:
    table = _table("the image and its data", "")
    for name, words in _DATA.items():
        if name in found:
            table.add_row(words, f"{found[name]:.4g}")
    return table


def _truth(found: dict[str, dict[str, float]]) -> list[Table]:
    """Return the tables about the true errors."""
    tables = []
    if "map" in found:
        table = _table("the map and the true errors", *_COLUMNS.values())
        for row, words in _ROWS.items():
            table.add_row(words, *(_cell(found[row].get(name)) for name in _COLUMNS))
        table.add_row("correlation of both, pixels", _cell(found["alike"].get("alike")))
        table.add_row("of map and error beyond edges", _cell(found["alike"].get("beyond")))
        tables.append(table)
    sizes = found.get("intervals", {}) | found.get("size", {})
    if sizes:
        table = _table("the size of the errors", "")
        if "coverage" in sizes:
            table.add_row("true values within the intervals", f"{100 * sizes['coverage']:.1f} %")
            table.add_row("mean width of the intervals", f"{sizes['width']:.4g}")
        if "calibration_error" in sizes:
            table.add_row("calibration error of the standard deviation", _cell(sizes["calibration_error"]))
        tables.append(table)
    return tables


def _table(first: str, *heads: str) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    table.add_column(first, overflow="fold")
    for head in heads:
        table.add_column(head, justify="right")
    return table


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
