"""Running a recipe on a file, and writing all images of the result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_fidelity.cli._console import INTERRUPTED, OK, display, out, print_json, set_up_logging

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_fidelity.cli._options import Replacing, Running
    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.step import Result
    from napari_fidelity.pipeline import Recipe


def run_recipe_on_file(
    recipe: Recipe,
    source: Path,
    target: Path,
    running: Running,
    writing: Replacing,
    *,
    axes: str | None = None,
    alpha: Literal["refuse", "drop"] = "refuse",
) -> int:
    """Read, restore and write one image as a recipe says; return the exit code."""
    from napari_fidelity.core.step import drain
    from napari_fidelity.io import read_image
    from napari_fidelity.pipeline import run_recipe

    set_up_logging(quiet=running.silent)
    check_targets(recipe, [source], target, writing)
    chosen = {"seed": running.seed, "threads": running.threads}
    recipe = recipe.replace(**{name: value for name, value in chosen.items() if value is not None})
    image = read_image(source, axes, alpha=alpha)
    check_format(recipe, image, target, writing.dtype)
    with display(source.name, quiet=running.silent, stop=recipe.stop) as show:
        result = drain(
            run_recipe(recipe, image, device=running.device, dtype=writing.dtype, trust=running.trust), show
        )
    files = write_all(result, target, writing)
    _report(result, files, running, interrupted=show.interrupt.requested)
    return INTERRUPTED if show.interrupt.requested else OK


def check_targets(recipe: Recipe, sources: Sequence[Path | None], target: Path, writing: Replacing) -> None:
    """Refuse early what could not be written after the work is done.

    Parameters
    ----------
    recipe
        What is to be run.
    sources
        The measurement, and further images that are read.
    target, writing
        Where and how to write.

    Raises
    ------
    OutputError
        If a file exists and may not be replaced, its folder is missing, or it is one of the images that are read.
    RecipeError
        If the recipe's file has no known extension.
    """
    from napari_fidelity.core.errors import OutputError
    from napari_fidelity.io import check_output
    from napari_fidelity.pipeline.recipe import outputs_of

    measurement, *others = [None if path is None else path.expanduser().resolve() for path in sources]
    for path in targets(target, outputs_of(recipe)).values():
        full = check_output(path, overwrite=writing.overwrite)
        if full == measurement or full in others:
            which = "the measurement itself" if full == measurement else "an image that is read"
            raise OutputError(f"'{path}' is {which}", do="Choose another name for the result")
    if writing.recipe is not None:
        recipe.dumps(writing.recipe)
        check_output(writing.recipe, overwrite=writing.overwrite)


def targets(target: Path, outputs: Iterable[str]) -> dict[str, Path]:
    """Return the file of each image that a map makes, by name: the first one's is the target.

    The others lie beside it: ``map.ome.tif``, ``map-mean.ome.tif`` …
    """
    stem, dot, extensions = target.name.partition(".")
    if target.suffix and not target.name.lower().endswith((".ome.tif", ".ome.tiff")):
        stem, dot, extensions = target.stem, "", target.suffix
    names = list(outputs)[1:]
    beside = {name: target.with_name(f"{stem}-{name}{dot}{extensions}") for name in names}
    return {next(iter(outputs), ""): target, **beside}


def write_all(result: Result[Image], target: Path, writing: Replacing) -> dict[str, Path]:
    """Write the result, all images of a map and the recipe; return the images' files by name."""
    from napari_fidelity.io import atomic_write, write_image
    from napari_fidelity.pipeline.recipe import outputs_of

    images = dict(result.maps) or {"": result.image}
    files = targets(target, outputs_of(replayed(result)))
    for name, image in images.items():
        write_image(image, files[name], overwrite=writing.overwrite)
    if writing.recipe is not None:
        text = replayed(result).dumps(writing.recipe)
        with atomic_write(writing.recipe, overwrite=writing.overwrite) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return {name: files[name] for name in images}


def replayed(result: Result[Image]) -> Recipe:
    """Return the recipe in a result's provenance, with the model's hash and the software's versions."""
    from napari_fidelity.pipeline import Recipe

    return Recipe.parse(result.provenance["recipe"])


def _report(result: Result[Image], files: dict[str, Path], running: Running, *, interrupted: bool) -> None:
    from napari_fidelity.metrics import noise_left
    from napari_fidelity.uncertainty.base import judged_method

    target, *others = files.values()
    if running.json:
        beside = {"outputs": {name: str(path) for name, path in files.items()}} if others else {}
        print_json({"output": str(target), **beside, "interrupted": interrupted, **result.provenance})
        return
    scores = result.history[-1].scores if result.history else {}
    method = replayed(result).method
    # fine-tuning scores its images before the projection, which fits exactly
    when = " before the projection" if method.kind == "finetune" else ""
    fit = f", LR-PSNR{when} {scores['lr_psnr']:.2f} dB" if "lr_psnr" in scores else ""
    noise = noise_left(result.history) if not method.reads_measurement and not result.maps else ""
    tile = getattr(judged_method(method), "tile", None)
    tiles = "" if tile is None else f", in tiles of {tile} px"
    said = f"{kept(interrupted)}{target}: {result.stop_reason}, {result.seconds:.1f} s{tiles}{fit}"
    out.print(f"{said}. {noise}" if noise else said, markup=False)
    if others:
        out.print("Beside it: " + ", ".join(path.name for path in others), markup=False)


def kept(interrupted: bool) -> str:
    """Return what to say first where Ctrl-C ended a run."""
    return "Interrupted; the best result so far is written. " if interrupted else ""


def check_format(recipe: Recipe, image: Image, target: Path, dtype: str) -> None:
    """Write one pixel of each plane as the result will be written: a format that cannot hold it is refused now.

    Raises
    ------
    OutputError
        If the format cannot hold the result.
    """
    from tempfile import TemporaryDirectory

    import numpy as np

    from napari_fidelity.core.errors import OutputError
    from napari_fidelity.io import write_image
    from napari_fidelity.pipeline.memory import result_sizes
    from napari_fidelity.pipeline.recipe import outputs_of

    sizes = {axis: 1 if axis in "YX" else n for axis, n in result_sizes(recipe, image).items()}
    as_asked = image.dtype if dtype == "input" else dtype
    data = np.zeros([*sizes.values()], "float32" if outputs_of(recipe) else as_asked)
    pixel = image.replace(data=data, axes="".join(sizes))
    with TemporaryDirectory() as folder:
        trial = Path(folder) / target.name
        try:
            write_image(pixel, trial)
        except OutputError as error:
            what = error.what.replace(str(trial), str(target))
            raise OutputError(what, found=error.found, do=error.do) from None
