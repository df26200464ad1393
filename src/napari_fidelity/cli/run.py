"""``run``: replay a recipe."""

from __future__ import annotations

from pathlib import Path

from napari_fidelity.cli._options import RunningModel, Writing


def run(
    recipe: Path,
    source: Path,
    target: Path,
    /,
    *,
    axes: str | None = None,
    running: RunningModel = RunningModel(),
    writing: Writing = Writing(),
) -> int:
    """Replay a recipe on an image: the same input on the same device gives the same result, bit by bit.

    For example: napari-fidelity correct in.tif out.tif --model edsr-s-x4 --recipe recipe.json, and later
    napari-fidelity run recipe.json other.tif other-out.tif

    Parameters
    ----------
    recipe
        A recipe or a provenance record, .json or .toml.
    source
        The measurement.
    target
        Where to write the result.
    axes
        Axes of the file where it does not name them, such as ZYX.
    """
    from napari_fidelity.cli._on_file import run_recipe_on_file
    from napari_fidelity.pipeline import Recipe

    return run_recipe_on_file(Recipe.read(recipe), source, target, running, writing, axes=axes)
