"""``correct`` and ``project``: a measurement in, an image that answers to it out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from napari_fidelity.cli._console import INTERRUPTED, OK, display, out, print_json, set_up_logging
from napari_fidelity.cli._files import read_operator
from napari_fidelity.cli._options import METHOD, Formation, Running, Writing, given, table_of
from napari_fidelity.core.options import Options
from napari_fidelity.methods import FineTune, Project

if TYPE_CHECKING:
    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.step import Result
    from napari_fidelity.pipeline import Recipe

FineTuneTable = table_of(FineTune, leave_out=("kind", "snapshots"), mask=str)
ProjectTable = table_of(Project)


def correct(
    source: Path,
    target: Path,
    /,
    *,
    model: str,
    scale: int | None = None,
    preset: Literal["default", "lucas2020"] = "default",
    stop: str | None = None,
    options: Annotated[FineTuneTable, Parameter(name="*", group=METHOD)] = FineTuneTable(),  # type: ignore[valid-type]
    formation: Formation = Formation(),
    running: Running = Running(),
    writing: Writing = Writing(),
) -> int:
    """Fine-tune a restoration network on one image until its output explains the measurement.

    For example: napari-fidelity correct lowres.tif restored.tif --model edsr-s-x4

    Parameters
    ----------
    source
        The measurement: TIFF (plain, ImageJ, OME), PNG or JPEG.
    target
        Where to write the corrected image.
    model
        Id of a bundled model (see the command models) or a model file.
    scale
        Adapt a model trained for another scale to this one.
    preset
        Settings to start from; lucas2020 are the published ones.
    stop
        Stopping rule: settled, discrepancy, held_out, lr_psnr, lr_psnr_level, lr_lpips or budget, with options
        as in budget:seconds=10, joined by + where several. Left out: the method stops by itself.
    """
    table = given(options)
    if table.get("mask", "none") not in ("none", "edges"):
        table["mask"] = _read_mask(table["mask"])
    method = FineTune.lucas2020(**table) if preset == "lucas2020" else FineTune(**table)
    return restore_file(source, target, method, model, scale, stop, formation, running, writing)


def project(
    source: Path,
    target: Path,
    /,
    *,
    model: str,
    scale: int | None = None,
    options: Annotated[ProjectTable, Parameter(name="*", group=METHOD)] = ProjectTable(),  # type: ignore[valid-type]
    formation: Formation = Formation(),
    running: Running = Running(),
    writing: Writing = Writing(),
) -> int:
    """Change a network's output as little as possible so that it explains the measurement.

    For example: napari-fidelity project lowres.tif restored.tif --model edsr-s-x4

    Parameters
    ----------
    source
        The measurement: TIFF (plain, ImageJ, OME), PNG or JPEG.
    target
        Where to write the projected image.
    model
        Id of a bundled model (see the command models) or a model file.
    scale
        Adapt a model trained for another scale to this one.
    """
    return restore_file(source, target, Project(**given(options)), model, scale, None, formation, running, writing)


def restore_file(
    source: Path,
    target: Path,
    method: Options,
    model: str,
    scale: int | None,
    stop: str | None,
    formation: Formation,
    running: Running,
    writing: Writing,
) -> int:
    """Read, restore and write one image with a method; return the exit code."""
    from napari_fidelity.io import check_output, list_models
    from napari_fidelity.operators import Downsample, parse_noise
    from napari_fidelity.pipeline import ModelReference, Recipe
    from napari_fidelity.pipeline.restoration import load_reference
    from napari_fidelity.stopping import parse_stop

    set_up_logging(quiet=running.silent)
    check_output(target, overwrite=writing.overwrite)
    reference = ModelReference(name=model, scale=scale)
    if formation.operator is not None:
        operator = read_operator(formation.operator)
    else:
        known = {info.id: info.scale for info in list_models()}
        operator = Downsample(scale=scale or known.get(model) or load_reference(reference).scale)
    noise = parse_noise(formation.noise) if formation.noise else None
    recipe = Recipe(
        operator=operator,
        noise=noise,
        method=method,
        stop=parse_stop(stop) if stop else None,
        model=reference,
        seed=running.seed,
        **formation.recipe_fields(),
    )
    return run_recipe_on_file(recipe, source, target, running, writing, axes=formation.axes, alpha=formation.alpha)


def run_recipe_on_file(
    recipe: Recipe,
    source: Path,
    target: Path,
    running: Running,
    writing: Writing,
    *,
    axes: str | None = None,
    alpha: Literal["refuse", "drop"] = "refuse",
) -> int:
    """Read, restore and write one image as a recipe says; return the exit code."""
    from napari_fidelity.core.errors import OutputError
    from napari_fidelity.core.step import drain
    from napari_fidelity.io import atomic_write, check_output, read_image, write_image
    from napari_fidelity.pipeline import run_recipe

    set_up_logging(quiet=running.silent)
    if check_output(target, overwrite=writing.overwrite) == source.expanduser().resolve():
        raise OutputError(f"'{target}' is the measurement itself", do="Choose another name for the result")
    if writing.recipe is not None:
        recipe.dumps(writing.recipe)
        check_output(writing.recipe, overwrite=writing.overwrite)
    if running.threads is not None:
        recipe = recipe.replace(threads=running.threads)
    image = read_image(source, axes, alpha=alpha)
    _check_format(recipe, image, target, writing.dtype)
    with display(source.name, quiet=running.silent, stop=recipe.stop) as show:
        result = drain(run_recipe(recipe, image, device=running.device, dtype=writing.dtype), show)
    write_image(result.image, target, overwrite=writing.overwrite, provenance=result.provenance)
    if writing.recipe is not None:
        text = replayed(result).dumps(writing.recipe)
        with atomic_write(writing.recipe, overwrite=writing.overwrite) as temporary:
            temporary.write_text(text, encoding="utf-8")
    _report(result, target, running, interrupted=show.interrupt.requested)
    return INTERRUPTED if show.interrupt.requested else OK


def replayed(result: Result[Image]) -> Recipe:
    """Return the recipe in a result's provenance, with the model's hash and the software's versions."""
    from napari_fidelity.pipeline import Recipe

    return Recipe.parse(result.provenance["recipe"])


