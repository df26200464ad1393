"""``correct`` and ``project``: a measurement in, an image that answers to it out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from napari_fidelity.cli._console import set_up_logging
from napari_fidelity.cli._files import read_operator
from napari_fidelity.cli._judged import downsampling_of
from napari_fidelity.cli._on_file import run_recipe_on_file
from napari_fidelity.cli._options import METHOD, Formation, Running, RunningModel, Writing, given, table_of
from napari_fidelity.core.options import Options
from napari_fidelity.methods import FineTune, Project

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
    running: RunningModel = RunningModel(),
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
        Id of a model (see the command models) or a model file.
    scale
        Adapt a model trained for another scale to this one. Left out: to that of --operator.
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
    running: RunningModel = RunningModel(),
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
        Id of a model (see the command models) or a model file.
    scale
        Adapt a model trained for another scale to this one. Left out: to that of --operator.
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
    from napari_fidelity.io import check_output
    from napari_fidelity.operators import parse_noise
    from napari_fidelity.pipeline import ModelReference, Recipe
    from napari_fidelity.stopping import parse_stop

    set_up_logging(quiet=running.silent)
    check_output(target, overwrite=writing.overwrite)
    reference = ModelReference(name=model, scale=scale)
    operator = (
        read_operator(formation.operator)
        if formation.operator
        else downsampling_of(reference, trust=running.trust)
    )
    noise = parse_noise(formation.noise) if formation.noise else None
    recipe = Recipe(
        operator=operator,
        noise=noise,
        method=method,
        stop=parse_stop(stop) if stop else None,
        model=reference,
        seed=running.seed or 0,
        **formation.recipe_fields(),
    )
    return run_recipe_on_file(recipe, source, target, running, writing, axes=formation.axes, alpha=formation.alpha)


def _read_mask(path: str) -> Any:
    """Return the weights in a file: those that a map stands for, or the values themselves, of 1 at most."""
    import numpy as np

    from napari_fidelity.core.errors import ImageError, NonFiniteError
    from napari_fidelity.io import read_image
    from napari_fidelity.uncertainty.mask import mask_from

    image = read_image(path)
    output = image.metadata.get("napari-fidelity", {}).get("output", {})
    if output.get("quantity", "intensity") != "intensity":
        size = np.abs(image.data)
        # the colours of a pixel have one weight together
        return mask_from(np.sqrt(np.square(size).mean(axis=image.axes.index("S"))) if "S" in image.axes else size)
    if "S" in image.axes:
        raise ImageError("A mask is a gray image", found=f"axes {image.axes} in '{path}'", do="Make it gray")
    if not np.isfinite(image.data).all():
        raise NonFiniteError("A mask holds numbers", found=f"NaN or infinity in '{path}'", do="Set them to 0")
    largest = float(image.data.max())
    return image.data / largest if largest > 1 else image.data
