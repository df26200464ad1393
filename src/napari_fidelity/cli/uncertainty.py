"""``uncertainty``: how far a restored image can be trusted, as a map and in numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from napari_fidelity.cli._console import INTERRUPTED, OK, display, err, print_json, set_up_logging
from napari_fidelity.cli._judged import Restoration
from napari_fidelity.cli._map_report import print_report
from napari_fidelity.cli._on_file import check_format, check_targets, replayed, write_all
from napari_fidelity.cli._options import METHOD, Formation, Replacing, RunningModel, given, only_own, table_over
from napari_fidelity.core.errors import OptionError, RecipeError
from napari_fidelity.uncertainty import MAPS
from napari_fidelity.uncertainty.deviation import DeviationMap

if TYPE_CHECKING:
    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.step import Result
    from napari_fidelity.methods import Method
    from napari_fidelity.pipeline import Recipe
    from napari_fidelity.uncertainty import Calibration, UncertaintyMap

Kind = Literal["bootstrap", "dropout", "ensemble", "null_space", "residual", "error_map"]

_MAPS = {str(cls.model_fields["kind"].default): cls for cls in MAPS}

Table = table_over(MAPS, leave_out=("kind", "of", "image", "calibration"))


def uncertainty(
    source: Path,
    target: Path,
    /,
    *,
    map: Kind | None = None,
    restored: Path | None = None,
    truth: Path | None = None,
    calibration: Path | None = None,
    options: Annotated[Table, Parameter(name="*", group=METHOD)] = Table(),  # type: ignore[valid-type]
    restoration: Restoration = Restoration(),
    formation: Formation = Formation(),
    running: RunningModel = RunningModel(),
    writing: Replacing = Replacing(),
) -> int:
    """Show where the data support a restored image, and where it was made up.

    For example: napari-fidelity uncertainty lowres.tif map.tif --restored corrected.tif

    Without a restored image: napari-fidelity uncertainty lowres.tif map.tif --map dropout --model edsr-s-x4

    Further images of a map (mean, bias, ends of intervals) are written beside it, with their names.

    Parameters
    ----------
    source
        The measurement: TIFF (plain, ImageJ, OME), PNG or JPEG.
    target
        Where to write the map, a TIFF file.
    map
        bootstrap, the spread of results of measurements like this one (any method); dropout, of the network under
        dropout; ensemble, over seeds, views or models; null_space, what the data cannot verify; residual, what
        the result leaves unexplained; error_map, where it contradicts the data. Left out: the calibration's, or
        bootstrap.
    restored
        The restored image; left out, it is made first. A file that this program wrote knows how it was made.
    truth
        The true image, where it is known: tells how well the map shows the errors.
    calibration
        What the command calibrate wrote: makes intervals that cover --level of the pixels.
    """
    from napari_fidelity.core.step import drain
    from napari_fidelity.io import read_image
    from napari_fidelity.pipeline import map_recipe, run_recipe
    from napari_fidelity.pipeline.report import check_truth

    set_up_logging(quiet=running.silent)
    chosen, method = chosen_map(map, given(options), calibration)
    image = read_image(source, formation.axes, alpha=formation.alpha)
    judged = read_image(restored, alpha=formation.alpha) if restored is not None else None
    true = read_image(truth, alpha=formation.alpha) if truth is not None else None
    base = restoration.recipe(formation, running, judged, method, takes_restored=True)
    recipe = map_recipe(chosen, base)
    check_targets(recipe, [source, restored, truth], target, writing)
    check_format(recipe, image, target, writing.dtype)
    if judged is None:
        with display("restoring", quiet=running.silent, stop=base.stop) as show:
            judged = drain(run_recipe(base, image, device=running.device, trust=running.trust), show).image
        if show.interrupt.requested:
            err.print("The image to judge is not finished; nothing was written.")
            return INTERRUPTED
    if true is not None:
        check_truth(true, judged)  # now, not when the map is made and written
    with display(chosen.title, quiet=running.silent) as show:
        steps = run_recipe(recipe, image, device=running.device, judged=judged, trust=running.trust)
        result = drain(steps, show)
    files = write_all(result, target, writing)
    numbers = report(result, judged, image, true, recipe)
    interrupted = show.interrupt.requested
    if running.json:
        outputs = {"output": str(target), "outputs": {name: str(path) for name, path in files.items()}}
        print_json({**outputs, "interrupted": interrupted, **numbers, **result.provenance})
    else:
        print_report(result, files, numbers, replayed(result), interrupted=interrupted)
    return INTERRUPTED if interrupted else OK


def chosen_map(
    kind: str | None, options: dict[str, Any], calibration: Path | None
) -> tuple[UncertaintyMap, Method | None]:
    """Return the map of that kind with the options that were given, and the method that a calibration is for.

    Raises
    ------
    OptionError
        If it has no such option, or a value is impossible.
    RecipeError
        If the calibration cannot be read.
    """
    if calibration is None:
        kind = kind or "bootstrap"
        only_own(kind, options, _MAPS, "map", "uncertainty")
        return _MAPS[kind](**options), None
    from napari_fidelity.uncertainty import Calibration

    return _calibrated(kind, options, Calibration.read(calibration))


def _calibrated(
    kind: str | None, options: dict[str, Any], calibration: Calibration
) -> tuple[UncertaintyMap, Method]:
    """Return a calibration's own map; options that are given again must be the same, but for the level.

    The method is left open: that of the image is filled in later, and must be the calibration's.
    """
    own = dict(calibration.map)
    name = str(own.pop("kind", ""))
    if not issubclass(_MAPS.get(name, object), DeviationMap):
        raise RecipeError(
            "The calibration names no map of standard deviations",
            found=repr(name),
            do="Give a file that 'napari-fidelity calibrate' wrote",
        )
    if kind not in (None, name):
        raise OptionError(
            f"The calibration belongs to the map {name}", found=f"--map {kind}", do="Leave --map out"
        )
    only_own(name, options, _MAPS, "map", "uncertainty")
    settings = {**own, **options, "calibration": calibration}
    method = _MAPS[name](**settings).of
    return _MAPS[name](**{key: value for key, value in settings.items() if key != "of"}), method


def report(
    result: Result[Image], judged: Image, measurement: Image, truth: Image | None, recipe: Recipe
) -> dict[str, Any]:
    """Return the numbers about the image and its map, by what they are about."""
    from napari_fidelity.pipeline.report import data_report, truth_report

    numbers: dict[str, Any] = {"data": data_report(judged, measurement, recipe)}
    if truth is not None:
        numbers["truth"] = truth_report(result.maps, judged, truth, recipe)
    return numbers