def _report(result: Result[Image], target: Path, running: Running, *, interrupted: bool) -> None:
    from napari_fidelity.metrics import noise_left

    if running.json:
        print_json({"output": str(target), "interrupted": interrupted, **result.provenance})
        return
    scores = result.history[-1].scores if result.history else {}
    method = replayed(result).method
    # fine-tuning scores its images before the projection, which fits exactly
    when = " before the projection" if method.kind == "finetune" else ""
    fit = f", LR-PSNR{when} {scores['lr_psnr']:.2f} dB" if "lr_psnr" in scores else ""
    noise = noise_left(result.history) if not method.reads_measurement else ""
    kept = "Interrupted; the best result so far is written. " if interrupted else ""
    said = f"{kept}{target}: {result.stop_reason}, {result.seconds:.1f} s{fit}"
    out.print(f"{said}. {noise}" if noise else said, markup=False)


def _check_format(recipe: Recipe, image: Image, target: Path, dtype: str) -> None:
    """Write one pixel of each plane as the result will be written: a format that cannot hold it is refused now."""
    from tempfile import TemporaryDirectory

    import numpy as np

    from napari_fidelity.core.errors import OutputError
    from napari_fidelity.io import write_image
    from napari_fidelity.pipeline.memory import result_sizes

    sizes = {axis: 1 if axis in "YX" else n for axis, n in result_sizes(recipe, image).items()}
    data = np.zeros([*sizes.values()], image.dtype if dtype == "input" else dtype)
    pixel = image.replace(data=data, axes="".join(sizes))
    with TemporaryDirectory() as folder:
        trial = Path(folder) / target.name
        try:
            write_image(pixel, trial)
        except OutputError as error:
            what = error.what.replace(str(trial), str(target))
            raise OutputError(what, found=error.found, do=error.do) from None


def _read_mask(path: str) -> Any:
    from napari_fidelity.core.errors import ImageError
    from napari_fidelity.io import read_image

    image = read_image(path)
    if image.axes != "YX":
        raise ImageError("A mask is a gray 2-D image", found=f"axes {image.axes} in '{path}'")
    largest = float(image.data.max())
    return image.data / largest if largest > 1 else image.data
