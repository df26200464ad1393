"""``calibrate``: from measurements with their true images to intervals of a stated coverage."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from napari_fidelity.cli._console import INTERRUPTED, OK, display, err, out, print_json, set_up_logging
from napari_fidelity.cli._judged import Restoration
from napari_fidelity.cli._options import METHOD, RUN, Formation, Running, RunningModel, given, only_own, table_over
from napari_fidelity.core.errors import FidelityError, ImageError, OutputError
from napari_fidelity.uncertainty import MAPS
from napari_fidelity.uncertainty.deviation import DeviationMap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.step import Step
    from napari_fidelity.uncertainty import Calibration

_MAPS = {str(cls.model_fields["kind"].default): cls for cls in MAPS if issubclass(cls, DeviationMap)}
_IMAGES = {".tif", ".tiff", ".png", ".jpg", ".jpeg"}

Table = table_over([*_MAPS.values()], leave_out=("kind", "of", "image", "calibration", "level"))


class _Interrupted(FidelityError):
    """Ctrl-C: half a calibration is none."""


def calibrate(
    measurements: Path,
    truths: Path,
    target: Path,
    /,
    *,
    map: Literal["bootstrap", "dropout", "ensemble"] = "bootstrap",
    level: Annotated[float, Parameter(validator=Number(gt=0, lt=1))] = 0.9,
    options: Annotated[Table, Parameter(name="*", group=METHOD)] = Table(),  # type: ignore[valid-type]
    restoration: Restoration = Restoration(),
    formation: Formation = Formation(),
    running: RunningModel = RunningModel(),
    overwrite: Annotated[bool, Parameter(group=RUN, negative="")] = False,
) -> int:
    """Find what a map must be multiplied with so that its intervals cover a stated share of the pixels.

    For example: napari-fidelity calibrate lowres/ true/ calibration.json --model edsr-s-x4

    Then: napari-fidelity uncertainty lowres.tif map.tif --model edsr-s-x4 --calibration calibration.json

    Every measurement is restored and mapped; that takes a while. The images must be like those the calibration is
    for, and not those the network was trained on: 9 or more for intervals of 90 %, 20 or more are better.

    Parameters
    ----------
    measurements
        Folder of measurements.
    truths
        Folder of their true images, on the grid of the restored ones and in the measurements' units, with the same
        names (extensions may differ).
    target
        Where to write the calibration, a .json file.
    map
        The map of standard deviations that the calibration is for.
    level
        Coverage that the table shows; the file serves every level.
    """
    from napari_fidelity.io import check_output
    from napari_fidelity.pipeline.calibration import calibrate_images

    set_up_logging(quiet=running.silent)
    if target.suffix.lower() != ".json":
        raise OutputError("A calibration is a .json file", found=f"'{target}'", do="Give it a name such as c.json")
    check_output(target, overwrite=overwrite)
    only_own(map, given(options), _MAPS, "map", "calibrate")
    files = matched(measurements, truths)
    recipe = restoration.recipe(formation, running)
    chosen = _MAPS[map](**given(options))
    with display(f"{len(files)} images", quiet=running.silent) as show:

        def look(step: Step[Image]) -> None:
            if show(step):
                raise _Interrupted("Interrupted; nothing was written")

        try:
            found = calibrate_images(
                _read(files, formation), chosen, recipe, device=running.device, trust=running.trust, on_step=look
            )
        except _Interrupted as error:
            err.print(str(error))
            return INTERRUPTED
    found.save(target, overwrite=overwrite)
    _report(found, target, level, running)
    return OK


def matched(measurements: Path, truths: Path) -> list[tuple[Path, Path]]:
    """Return measurements with their true images: those of the same name.

    Raises
    ------
    ImageError
        If a folder is missing or empty, names do not match, or two files of a folder have the same.
    """
    sides = []
    for folder in (measurements, truths):
        if not folder.is_dir():
            raise ImageError(f"There is no folder '{folder}'", do="Give a folder of images")
        sides.append(_by_name(folder))
    lonely = sorted(sides[0].keys() ^ sides[1].keys())
    if lonely or not sides[0]:
        raise ImageError(
            "Every measurement needs a true image of the same name",
            found=f"only one of {', '.join(lonely[:5])}" if lonely else "no images",
            do=f"Check '{measurements}' and '{truths}'",
        )
    return [(path, sides[1][name]) for name, path in sides[0].items()]


def _by_name(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by their names without extension, of which ``.ome`` is a part."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in _IMAGES:
            continue
        name = re.sub(r"\.ome$", "", path.stem, flags=re.IGNORECASE)
        if name in found:
            raise ImageError(
                f"Two images in '{folder}' have the same name",
                found=f"'{found[name].name}' and '{path.name}'",
                do="Take one of them out",
            )
        found[name] = path
    return found


def _read(files: list[tuple[Path, Path]], formation: Formation) -> Iterator[tuple[Image, Image]]:
    from napari_fidelity.io import read_image

    for pair in files:
        first, second = (read_image(path, formation.axes, alpha=formation.alpha) for path in pair)
        yield first, second


def _report(found: Calibration, target: Path, level: float, running: Running) -> None:
    coverage = found.cross_fit(level)
    factor, mean = found.factor(level), float(coverage.mean())
    guaranteed = found.guaranteed(level)
    if running.json:
        numbers = {"level": level, "factor": factor, "guaranteed": guaranteed, "images": found.count}
        print_json({"output": str(target), **numbers, "coverage": None if mean != mean else mean})
        return
    each = "" if mean != mean else f"; each left out once: {100 * mean:.1f} % ({100 * coverage.std():.1f}) covered"
    said = f"{target}: {found.count} images; for {100 * level:g} %, {factor:.3g} standard deviations{each}"
    out.print(said, markup=False)
    if not guaranteed:
        needed = round(level / (1 - level) + 0.4999)
        out.print(f"Nothing is guaranteed with so few: {100 * level:g} % needs {needed} images or more.")
